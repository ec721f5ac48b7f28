//go:build unix

package cgi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

// What was found by a review, each with the test that would have found it.

func request(target string) *gateway.Request { return gatewaytest.NewRequest("GET", target, nil) }

// folder is a folder of scripts.
func folder(t *testing.T, texts map[string]string) (root string) {
	t.Helper()
	root = filepath.Join(t.TempDir(), "root")
	for name, text := range texts {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// until waits for something that should not take long.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 500 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error(what)
}

// pid is what a script has written into a file.
func pid(t *testing.T, file string) (n int) {
	t.Helper()
	until(t, "no process id", func() bool {
		b, _ := os.ReadFile(file)
		n, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		return n > 0
	})
	return n
}

// A child that writes the response when the program itself has ended is ended with the exchange.
func TestChildOfEndedProgram(t *testing.T) {
	for name, end := range map[string]func(c *cgi.Client, cancel func(), body io.ReadCloser){
		"cancel": func(_ *cgi.Client, cancel func(), _ io.ReadCloser) { cancel() },
		"Close":  func(_ *cgi.Client, _ func(), body io.ReadCloser) { body.Close() },
		"Grace":  func(_ *cgi.Client, _ func(), body io.ReadCloser) { io.Copy(io.Discard, body) },
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pid")
			c := shell(t, "printf 'X: 1\\n\\nbody'; (sh -c 'echo $PPID' >"+file+"; while :; do echo x; sleep .02; done) &\n")
			c.Grace = 300 * time.Millisecond
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var res gateway.Response
			if err := c.RoundTrip(ctx, request("/"), &res); err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			child := pid(t, file)
			end(c, cancel, res.Body)
			until(t, "225 F33 the child goes on", func() bool { return !alive(child) })
		})
	}
}

