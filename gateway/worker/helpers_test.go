//go:build unix

package worker_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/gateway/worker"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/internal/race"
)

var quiet = slog.New(slog.DiscardHandler)

// This test binary is its own worker: with the variable it serves the application instead of
// running tests.
const workerVar = "GATEHOUSE_TEST_WORKER"

// noSleep has a binary with the race detector end at once.
const noSleep = "GORACE=atexit_sleep_ms=0"

// poolsVar says that the tests are to run.
const poolsVar = "GATEHOUSE_POOLS"

// manyVar makes the application take several requests at once.
const manyVar = "GATEHOUSE_TEST_MANY"

func TestMain(m *testing.M) {
	if listen := os.Getenv(workerVar); listen != "" {
		if listen == "argument" {
			listen = "unix:" + os.Args[len(os.Args)-1]
		}
		if err := serveApp(listen); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	if os.Getenv(poolsVar) == "" {
		fmt.Println("the tests of pools start hundreds of processes and watch their times; they run with " + poolsVar + "=1")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serveApp serves the application over FastCGI until SIGTERM.
func serveApp(listen string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s := &fastcgi.Server{Handler: gateway.HandlerFunc(app), MaxConns: 1, Logger: quiet}
	if os.Getenv(manyVar) != "" {
		s.MaxConns = 0
	}
	return s.Run(ctx, listen)
}

var served, running atomic.Int64

// app responds with its process id, the number of the request, and the number of requests that run
// at once. The query says what else it does.
func app(w gateway.ResponseWriter, r *gateway.Request) error {
	n, at := served.Add(1), running.Add(1)
	defer running.Add(-1)
	for order := range strings.SplitSeq(r.Params.Get("QUERY_STRING"), "&") {
		what, value, _ := strings.Cut(order, "=")
		ms, _ := strconv.Atoi(value)
		switch what {
		case "sleep":
			time.Sleep(time.Duration(ms) * time.Millisecond)
		case "begin": // a part of a response
			io.WriteString(w, "begun")
			w.Flush()
		case "exit":
			os.Exit(ms)
		case "once": // the first request of several processes dies
			if _, err := os.Stat(value); err == nil {
				continue
			}
			os.WriteFile(value, nil, 0o666)
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "kill":
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "print":
			fmt.Println(value)
		case "env":
			_, err := io.WriteString(w, strings.Join(os.Environ(), "\n"))
			return err
		case "args":
			_, err := io.WriteString(w, strings.Join(os.Args[1:], "\n"))
			return err
		case "files":
			return files(w)
		case "note":
			f, err := os.OpenFile(value, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
			if err != nil {
				return err
			}
			fmt.Fprintln(f, r.Params.Get("HTTP_X_ID"))
			f.Close()
		}
	}
	io.Copy(io.Discard, r.Body)
	_, err := fmt.Fprintf(w, "%d %d %d", os.Getpid(), n, at)
	return err
}

// files responds with the descriptors that the process was started with, as far as /proc tells.
func files(w io.Writer) error {
	for fd := range 10 {
		if name, err := os.Readlink(fmt.Sprint("/proc/self/fd/", fd)); err == nil {
			fmt.Fprintln(w, fd, strings.TrimRight(name, "0123456789[]"))
		}
	}
	return nil
}

// body returns the body of the response.
func body(t testing.TB, p gateway.RoundTripper, query string) string {
	t.Helper()
	o := conformance.Ask(t, p, gatewaytest.NewRequest("GET", "/?"+query, nil))
	if o.Err != nil {
		t.Fatal(o.Err)
	}
	return o.Body
}

// newPool returns a Pool of this binary. change may be nil.
func newPool(t testing.TB, change func(p *worker.Pool)) *worker.Pool {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &worker.Pool{
		Name: "test", Command: []string{self}, Env: []string{workerVar + "=fd:0", noSleep}, Logger: quiet, Grace: 5 * time.Second,
		Client: func(addr string) worker.Client { return &fastcgi.Client{Addr: addr, MaxIdleConns: 1, Logger: quiet} },
	}
	if change != nil {
		change(p)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// many makes workers take several requests at once.
func many(p *worker.Pool, n int) {
	p.Concurrency = n
	p.Env = append(p.Env, manyVar+"=1")
	p.Client = func(addr string) worker.Client { return &fastcgi.Client{Addr: addr, MaxIdleConns: n, Logger: quiet} }
}

// ask sends a request and returns the fields of the response.
func ask(t testing.TB, p gateway.RoundTripper, method, query string) (pid, n, at int, err error) {
	t.Helper()
	r := gatewaytest.NewRequest(method, "/?"+query, nil)
	o := conformance.Ask(t, p, r)
	if o.Err != nil {
		return 0, 0, 0, o.Err
	}
	if _, err := fmt.Sscan(o.Body, &pid, &n, &at); err != nil || o.Res.Status != http.StatusOK {
		return 0, 0, 0, fmt.Errorf("%d %q", o.Res.Status, o.Body)
	}
	return pid, n, at, nil
}

// timed skips a test of time-outs in a build with the race detector, in which a worker takes long to
// start and to respond.
func timed(t *testing.T) {
	t.Helper()
	if race.Enabled {
		t.Skip("time-outs are tested without the race detector")
	}
}

// until waits until done is true.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(conformance.Limit); !done(); time.Sleep(500 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatalf("never %s", what)
		}
	}
}

// alive reports whether a process runs.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }
