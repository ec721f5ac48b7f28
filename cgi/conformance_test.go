//go:build unix

package cgi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

func get(target string) *gateway.Request { return gatewaytest.NewRequest("GET", target, nil) }

// environment asks a script for its environment.
func environment(t *testing.T, c *cgi.Client, r *gateway.Request) map[string]string {
	t.Helper()
	o := conformance.Ask(t, c, r)
	if o.Err != nil {
		t.Fatal(o.Err)
	}
	env := make(map[string]string)
	for line := range strings.SplitSeq(o.Body, "\x00") {
		if name, value, ok := strings.Cut(line, "="); ok {
			env[name] = value
		}
	}
	return env
}

const printEnv = "printf 'Content-Type: text/plain\\r\\n\\r\\n'; env -0\n"

// alive reports whether a process runs. This process cannot wait for one that has ended and has another parent.
func alive(pid int) bool {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return syscall.Kill(pid, 0) == nil && !strings.Contains(string(stat), ") Z ")
}

// gone waits until a process has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	for range 1000 {
		if !alive(pid) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %d still runs", pid)
}

// TestClientConformance is items 215 to 232.
func TestClientConformance(t *testing.T) {
	t.Run("a built environment [215 F39]", func(t *testing.T) {
		t.Setenv("GATEHOUSE_SECRET", "host")
		t.Setenv("GATEHOUSE_WANTED", "inherited")
		c := shell(t, printEnv)
		c.InheritEnv = []string{"GATEHOUSE_WANTED", "GATEHOUSE_MISSING"}
		c.Env = []string{"OWN=1", "SERVER_NAME=configured"}
		env := environment(t, c, get("/a?b"))
		for name := range env {
			switch name {
			case "GATEWAY_INTERFACE", "SERVER_SOFTWARE", "SERVER_PROTOCOL", "SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR", "REQUEST_METHOD", "REQUEST_URI",
				"SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "CONTENT_LENGTH", "PATH", "GATEHOUSE_WANTED", "OWN", "PWD", "SHLVL", "_", "OLDPWD":
			default:
				t.Errorf("%s=%s", name, env[name])
			}
		}
		if env["GATEHOUSE_WANTED"] != "inherited" || env["OWN"] != "1" || env["SERVER_NAME"] != "configured" || env["PATH"] != os.Getenv("PATH") || env["QUERY_STRING"] != "b" || env["PATH_INFO"] != "/a" {
			t.Errorf("%v", env)
		}
	})
	t.Run("names that mean something before the program runs [216 217 F1 F11]", func(t *testing.T) {
		r := get("/")
		names := []string{"LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "IFS", "HOME", "BASH_ENV", "BASH_FUNC_x", "ENV", "GIT_DIR", "GIT_PROJECT_ROOT",
			"PYTHONPATH", "PERL5OPT", "PERL5LIB", "NODE_OPTIONS", "HTTP_PROXY", "lower", "HTTP_X.Y", "A-B", "1A", "SHELLOPTS", "RUBYOPT", "DYLD_INSERT_LIBRARIES"}
		for _, name := range names {
			r.Params.Set(name, "request")
		}
		r.Params.Set("SSL_CLIENT_S_DN", "passed")
		c := shell(t, printEnv)
		c.Env = []string{"GIT_PROJECT_ROOT=configured", "HOME=configured"}
		env := environment(t, c, r)
		for _, name := range names {
			if env[name] == "request" {
				t.Errorf("%s reaches the program", name)
			}
		}
		if env["SSL_CLIENT_S_DN"] != "passed" || env["GIT_PROJECT_ROOT"] != "configured" || env["HOME"] != "configured" {
			t.Errorf("%v", env)
		}
		r = get("/")
		r.Params.Set("HTTP_X", "\x00")
		if o := conformance.Ask(t, c, r); !errors.Is(o.Err, gateway.ErrParam) {
			t.Errorf("216 NUL: %v", o.Err)
		}
	})
	t.Run("arguments [218 F23]", func(t *testing.T) {
		args := func(c *cgi.Client, method, query string) string {
			r := gatewaytest.NewRequest(method, "/", nil)
			r.Params.Set("QUERY_STRING", query)
			o := conformance.Ask(t, c, r)
			if o.Err != nil {
				t.Fatal(o.Err)
			}
			return o.Body
		}
		c := shell(t, `printf 'X: 1\r\n\r\n'; for a; do printf '[%s]' "$a"; done`+"\n")
		c.Args = []string{"fixed"}
		if got := args(c, "GET", "a+b"); got != "[fixed]" {
			t.Errorf("off: %s", got)
		}
		c = &cgi.Client{Path: c.Path, QueryArgs: true}
		for _, q := range []struct{ method, query, want string }{
			{"GET", "a+b%20c+;rm", "[a][b c][;rm]"}, {"HEAD", "a", "[a]"}, {"POST", "a", ""}, {"GET", "a=b", ""}, {"GET", "a+b=c", ""}, {"GET", "", ""},
			{"GET", "-s", ""}, {"GET", "a+-d", ""}, {"GET", "%2Ds", ""}, {"GET", "%ADd", ""}, {"GET", "a%00", ""}, {"GET", "%zz", ""}, {"GET", "a%3Db", "[a=b]"},
		} {
			if got := args(c, q.method, q.query); got != q.want {
				t.Errorf("%s %q: %s", q.method, q.query, got)
			}
		}
	})
	t.Run("no shell [219 F43]", func(t *testing.T) {
		dir := t.TempDir()
		name := "a; touch evil; $(touch evil)"
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+printEnv), 0o755); err != nil {
			t.Fatal(err)
		}
		env := environment(t, &cgi.Client{Root: dir}, get("/a;%20touch%20evil;%20$(touch%20evil)"))
		if env["SCRIPT_NAME"] != "/"+name {
			t.Errorf("%v", env)
		}
		if _, err := os.Stat(filepath.Join(dir, "evil")); err == nil {
			t.Error("a shell has run")
		}
	})
	t.Run("the input ends with the body [220]", func(t *testing.T) {
		c := shell(t, "printf 'X: 1\\r\\n\\r\\n'; cat; echo; echo \"$CONTENT_LENGTH\"\n")
		for body, want := range map[string]string{"": "\n0\n", "hello": "hello\n5\n"} {
			if o := conformance.Ask(t, c, gatewaytest.NewRequest("POST", "/", []byte(body))); o.Err != nil || o.Body != want {
				t.Errorf("%q, %v", o.Body, o.Err)
			}
		}
	})
	t.Run("the working directory [221]", func(t *testing.T) {
		c := shell(t, "printf 'X: 1\\r\\n\\r\\n'; pwd -P\n")
		own, _ := filepath.EvalSymlinks(filepath.Dir(c.Path))
		other, _ := filepath.EvalSymlinks(t.TempDir())
		if o := conformance.Ask(t, c, get("/")); o.Err != nil || o.Body != own+"\n" {
			t.Errorf("%q, %v", o.Body, o.Err)
		}
		c = &cgi.Client{Path: c.Path, Dir: other}
		if o := conformance.Ask(t, c, get("/")); o.Err != nil || o.Body != other+"\n" {
			t.Errorf("%q, %v", o.Body, o.Err)
		}
	})
	t.Run("a script that does not read its input [222]", func(t *testing.T) {
		c := shell(t, "exec <&-; printf 'X: 1\\r\\n\\r\\nnot read'\n")
		for range 5 {
			if o := conformance.Ask(t, c, gatewaytest.NewRequest("POST", "/", make([]byte, 1<<20))); o.Err != nil || o.Body != "not read" {
				t.Errorf("%q, %v", o.Body, o.Err)
			}
		}
	})
	t.Run("a head without end, and its program [223 257]", func(t *testing.T) {
		pid := filepath.Join(t.TempDir(), "pid")
		c := shell(t, "echo $$ > '"+pid+"'; while :; do echo 'X: 0123456789012345678901234567890123456789'; done\n")
		if o := conformance.Ask(t, c, get("/")); !errors.Is(o.Err, gateway.ErrTooLarge) || gateway.ErrorStatus(o.Err) != 502 {
			t.Errorf("got %v", o.Err)
		}
		gone(t, readPid(t, pid))
	})
	t.Run("STDERR [224 F7]", func(t *testing.T) {
		var mu sync.Mutex
		var lines []string
		total := 0
		c := shell(t, "printf 'one\\n\\033[31mtwo\\n' >&2; i=0; while [ $i -lt 3000 ]; do echo 01234567890123456789012345678901234567890123456789 >&2; i=$((i+1)); done; printf 'X: 1\\r\\n\\r\\nsaid'\n")
		c.Stderr = func(_ context.Context, line []byte) {
			mu.Lock()
			defer mu.Unlock()
			lines = append(lines, string(line))
			total += len(line) + 1
		}
		o := conformance.Ask(t, c, get("/"))
		mu.Lock()
		defer mu.Unlock()
		if o.Err != nil || o.Body != "said" || len(lines) < 2 || lines[0] != "one" || lines[1] != `\x1b[31mtwo` || total > 64<<10+100 || total < 60<<10 {
			t.Errorf("%q, %v, %d lines, %d bytes", o.Body, o.Err, len(lines), total)
		}
	})
	t.Run("a context that ends [225 F33]", func(t *testing.T) {
		dir := t.TempDir()
		for name, trap := range map[string]string{"terminated": "", "killed": "trap '' TERM; "} {
			file := filepath.Join(dir, name)
			c := shell(t, trap+"(sleep 60) & echo $! > '"+file+".child'; echo $$ > '"+file+"'; printf 'X: 1\\r\\n\\r\\nbegun'; while :; do sleep 0.1; done\n")
			c.Grace = 100 * time.Millisecond
			ctx, cancel := context.WithCancel(t.Context())
			var res gateway.Response
			if err := c.RoundTrip(ctx, get("/"), &res); err != nil {
				t.Fatal(err)
			}
			io.ReadFull(res.Body, make([]byte, 5))
			cancel()
			if _, err := res.Body.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", name, err)
			}
			res.Body.Close()
			gone(t, readPid(t, file))
			gone(t, readPid(t, file+".child"))
		}
	})
	t.Run("exit statuses [226]", func(t *testing.T) {
		c := shell(t, "printf 'X: 1\\r\\n\\r\\nbody'; exit 3\n")
		if o := conformance.Ask(t, c, get("/")); o.Err != nil || o.Body != "body" || o.Res.AppStatus != 3 {
			t.Errorf("%q %d, %v", o.Body, o.Res.AppStatus, o.Err)
		}
		c = shell(t, "exit 3\n")
		if o := conformance.Ask(t, c, get("/")); !errors.Is(o.Err, gateway.ErrNoResponse) || !strings.Contains(o.Err.Error(), "exit status 3") {
			t.Errorf("got %v", o.Err)
		}
		c = shell(t, "printf 'X: 1\\r\\n\\r\\nbody'; kill -9 $$\n")
		if o := conformance.Ask(t, c, get("/")); !errors.Is(o.Err, gateway.ErrTruncated) {
			t.Errorf("a script that was killed: %q, %v", o.Body, o.Err)
		}
	})
	t.Run("a grandchild that holds the output [227]", func(t *testing.T) {
		pid := filepath.Join(t.TempDir(), "pid")
		c := shell(t, "sleep 60 & echo $! > '"+pid+"'; printf 'X: 1\\r\\n\\r\\nbody'\n")
		c.Grace = 50 * time.Millisecond
		o := conformance.Ask(t, c, get("/"))
		if o.Err != nil || o.Body != "body" {
			t.Errorf("%q, %v", o.Body, o.Err)
		}
		syscall.Kill(readPid(t, pid), syscall.SIGKILL)
	})
	t.Run("a script that closes its output and goes on", func(t *testing.T) {
		pid := filepath.Join(t.TempDir(), "pid")
		c := shell(t, "echo $$ > '"+pid+"'; printf 'X: 1\\r\\n\\r\\nbody'; exec >&- 2>&-; while :; do sleep 0.1; done\n")
		c.Grace = 50 * time.Millisecond
		if o := conformance.Ask(t, c, get("/")); o.Err != nil || o.Body != "body" {
			t.Errorf("%q, %v", o.Body, o.Err)
		}
		gone(t, readPid(t, pid))
	})
	t.Run("NPH [231]", func(t *testing.T) {
		dir := t.TempDir()
		for name, head := range map[string]string{"nph-a": "HTTP/1.1 404 Odd\\r\\nX: 1\\r\\n\\r\\nb", "nph-b": "Status: 404\\r\\n\\r\\nb", "c": "HTTP/1.1 404 Odd\\r\\nX: 1\\r\\n\\r\\nb"} {
			os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\nprintf '"+head+"'\n"), 0o755)
		}
		for _, c := range []struct {
			nph    bool
			path   string
			status int
		}{{false, "/nph-a", 0}, {false, "/nph-b", 404}, {true, "/nph-a", 404}, {true, "/nph-b", 0}, {true, "/c", 0}} {
			o := conformance.Ask(t, &cgi.Client{Root: dir, NPH: c.nph}, get(c.path))
			if o.Res.Status != c.status || c.status == 0 && !errors.Is(o.Err, gateway.ErrMalformed) {
				t.Errorf("%+v: %d, %v", c, o.Res.Status, o.Err)
			}
		}
	})
	t.Run("plain text [232]", func(t *testing.T) {
		if o := conformance.Ask(t, shell(t, "echo just text\n"), get("/")); o.Err == nil {
			t.Errorf("%d %q", o.Res.Status, o.Body)
		}
	})
	t.Run("Timeout", func(t *testing.T) {
		c := shell(t, "printf 'X: 1\\r\\n\\r\\nbegun'; sleep 60\n")
		c.Timeout, c.Grace = 50*time.Millisecond, 50*time.Millisecond
		o := conformance.Ask(t, c, get("/"))
		if e, ok := errors.AsType[*gateway.Error](o.Err); !ok || !e.Timeout() || gateway.ErrorStatus(e) != 504 || o.Body != "begun" {
			t.Errorf("%q, %v", o.Body, o.Err)
		}
	})
	t.Run("MaxProcs", func(t *testing.T) {
		c := shell(t, "printf 'X: 1\\r\\n\\r\\n'; cat\n")
		c.MaxProcs = 1
		var res gateway.Response
		r := get("/")
		pr, pw := io.Pipe()
		r.Body, r.ContentLength = pr, 1
		if err := c.RoundTrip(t.Context(), r, &res); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := c.RoundTrip(ctx, get("/"), new(gateway.Response)); gateway.ErrorStatus(err) != 503 {
			t.Errorf("got %v", err)
		}
		pw.Write([]byte("x"))
		pw.Close()
		io.ReadAll(res.Body)
		res.Body.Close()
		if o := conformance.Ask(t, c, get("/")); o.Err != nil {
			t.Error(o.Err)
		}
		if s := c.Stats(); s.Dialed != 2 || s.InFlight != 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("Prepare has the last word", func(t *testing.T) {
		c := shell(t, "printf 'X: 1\\r\\n\\r\\n'; printf %s \"$ADDED\"\n")
		c.Prepare = func(_ context.Context, cmd *exec.Cmd, r *gateway.Request) error {
			cmd.Env = append(cmd.Env, "ADDED="+r.Query())
			return nil
		}
		if o := conformance.Ask(t, c, get("/?yes")); o.Err != nil || o.Body != "yes" {
			t.Errorf("%q, %v", o.Body, o.Err)
		}
		stop := errors.New("stop")
		c.Prepare = func(context.Context, *exec.Cmd, *gateway.Request) error { return stop }
		if o := conformance.Ask(t, c, get("/")); !errors.Is(o.Err, stop) {
			t.Errorf("got %v", o.Err)
		}
	})
}

func readPid(t *testing.T, file string) (pid int) {
	t.Helper()
	for range 100 {
		if b, err := os.ReadFile(file); err == nil {
			if n, _ := fmt.Sscan(string(b), &pid); n == 1 {
				return pid
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("no process number in %s", file)
	return 0
}

// TestScripts finds scripts below a root.
func TestScripts(t *testing.T) {
	base := t.TempDir()
	root := filepath.Join(base, "root")
	write := func(name string, mode fs.FileMode) {
		path := filepath.Join(base, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+printEnv), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("outside.sh", 0o755)
	write("root/a.sh", 0o755)
	write("root/dir/b.sh", 0o755)
	write("root/plain.txt", 0o644)
	os.Symlink("../outside.sh", filepath.Join(root, "link.sh"))
	os.Symlink("a.sh", filepath.Join(root, "inside.sh"))
	c := &cgi.Client{Root: root}
	for path, want := range map[string][3]string{
		"/a.sh":             {"/a.sh", "", root + "/a.sh"},
		"/a.sh/x/y":         {"/a.sh", "/x/y", root + "/a.sh"},
		"/a.sh/../dir/b.sh": {"/a.sh", "/../dir/b.sh", root + "/a.sh"},
		"/dir/b.sh/":        {"/dir/b.sh", "/", root + "/dir/b.sh"},
		"/inside.sh":        {"/inside.sh", "", root + "/inside.sh"},
	} {
		env := environment(t, c, get(path))
		if got := [3]string{env["SCRIPT_NAME"], env["PATH_INFO"], env["SCRIPT_FILENAME"]}; got != want {
			t.Errorf("%s: %q", path, got)
		}
		if _, ok := env["PATH_TRANSLATED"]; ok != (want[1] != "") || strings.Contains(env["PATH_TRANSLATED"], "..") {
			t.Errorf("034 %s: PATH_TRANSLATED %q", path, env["PATH_TRANSLATED"])
		}
	}
	for path, want := range map[string]int{
		"/nowhere": 404, "/": 404, "/dir": 404, "/dir/": 404, "/plain.txt": 403, "/link.sh": 404, "/../outside.sh": 404, "/dir/../../outside.sh": 404,
		"//a.sh": 404, "/dir//b.sh": 404, "../outside.sh": 404, "xa.sh": 404, "a.sh": 404, "/./a.sh": 404, "/dir\\b.sh": 404, "": 404,
	} {
		t.Run(path+" [049 F40]", func(t *testing.T) {
			r := get("/")
			r.Params.Set("PATH_INFO", path)
			if o := conformance.Ask(t, c, r); gateway.ErrorStatus(o.Err) != want {
				t.Errorf("%d, %v", gateway.ErrorStatus(o.Err), o.Err)
			}
		})
	}
	named := func(c *cgi.Client, name string) error {
		r := get("/info")
		r.Params.Set("SCRIPT_FILENAME", name)
		return conformance.Ask(t, c, r).Err
	}
	for name, want := range map[string]error{
		root + "/a.sh": nil, "proxy:fcgi://h:1" + root + "/a.sh?q": nil, root + "/../outside.sh": fs.ErrNotExist, base + "/outside.sh": fs.ErrNotExist,
		"/bin/sh": fs.ErrNotExist, root + "/link.sh": fs.ErrNotExist, root + "/plain.txt": fs.ErrPermission, root + "/dir": fs.ErrNotExist, root: fs.ErrNotExist,
	} {
		if err := named(c, name); !errors.Is(err, want) {
			t.Errorf("SCRIPT_FILENAME %s: %v", name, err)
		}
	}
	loose := &cgi.Client{Root: root, FollowLinks: true}
	if env := environment(t, loose, get("/link.sh")); env["SCRIPT_NAME"] != "/link.sh" {
		t.Errorf("%v", env)
	}
	if o := conformance.Ask(t, loose, get("/../outside.sh")); gateway.ErrorStatus(o.Err) != 404 {
		t.Errorf("%v", o.Err)
	}
	for _, c := range []*cgi.Client{{}, {Root: base + "/missing"}, {Path: base + "/missing"}} {
		if o := conformance.Ask(t, c, get("/a.sh")); o.Err == nil || gateway.ErrorStatus(o.Err) < 500 {
			t.Errorf("%+v: %v is a %d", c.Root, o.Err, gateway.ErrorStatus(o.Err))
		}
	}
	// A root that is relative.
	t.Chdir(base)
	if env := environment(t, &cgi.Client{Root: "root"}, get("/a.sh")); !filepath.IsAbs(env["SCRIPT_FILENAME"]) {
		t.Errorf("%v", env)
	}
}

// TestServerConformance is items 233 to 237.
func TestServerConformance(t *testing.T) {
	t.Run("no CGI [233]", func(t *testing.T) {
		out, _, err := run(t, "echo", "", "REQUEST_METHOD=GET")
		if out != "" || err == nil {
			t.Errorf("%q, %v", out, err)
		}
		if err := (&cgi.Server{}).Serve(t.Context()); !errors.Is(err, cgi.ErrNotStarted) || cgi.Started() {
			t.Errorf("got %v", err)
		}
		if err := cgi.ReadRequest(new(gateway.Request)); !errors.Is(err, cgi.ErrNotStarted) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("HTTP_PROXY [234 F1]", func(t *testing.T) {
		t.Setenv("GATEWAY_INTERFACE", "CGI/1.1")
		t.Setenv("HTTP_PROXY", "http://evil")
		t.Setenv("HTTP_X", "1")
		t.Setenv("CONTENT_LENGTH", "")
		var r gateway.Request
		if err := cgi.ReadRequest(&r); err != nil || r.Params.Get("HTTP_X") != "1" || r.Body != gateway.NoBody || r.ContentLength != 0 || !cgi.Started() {
			t.Errorf("%v", err)
		}
		if _, ok := r.Params.Lookup("HTTP_PROXY"); ok || os.Getenv("HTTP_PROXY") != "" {
			t.Error("HTTP_PROXY is there")
		}
	})
	t.Run("input that stays open [235]", func(t *testing.T) {
		pr, pw, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer pw.Close()
		pw.WriteString("hello, and more")
		for length, want := range map[string]string{"": "", "5": "hello"} {
			path, _ := os.Executable()
			cmd := exec.Command(path)
			cmd.Env = append(conformance.Environ(t), "GATEWAY_INTERFACE=CGI/1.1", "CONTENT_LENGTH="+length, "GATEHOUSE_TEST_HANDLER=echo")
			cmd.Stdin = pr
			out, err := cmd.Output()
			if err != nil || !strings.HasSuffix(string(out), "\r\n\r\n"+want) {
				t.Errorf("%q: %q, %v", length, out, err)
			}
		}
	})
	t.Run("the whole of a response [236 263 265]", func(t *testing.T) {
		out, errs, err := run(t, "echo", "hello", "GATEWAY_INTERFACE=CGI/1.1", "CONTENT_LENGTH=5")
		if want := "Status: 200 OK\r\nContent-Type: application/octet-stream\r\nX-Length: 5\r\n\r\nhello"; out != want || errs != "" || err != nil {
			t.Errorf("%q, %q, %v", out, errs, err)
		}
	})
	t.Run("exit statuses [237]", func(t *testing.T) {
		for path, want := range map[string]int{"/404": 0, "/error": 0, "/stderr": 7, "/late": 1} {
			_, _, err := run(t, "responses", "", "GATEWAY_INTERFACE=CGI/1.1", "PATH_INFO="+path)
			code := 0
			if e, ok := errors.AsType[*exec.ExitError](err); ok {
				code = e.ExitCode()
			}
			if code != want {
				t.Errorf("%s: exit status %d", path, code)
			}
		}
	})
}

// TestCodec is the environment as a block and as a list.
func TestCodec(t *testing.T) {
	for _, nv := range [][2]string{{"", "v"}, {"A=B", "v"}, {"A\x00", "v"}, {"A", "v\x00"}} {
		if b, err := cgi.AppendParam([]byte("dst"), nv[0], nv[1]); !errors.Is(err, gateway.ErrParam) || string(b) != "dst" {
			t.Errorf("%q: %q, %v", nv, b, err)
		}
		var p gateway.Params
		p.Add(nv[0], nv[1])
		if env, err := cgi.AppendEnv([]string{"dst"}, &p); !errors.Is(err, gateway.ErrParam) || len(env) != 1 {
			t.Errorf("%q: %q, %v", nv, env, err)
		}
	}
	r := get("/a?b=c")
	block, err := cgi.AppendParams(nil, &r.Params)
	if err != nil || !bytes.Contains(block, []byte("QUERY_STRING=b=c\x00")) {
		t.Errorf("%q, %v", block, err)
	}
	var p gateway.Params
	if n, err := cgi.ConsumeParams(append(block, "PART=x"...), &p); n != len(block) || err != nil || p.Get("QUERY_STRING") != "b=c" || p.Len() != r.Params.Len() {
		t.Errorf("%d, %v", n, err)
	}
	for in, want := range map[string]int{"": 0, "A=": 0, "A=v": 0, "A\x00": -1, "=v\x00": -1, "\x00": -1, "A=v\x00": 4} {
		if _, _, n := cgi.ConsumeParam([]byte(in)); n != want {
			t.Errorf("%q: %d", in, n)
		}
	}
	env, err := cgi.AppendEnv(nil, &r.Params)
	p.Reset()
	if err2 := cgi.ConsumeEnv(append(env, "=C:=x", "nothing"), &p); err != nil || err2 != nil || p.Len() != r.Params.Len() {
		t.Errorf("%v, %v", err, err2)
	}
	many := make([]string, gateway.MaxPairs)
	for i := range many {
		many[i] = fmt.Sprintf("N%d=", i)
	}
	if err := cgi.ConsumeEnv(many, &p); !errors.Is(err, gateway.ErrTooLarge) || p.Len() != r.Params.Len() {
		t.Errorf("%v, %d", err, p.Len())
	}
}

// TestNothingIsLeft looks for what exchanges leave behind.
func TestNothingIsLeft(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc/self/fd")
	}
	c := shell(t, "echo word >&2; printf 'X: 1\\r\\n\\r\\nbody'; cat\n")
	c.Stderr = func(context.Context, []byte) {}
	counts := func() (fds, goroutines int) {
		files, _ := os.ReadDir("/proc/self/fd")
		return len(files), runtime.NumGoroutine()
	}
	once := func(i int) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var res gateway.Response
		if c.RoundTrip(ctx, gatewaytest.NewRequest("POST", "/", make([]byte, 50000)), &res) != nil {
			return
		}
		switch i % 3 {
		case 0:
			io.Copy(io.Discard, res.Body)
		case 1:
			cancel()
			io.Copy(io.Discard, res.Body)
		}
		res.Body.Close()
	}
	once(0)
	fds, goroutines := counts()
	for i := range 30 {
		once(i)
	}
	for i := 0; ; i++ {
		f, g := counts()
		if f <= fds && g <= goroutines {
			return
		}
		if time.Sleep(10 * time.Millisecond); i == 500 {
			t.Fatalf("%d descriptors and %d goroutines, once %d and %d", f, g, fds, goroutines)
		}
	}
}
