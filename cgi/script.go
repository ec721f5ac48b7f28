package cgi

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/params"
	"github.com/gatehouse-go/gatehouse/internal/proc"
)

// A script is the program for a request.
type script struct {
	file  string // its path on this machine
	name  string // its path below Root, "" if Path names it
	found bool   // in PATH_INFO: name and info replace what the request says
	info  string // the path after the script
}

var errNoScript = errors.New("no Path and no Root")

// stillThere checks again, after the wait for a place among MaxProcs, that the script is the one
// that was found.
func (c *Client) stillThere(j *job) error {
	if c.Path != "" {
		return nil
	}
	now, err := c.script(j.r)
	if err == nil && now != j.script {
		err = fmt.Errorf("cgi: another script in the path: %w", fs.ErrNotExist)
	}
	return err
}

// script finds the program for r.
func (c *Client) script(r *gateway.Request) (script, error) {
	switch {
	case c.Path != "":
		return script{file: c.path}, nil
	case c.root == "":
		return script{}, fmt.Errorf("cgi: %w", errNoScript)
	}
	open := openDir(c.root, c.FollowLinks)
	root, err := open()
	if err != nil {
		return script{}, fmt.Errorf("cgi: Root: %v", err) // not the request's error, so not fs.ErrNotExist
	}
	defer root.Close()
	if name := r.ScriptFilename(); name != "" {
		return c.named(root, name)
	}
	return c.search(root, r.PathInfo())
}

// A dir is a folder whose files can be examined.
type dir interface {
	Stat(name string) (fs.FileInfo, error)
	Close() error
}

// openDir opens a folder. No link leads out of it, unless links are followed.
func openDir(root string, follow bool) func() (dir, error) {
	if follow {
		return func() (dir, error) { return anywhere(root), nil }
	}
	return func() (dir, error) { return os.OpenRoot(root) } // rule F40
}

// anywhere is a folder that links may lead out of.
type anywhere string

func (a anywhere) Stat(name string) (fs.FileInfo, error) {
	return os.Stat(filepath.Join(string(a), filepath.FromSlash(name)))
}

func (a anywhere) Close() error { return nil }

// named returns the script that SCRIPT_FILENAME names. It must be below Root.
func (c *Client) named(root dir, name string) (script, error) {
	rel, err := filepath.Rel(c.root, filepath.FromSlash(name))
	if err != nil || !filepath.IsLocal(rel) {
		return script{}, fmt.Errorf("cgi: SCRIPT_FILENAME is not below Root: %w", fs.ErrNotExist)
	}
	rel = filepath.ToSlash(rel)
	if err := runnable(root, rel); err != nil {
		return script{}, err
	}
	return script{file: filepath.Join(c.root, rel), name: "/" + rel}, nil
}

// search returns the first file that a path names, element by element. The rest of the path is
// PATH_INFO.
func (c *Client) search(root dir, info string) (script, error) {
	for end := 1; end < len(info) && info[0] == '/'; {
		next := strings.IndexByte(info[end:], '/')
		if next < 0 {
			next = len(info) - end
		}
		end += next
		name := info[:end]
		if path.Clean(name) != name || strings.ContainsAny(name, "\\\x00") {
			break // "..", "//"
		}
		fi, err := root.Stat(name[1:])
		if err != nil {
			break
		}
		if !fi.IsDir() {
			if err := runnable(root, name[1:]); err != nil {
				return script{}, err
			}
			return script{file: filepath.Join(c.root, filepath.FromSlash(name)), name: name, found: true, info: info[end:]}, nil
		}
		end++
	}
	return script{}, fmt.Errorf("cgi: no script in the path: %w", fs.ErrNotExist)
}

// runnable checks that a file below root may be run.
func runnable(root dir, name string) error {
	fi, err := root.Stat(name)
	switch {
	case err != nil:
		return fmt.Errorf("cgi: script: %w", fs.ErrNotExist)
	case !fi.Mode().IsRegular():
		return fmt.Errorf("cgi: script: %w", fs.ErrNotExist)
	case proc.Groups && fi.Mode()&0o111 == 0: // on other systems the mode says nothing
		return fmt.Errorf("cgi: script: %w", fs.ErrPermission)
	}
	return nil
}

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

// arguments returns the words of the query that become arguments, section 4.4: of GET and HEAD,
// from a query without "=". There are none if one of them could be taken for an option (F23) or
// cannot be decoded.
func (c *Client) arguments(r *gateway.Request) []string {
	method, query := r.Method(), r.Query()
	if !c.QueryArgs || method != "GET" && method != "HEAD" || query == "" || strings.Contains(query, "=") {
		return nil
	}
	var args []string
	for word := range strings.SplitSeq(query, "+") {
		arg, err := url.PathUnescape(word)
		if err != nil || arg == "" || arg[0] == '-' || arg[0] == ' ' || !argument(arg) { // rule F23
			return nil
		}
		args = append(args, arg)
	}
	return args
}

// argument reports whether s is printable ASCII, which no program takes for anything else. php-cgi
// on Windows once took a byte over 0x7f for "-".
func argument(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