// What a program said before it ended is given whole, however slow its reader is, and whatever its Timeout was.
func TestSlowReader(t *testing.T) {
	for name, tail := range map[string]string{"it has ended": "", "a process holds its output": "; sleep 20 >&1 &"} {
		t.Run(name, func(t *testing.T) {
			c := shell(t, "printf 'X: 1\\n\\n'; head -c 200000 /dev/zero"+tail+"\n")
			c.Grace, c.Timeout = 100*time.Millisecond, 400*time.Millisecond
			var res gateway.Response
			if err := c.RoundTrip(t.Context(), request("/"), &res); err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			total := 0
			for b := make([]byte, 2000); ; {
				n, err := res.Body.Read(b)
				if total += n; err == io.EOF {
					break
				} else if err != nil {
					t.Fatalf("after %d bytes: %v", total, err)
				}
				if total > 140000 {
					time.Sleep(15 * time.Millisecond) // the program has ended by now
				}
			}
			if total != 200000 {
				t.Errorf("%d bytes", total)
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

// MaxProcs counts programs, those included that do not end when they are told.
func TestMaxProcsCountsPrograms(t *testing.T) {
	dir := t.TempDir()
	c := shell(t, "trap '' TERM; touch "+dir+"/$$; while :; do sleep .05; done\n")
	c.MaxProcs, c.Grace = 1, 300*time.Millisecond
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		c.RoundTrip(ctx, request("/"), new(gateway.Response))
		cancel()
		running := 0
		files, _ := os.ReadDir(dir)
		for _, f := range files {
			if n, _ := strconv.Atoi(f.Name()); alive(n) {
				running++
			}
		}
		if running > 1 {
			t.Errorf("%d programs at once", running)
		}
	}
	c.Close()
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		if n, _ := strconv.Atoi(f.Name()); alive(n) {
			t.Error("Close has not waited for a program that was to end")
		}
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

// HeadTimeout begins with the program, whether or not it reads its input.
func TestHeadTimeoutWithLargeBody(t *testing.T) {
	c := shell(t, "sleep 20\n")
	c.HeadTimeout, c.Grace = 100*time.Millisecond, 100*time.Millisecond
	err := c.RoundTrip(t.Context(), gatewaytest.NewRequest("POST", "/", make([]byte, 1<<20)), new(gateway.Response))
	if e, ok := errors.AsType[*gateway.Error](err); !ok || !e.Timeout() {
		t.Errorf("got %v", err)
	}
	c.Close()
}

// What tells something else than the program what to do comes from Env alone.
func TestReservedNames(t *testing.T) {
	r := request("/")
	bad := []string{"GLIBC_TUNABLES", "HOSTALIASES", "RES_OPTIONS", "TZDIR", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "DOTNET_STARTUP_HOOKS",
		"OPENSSL_CONF", "OPENSSL_MODULES", "ZDOTDIR", "FPATH", "PROMPT_COMMAND", "TMP", "TEMP", "PAGER", "EDITOR", "SSH_ASKPASS",
		"HTTPS_PROXY", "ALL_PROXY", "R_PROFILE", "TCLLIBPATH", "GOMAXPROCS", "ERL_FLAGS", "GETCONF_DIR", "SSL_CERT_FILE", "NOTIFY_SOCKET"}
	for _, name := range bad {
		r.Params.Add(name, "theirs")
	}
	r.Params.Add("SSL_CLIENT_CERT", "passes")
	c := program(t, "params")
	c.Env = append(c.Env, "TZDIR=ours")
	o := conformance.Ask(t, c, r)
	if o.Err != nil || strings.Contains(o.Body, "theirs") || !strings.Contains(o.Body, "SSL_CLIENT_CERT=\"passes\"") || !strings.Contains(o.Body, "TZDIR=\"ours\"") {
		t.Errorf("215 217: %s, %v", o.Body, o.Err)
	}
}

// What is computed or configured stands, whatever is inherited.
func TestInheritedIsWeakest(t *testing.T) {
	t.Setenv("SERVER_NAME", "host's")
	t.Setenv("CONFIGURED", "host's")
	t.Setenv("GATEWAY_INTERFACE", "host's")
	r := request("/")
	r.Params.Set("SERVER_NAME", "request's")
	r.Params.Set("GATEWAY_INTERFACE", "request's")
	c := program(t, "params")
	c.Env = append(c.Env, "CONFIGURED=ours", "PATH=/ours")
	c.InheritEnv = []string{"SERVER_NAME", "CONFIGURED", "GATEWAY_INTERFACE", "PATH"}
	o := conformance.Ask(t, c, r)
	for _, want := range []string{"SERVER_NAME=\"request's\"", "CONFIGURED=\"ours\"", "PATH=\"/ours\"", "GATEWAY_INTERFACE=\"CGI/1.1\""} {
		if !strings.Contains(o.Body, want) {
			t.Errorf("215 F43: no %s in %s, %v", want, o.Body, o.Err)
		}
	}
}

// Close of a Body does not wait for the reader of STDERR.
func TestCloseWhileStderrBlocks(t *testing.T) {
	c := shell(t, "echo oops >&2; printf 'X: 1\\n\\nbody'; sleep 20\n")
	c.Grace = 100 * time.Millisecond
	told, release := make(chan struct{}), make(chan struct{})
	c.Stderr = func(context.Context, []byte) {
		close(told)
		<-release
	}
	var res gateway.Response
	if err := c.RoundTrip(t.Context(), request("/"), &res); err != nil {
		t.Fatal(err)
	}
	<-told
	res.Body.Close()
	close(release)
	c.Close()
}

// Of STDERR a request's writer gets as much as anybody.
func TestStderrIsCapped(t *testing.T) {
	c := shell(t, "head -c 200000 /dev/zero >&2; printf 'X: 1\\n\\nbody'\n")
	r := request("/")
	var errs bytes.Buffer
	r.Stderr = &errs
	if o := conformance.Ask(t, c, r); o.Err != nil || o.Body != "body" || errs.Len() != 64<<10 {
		t.Errorf("224: %q, %d bytes, %v", o.Body, errs.Len(), o.Err)
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

// A request that is refused has its response, so that the script has done what it should.
func TestServerExit(t *testing.T) {
	for name, c := range map[string]struct {
		env  []string
		want string
	}{
		"a length that is none": {[]string{"CONTENT_LENGTH=abc"}, "Status: 400 "},
		"a line in a field":     {[]string{"HTTP_X=a\nb"}, "Status: 400 "},
		"a handler's error":     {[]string{"PATH_INFO=/param"}, "Status: 400 "},
		"fine":                  {[]string{"PATH_INFO=/404"}, "Status: 404 "},
	} {
		out, _, err := run(t, "responses", "", append(c.env, "GATEWAY_INTERFACE=CGI/1.1", "REQUEST_METHOD=GET")...)
		if !strings.HasPrefix(out, c.want) || err != nil {
			t.Errorf("237 %s: %q, %v", name, out, err)
		}
	}
	out, _, err := run(t, "responses", "", "GATEWAY_INTERFACE=CGI/1.1", "REQUEST_METHOD=GET", "PATH_INFO=/status256")
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 255 || !strings.Contains(out, "said") {
		t.Errorf("237: %q, %v", out, err)
	}
}

// HTTP_PROXY is gone before the handler of Serve runs, and a response without a type gets none of ours.
func TestServerScrubs(t *testing.T) {
	out, _, err := run(t, "environ", "", "GATEWAY_INTERFACE=CGI/1.1", "REQUEST_METHOD=GET", "HTTP_PROXY=http://evil", "HTTP_X=kept")
	if err != nil || strings.Contains(out, "evil") || !strings.Contains(out, "HTTP_X=kept") {
		t.Errorf("234 F1: %q, %v", out, err)
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
