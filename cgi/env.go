package cgi

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/params"
)

// environ returns the environment of a script.
func (c *Client) environ(r *gateway.Request, s script) ([]string, error) {
	body, length := params.Body(r.Body, r.ContentLength)
	head, err := params.NewHead((*pairs.List)(&r.Params), c.env, body, length)
	if err != nil {
		return nil, fmt.Errorf("cgi: %w", err)
	}
	env := make([]string, 0, r.Params.Len()+8)
	for name, value, ok := head.Next(); ok; name, value, ok = head.Next() {
		if c.env.FindBytes(name) < 0 && (!c.passed(string(name)) || s.replaces(name)) {
			continue
		}
		env = append(env, string(name)+"="+string(value))
	}
	env = append(env, c.scriptEnv(r, s)...)
	return c.inherit(env), nil
}

// replaces reports whether the param is replaced by what is known about the script.
func (s *script) replaces(name []byte) bool {
	switch string(name) {
	case "GATEWAY_INTERFACE":
		return true
	case "SCRIPT_NAME", "PATH_INFO", "PATH_TRANSLATED", "SCRIPT_FILENAME":
		return s.found
	}
	return false
}

// scriptEnv returns the variables that describe the script.
func (c *Client) scriptEnv(r *gateway.Request, s script) (env []string) {
	add := func(name, value string) {
		if c.env.FindBytes([]byte(name)) < 0 {
			env = append(env, name+"="+value)
		}
	}
	add("GATEWAY_INTERFACE", "CGI/1.1")
	if _, sent := r.Params.Lookup("REDIRECT_STATUS"); !sent {
		add("REDIRECT_STATUS", "200") // php-cgi refuses requests without it: cgi.force_redirect
	}
	if !s.found {
		if _, sent := r.Params.Lookup("SCRIPT_FILENAME"); !sent {
			add("SCRIPT_FILENAME", s.file)
		}
		return env
	}
	add("SCRIPT_NAME", r.ScriptName()+s.name)
	add("PATH_INFO", s.info)
	add("SCRIPT_FILENAME", s.file)
	if s.info != "" {
		add("PATH_TRANSLATED", filepath.Join(c.root, filepath.FromSlash(path.Clean(s.info)))) // section 4.1.6
	}
	return env
}

// inherit adds the variables that are taken from this process. Variables that are configured or
// computed are kept (F43).
func (c *Client) inherit(env []string) []string {
	for _, name := range append([]string{"PATH"}, c.InheritEnv...) {
		value, ok := os.LookupEnv(name)
		computed := slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		if ok && !computed {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// passed reports whether a request param may be a variable of the program. The list is of what may,
// and not of what may not: no list of the names that change what a loader, an interpreter, a shell
// or a library does would be complete.
func (c *Client) passed(name string) bool {
	switch {
	case authorization(name):
		return c.PassAuthorization || slices.Contains(c.PassParams, name) // rule F57
	case slices.Contains(c.PassParams, name):
		return true
	case strings.HasPrefix(name, "SSL_CERT_"): // OpenSSL's own
		return false
	case !variable(name):
		return false
	}
	known := slices.Contains(metaVariables, name) // rule F56
	return known || slices.ContainsFunc(metaPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// authorization reports whether a param has the password of the client, also as Apache names it
// after an internal redirect.
func authorization(name string) bool {
	for {
		rest, found := strings.CutPrefix(name, "REDIRECT_")
		if !found {
			return name == "HTTP_AUTHORIZATION" || name == "HTTP_PROXY_AUTHORIZATION"
		}
		name = rest
	}
}

// variable reports whether name is one that shells accept.
func variable(name string) bool {
	for i := range len(name) {
		if b := name[i]; !('A' <= b && b <= 'Z' || b == '_' || '0' <= b && b <= '9' && i > 0) {
			return false
		}
	}
	return true
}

// The params that are passed: those of RFC 3875, and what web servers send besides.
var (
	metaVariables = []string{"AUTH_TYPE", "GATEWAY_INTERFACE", "HTTPS", "PATH_INFO", "PATH_TRANSLATED", "QUERY_STRING"}
	metaPrefixes  = []string{"CONTENT_", "DOCUMENT_", "HTTP_", "REDIRECT_", "REMOTE_", "REQUEST_", "SCRIPT_", "SERVER_", "SSL_"}
)
