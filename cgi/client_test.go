//go:build unix

package cgi_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
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

func TestClient(t *testing.T) {
	t.Run("words of the query as arguments [218 F23]", func(t *testing.T) {
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
	t.Run("no shell runs [219 F43]", func(t *testing.T) {
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
	t.Run("standard input ends with the body [220]", func(t *testing.T) {
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
	t.Run("a head without an end stops the program [223 257]", func(t *testing.T) {
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
	t.Run("NPH scripts [231]", func(t *testing.T) {
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
	t.Run("Prepare is called last", func(t *testing.T) {
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

// The script that runs is the one that was looked at, also after a wait for a place.
func TestScriptIsLookedAtAgain(t *testing.T) {
	for name, replace := range map[string]func(root string) error{
		"by a link out of Root": func(root string) error {
			return errors.Join(os.Remove(filepath.Join(root, "dir/s")), os.Symlink("../../out", filepath.Join(root, "dir/s")))
		},
		"by a script above it": func(root string) error {
			return errors.Join(os.RemoveAll(filepath.Join(root, "dir")), os.Rename(filepath.Join(root, "other"), filepath.Join(root, "dir")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := folder(t, map[string]string{
				"slow": "sleep .3; printf 'X: 1\n\nslow'\n", "other": "printf 'X: 1\n\nOTHER'\n",
				"dir/s": "printf 'X: 1\n\ninside'\n", "../out": "printf 'X: 1\n\nOUTSIDE'\n",
			})
			c := &cgi.Client{Root: root, MaxProcs: 1, Logger: quiet}
			first := make(chan struct{})
			go func() {
				defer close(first)
				conformance.Ask(t, c, request("/slow"))
			}()
			until(t, "nothing runs", func() bool { return c.Stats().Dialed == 1 })
			second := make(chan *conformance.Outcome)
			go func() { second <- conformance.Ask(t, c, request("/dir/s")) }()
			until(t, "no request waits", func() bool { return c.Stats().Waiting == 1 })
			if err := replace(root); err != nil {
				t.Fatal(err)
			}
			if o := <-second; !errors.Is(o.Err, fs.ErrNotExist) {
				t.Errorf("%q, %v", o.Body, o.Err)
			}
			<-first
		})
	}
}

// A relative Path is relative to the working directory, and never looked for in PATH.
func TestRelativePath(t *testing.T) {
	root := folder(t, map[string]string{"bin/env": "printf 'X: 1\\n\\n%s' \"$PWD\"\n", "date": "printf 'X: 1\\n\\nours'\n"})
	t.Chdir(root)
	for path, want := range map[string]string{"bin/env": "/bin", "./bin/env": "/bin", "date": "ours"} {
		if o := conformance.Ask(t, &cgi.Client{Path: path, Logger: quiet}, request("/")); o.Err != nil || !strings.HasSuffix(o.Body, want) {
			t.Errorf("221 %s: %q, %v", path, o.Body, o.Err)
		}
	}
}

// Whatever Prepare makes of SysProcAttr, the program can be ended.
func TestPrepareKeepsTheGroup(t *testing.T) {
	for name, attr := range map[string]*syscall.SysProcAttr{"another": {}, "a session": {Setsid: true}, "a foreign group": {Setpgid: true, Pgid: os.Getpid()}} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pid")
			c := shell(t, "echo $$ >"+file+"; sleep 60 & wait\n")
			c.Grace = 200 * time.Millisecond
			c.Prepare = func(_ context.Context, cmd *exec.Cmd, _ *gateway.Request) error {
				cmd.SysProcAttr = attr
				return nil
			}
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				pid(t, file)
				cancel()
			}()
			if err := c.RoundTrip(ctx, request("/"), new(gateway.Response)); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			c.Close()
			if n := pid(t, file); alive(n) {
				t.Error("225 the program goes on")
			}
		})
	}
}

// A program that was started has had its request.
func TestStartedIsSent(t *testing.T) {
	c := shell(t, "exit 3\n")
	err := c.RoundTrip(t.Context(), gatewaytest.NewRequest("DELETE", "/", nil), new(gateway.Response))
	if e, ok := errors.AsType[*gateway.Error](err); !ok || !e.Sent || gateway.Retryable(err) {
		t.Errorf("089: %v", err)
	}
}

// A program that says more than its Content-Length is not kept waiting, nor is its client.
func TestLongResponse(t *testing.T) {
	c := shell(t, "printf 'Content-Length: 4\\n\\nbody'; head -c 300000 /dev/zero; exit 3\n")
	c.Grace = time.Minute
	if o := conformance.Ask(t, c, request("/")); o.Err != nil || o.Body != "body" || o.Res.AppStatus != 3 {
		t.Errorf("252: %q, status %d, %v", o.Body, o.Res.AppStatus, o.Err)
	}
}

// A program that does not read its input does not keep the client waiting for ever.
func TestSendTimeout(t *testing.T) {
	c := &cgi.Client{Path: "/bin/sleep", Args: []string{"60"}, SendTimeout: 50 * time.Millisecond, Grace: time.Second}
	defer c.Close()
	o := conformance.Ask(t, c, gatewaytest.NewRequest("POST", "/", make([]byte, 1<<20)))
	if e, ok := errors.AsType[*gateway.Error](o.Err); !ok || e.Phase != gateway.PhaseSend || !e.Timeout() {
		t.Errorf("472: %v", o.Err)
	}
}

// TestPrinted checks that an error shows what a program printed in place of a head, and no more
// than its first line.
func TestPrinted(t *testing.T) {
	for _, c := range []struct{ name, script, want string }{
		{"a message", `echo 'no such table: users'; echo 'second line'`, `; the program printed "no such table: users"`},
		{"a message, and an empty line", `printf 'no such table\r\n\r\n'`, `; the program printed "no such table"`},
		{"control bytes", `printf 'a\033[31m\n\n'`, `; the program printed "a\x1b[31m"`},
		{"a line below fields", `printf 'Content-Type: text/html\n<html>\n\n'`, `; the program printed "<html>"`},
		{"a status line", `printf 'HTTP/1.1 200 OK\nContent-Type: text/html\n\nsecret'`, `; the program printed "HTTP/1.1 200 OK"`},
		{"two statuses", `printf 'Status: 200\nStatus: 404\n\nsecret'`, ""},
		{"a control byte in a value", `printf 'Set-Cookie: secret\001\n\n'`, `; the program printed "Set-Cookie"`},
		{"a page without a head", `echo '<html>'; head -c 100000 /dev/zero | tr '\0' x`, `; the program printed "<html>"`},
		{"fields alone", `printf 'Set-Cookie: secret\nContent-Type: text'`, ""},
		{"a head that is too large", `printf 'Set-Cookie: secret\n'; head -c 100000 /dev/zero | tr '\0' x`, ""},
		{"a 101", `printf 'Status: 101\nUpgrade: x\n\nsecret'`, ""},
		{"a long line", `head -c 1000 /dev/zero | tr '\0' x`, `; the program printed "` + strings.Repeat("x", 200) + `"`},
		{"behind an interim response", `printf 'Status: 103\n\noops\n\n'`, `; the program printed "oops"`},
		{"nothing", `exit 3`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := conformance.Ask(t, shell(t, c.script), get("/"))
			if o.Err == nil || !strings.Contains(o.Err.Error(), c.want) || strings.Contains(o.Err.Error(), "printed") != (c.want != "") || strings.Contains(o.Err.Error(), "second") || strings.Contains(o.Err.Error(), "secret") {
				t.Errorf("%v", o.Err)
			}
		})
	}
}
