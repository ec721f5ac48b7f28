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
		if c.env.FindBytes(name) < 0 && (!passed(name) || s.replaces(name)) {
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
	if !s.found {
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

// passed reports whether a request param may be a variable of a program: its name is that of a
// variable, and does not influence what runs before the program.
func passed(name []byte) bool {
	for i, b := range name {
		if !('A' <= b && b <= 'Z' || b == '_' || '0' <= b && b <= '9' && i > 0) {
			return false
		}
	}
	s := string(name)
	for _, p := range reserved {
		if s == p || strings.HasSuffix(p, "*") && strings.HasPrefix(s, p[:len(p)-1]) {
			return false
		}
	}
	return true
}

// reserved holds the names that influence a loader, a shell, an interpreter or git.
var reserved = []string{
	"PATH", "HOME", "IFS", "ENV", "CDPATH", "SHELL", "SHELLOPTS", "PS4", "FPATH", "ZDOTDIR", "PROMPT_COMMAND", "BASH*",
	"TMP", "TMPDIR", "TEMP", "TEMPDIR", "LD_*", "DYLD_*", "GCONV_PATH", "GETCONF_DIR", "GLIBC_*", "MALLOC_*", "LOCPATH", "NLSPATH",
	"HOSTALIASES", "LOCALDOMAIN", "RES_OPTIONS", "RESOLV_*", "TZDIR", "TERMINFO*", "XDG_*", "DBUS_*", "NOTIFY_SOCKET", "LISTEN_*",
	"GIT_*", "SSH_*", "PAGER", "EDITOR", "VISUAL", "BROWSER", "LESS*", "EXINIT", "AWK*", "CURL_*", "WGETRC", "OPENSSL_*", "SSLKEYLOGFILE",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY", "FCGI_*",
	"PYTHON*", "PERL*", "RUBY*", "GEM_*", "BUNDLE_*", "NODE_*", "NPM_*", "PHPRC", "PHP_INI_SCAN_DIR", "LUA_*", "TCL*", "R_*", "ERL_*", "ELIXIR_*",
	"JAVA_*", "JDK_*", "_JAVA_*", "CLASSPATH", "DOTNET_*", "MONO_*", "GODEBUG", "GOTRACEBACK", "GOMAXPROCS", "GOGC", "GOMEMLIMIT",
}
