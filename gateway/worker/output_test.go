//go:build unix

package worker_test

import (
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/gateway/worker"
	"github.com/gatehouse-go/gatehouse/internal/race"
)

// A collector receives the output of workers.
type collector struct {
	mu    sync.Mutex
	lines []string
	bytes int
}

func (c *collector) add(_ int, line []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes += len(line)
	c.lines = append(c.lines, string(line))
}

func (c *collector) all() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.lines, "\n")
}

func (c *collector) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

func TestOutput(t *testing.T) {
	t.Parallel()
	shell := func(c *collector, script string) *worker.Pool {
		return newPool(t, func(p *worker.Pool) {
			p.MinWorkers, p.MaxWorkers, p.Output = 1, 1, c.add
			p.Command = []string{"sh", "-c", script + `; exec "$0"`, p.Command[0]}
		})
	}
	t.Run("lines, with control bytes escaped [345]", func(t *testing.T) {
		var c collector
		p := shell(&c, `printf 'out\033[31m\n'; echo err >&2; head -c 5000 /dev/zero | tr '\0' x; echo`)
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		until(t, "written", func() bool { return strings.Count(c.all(), "x") >= 5000 })
		for line := range strings.SplitSeq(c.all(), "\n") {
			if len(line) > 4<<10 {
				t.Errorf("a line of %d bytes", len(line))
			}
		}
		if got := c.all(); !strings.HasPrefix(got, "out\\x1b[31m\nerr\n") {
			t.Errorf("%.100q", got)
		}
	})
	t.Run("more than the limit [345]", func(t *testing.T) {
		var c collector
		begun := time.Now()
		p := shell(&c, `head -c 3000000 /dev/zero | tr '\0' 'x' | fold -w 100`)
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		until(t, "reported", func() bool { _, _, _, err := ask(t, p, "GET", ""); return err == nil })
		if most := (int(time.Since(begun).Seconds()) + 2) * (64<<10 + 100); c.size() > most || c.size() < 1000 {
			t.Errorf("%d bytes were reported, at the most %d", c.size(), most)
		}
		p.Close()
		if !strings.Contains(c.all(), "bytes of output were dropped") {
			t.Error("nothing says how much was dropped")
		}
	})
	t.Run("a grandchild holds the pipe [346]", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) {
			p.MinWorkers, p.Grace = 1, 200*time.Millisecond
			p.Command = []string{"sh", "-c", `setsid sleep 60 & exec "$0"`, p.Command[0]}
		})
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		p.Close()
		if took := time.Since(begun); took > 20*time.Second {
			t.Errorf("Close took %v", took)
		}
	})
}

func TestPrepare(t *testing.T) {
	if syscall.Getuid() != 0 {
		t.Skip("needs root")
	}
	for name, way := range ways {
		t.Run("another user, "+name+" [304 347]", func(t *testing.T) {
			p := newPool(t, func(p *worker.Pool) {
				p.Command = []string{"/bin/sh", "-c", `exec "$0" "$@"`, readable(t, p.Command[0])}
				way(p)
				p.Prepare = func(cmd *exec.Cmd) error {
					cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
					return nil
				}
			})
			if _, _, _, err := ask(t, p, "GET", ""); err != nil {
				t.Error(err)
			}
		})
	}
}

// readable returns the path of a copy of a program that any user can run.
func readable(t *testing.T, program string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	path := dir + "/program"
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, b, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestErrors checks what a client over HTTP, and a Balancer, make of a Pool's errors.
func TestErrors(t *testing.T) {
	t.Parallel()
	down := func(p *worker.Pool) { p.Command = []string{"false"} }
	for name, c := range map[string]struct {
		change func(p *worker.Pool)
		query  string
		status int
	}{
		"ErrDown [350]":        {down, "", 503},
		"*ExitError [350]":     {nil, "kill", 502},
		"RequestTimeout [329]": {func(p *worker.Pool) { p.RequestTimeout = 50 * time.Millisecond }, "sleep=60000", 504},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(t, c.change)
			w := httptest.NewRecorder()
			(&gatewayhttp.Proxy{Backend: p, Logger: quiet}).ServeHTTP(w, httptest.NewRequest("POST", "/?"+c.query, nil))
			if w.Code != c.status {
				t.Errorf("%d %q", w.Code, w.Body)
			}
		})
	}
	t.Run("a Balancer goes elsewhere [350 404]", func(t *testing.T) {
		b := &gateway.Balancer{Targets: []gateway.Target{{Name: "down", Backend: newPool(t, down)}, {Name: "up", Backend: newPool(t, nil)}}}
		for range 10 {
			if _, _, _, err := ask(t, b, "POST", ""); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	t.Run("none but the client's [351]", func(t *testing.T) {
		p := newPool(t, one)
		r := gatewaytest.NewRequest("GET", "/", nil)
		var res gateway.Response
		trip := func(c gateway.RoundTripper) func() {
			return func() {
				if err := c.RoundTrip(t.Context(), r, &res); err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		}
		over := trip(p)
		for range 100 {
			over()
		}
		before := runtime.NumGoroutine()
		pool := testing.AllocsPerRun(500, over)
		if n := runtime.NumGoroutine(); n > before {
			t.Errorf("%d goroutines, %d before", n, before)
		}
		direct := &fastcgi.Client{Addr: gatewaytest.Start(t, &fastcgi.Server{Handler: gateway.HandlerFunc(app), Logger: quiet}), MaxIdleConns: 1, Logger: quiet}
		defer direct.Close()
		alone := testing.AllocsPerRun(50, trip(direct))
		if pool > alone {
			t.Errorf("%v allocations over a Pool, %v without", pool, alone)
		}
	})
}
