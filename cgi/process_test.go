//go:build unix

package cgi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
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

// alive reports whether a process runs. This process cannot wait for one that has ended and has
// another parent.
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

func TestProcess(t *testing.T) {
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
	t.Run("a script that closes its output and continues", func(t *testing.T) {
		pid := filepath.Join(t.TempDir(), "pid")
		c := shell(t, "echo $$ > '"+pid+"'; printf 'X: 1\\r\\n\\r\\nbody'; exec >&- 2>&-; while :; do sleep 0.1; done\n")
		c.Grace = 50 * time.Millisecond
		if o := conformance.Ask(t, c, get("/")); o.Err != nil || o.Body != "body" {
			t.Errorf("%q, %v", o.Body, o.Err)
		}
		gone(t, readPid(t, pid))
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
}

// TestNothingIsLeft checks that exchanges leave no goroutine, descriptor or process.
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

// pid returns the process id that a script has written into a file.
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

// What a program said before it ended is given whole, however slow its reader is, and whatever its
// Timeout was.
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

// MaxProcs counts programs, including those that ignore SIGTERM.
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
