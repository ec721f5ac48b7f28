//go:build unix

package fuzz_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/fuzz"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

var seedFlag = flag.Uint64("seed", 1, "of the faults; each test names the one it used")

// isFaulty makes this program a CGI script on which things go wrong, by the seed that it is the
// name of.
const isFaulty = "GATEHOUSE_TEST_FAULTY"

func TestMain(m *testing.M) {
	seed, ok := os.LookupEnv(isFaulty)
	if !ok {
		os.Exit(m.Run())
	}
	os.Unsetenv(isFaulty)
	n, _ := strconv.ParseUint(seed, 10, 64)
	err := (&cgi.Server{Handler: faultyHandler(n), Logger: quiet}).Serve(context.Background())
	if err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// faultyHandler is signed, in a process that may not come to its end: it is killed, it hangs, it
// closes its output, exits in the middle, or leaves a child that holds its output open. Seed 0 is
// without faults.
func faultyHandler(seed uint64) gateway.Handler {
	return gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		rng := rand.New(rand.NewPCG(seed, hash(r.Params.Get("HTTP_X_ID"))))
		if seed == 0 || rng.IntN(3) > 0 {
			return signed(w, r)
		}
		late, kind, early := time.Duration(rng.IntN(10))*time.Millisecond, rng.IntN(5), rng.IntN(2) == 0
		time.AfterFunc(late, func() { goWrong(kind) })
		if early {
			time.Sleep(10 * time.Millisecond)
		}
		err := signed(w, r)
		time.Sleep(10 * time.Millisecond) // so that it does go wrong
		return err
	})
}

// goWrong is how a script does not come to its end.
func goWrong(kind int) {
	switch kind {
	case 0:
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case 1:
		os.Exit(1)
	case 2:
		os.Stdout.Close()
	case 3:
		syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case 4:
		child := exec.Command("sleep", "20")
		child.Stdout = os.Stdout
		child.Start()
		os.Exit(0)
	}
}

func hash(id string) (h uint64) {
	for _, c := range []byte(id) {
		h = h*31 + uint64(c)
	}
	return h
}

// script is this program as a CGI script with the faults of a seed.
func script(t testing.TB, seed uint64) *cgi.Client {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env := append(conformance.Environ(t), isFaulty+"="+strconv.FormatUint(seed, 10), ofTest+strconv.Itoa(os.Getpid()))
	return &cgi.Client{Path: path, Env: env, MaxProcs: 4, Grace: 50 * time.Millisecond, BodyTimeout: time.Second, HeadTimeout: time.Second, Logger: quiet}
}

// clients of a protocol, in each way that it may use its connections.
func clients(p fuzz.Protocol, dial func(context.Context) (net.Conn, error)) map[string]gateway.RoundTripper {
	const limit = 300 * time.Millisecond
	switch p {
	case fuzz.FastCGI:
		return map[string]gateway.RoundTripper{
			"one":  &fastcgi.Client{Dial: dial, HeadTimeout: limit, BodyTimeout: limit, Logger: quiet},
			"kept": &fastcgi.Client{Dial: dial, MaxIdleConns: 4, HeadTimeout: limit, BodyTimeout: limit, Logger: quiet},
			"two":  &fastcgi.Client{Dial: dial, MaxIdleConns: 2, MaxConns: 2, HeadTimeout: limit, BodyTimeout: limit, Logger: quiet},
		}
	case fuzz.SCGI, fuzz.UWSGI:
		return map[string]gateway.RoundTripper{"one": timed(p, dial, limit)}
	}
	panic(p)
}

// traffic sends n concurrent requests to c, several times, and counts the results.
func traffic(ctx context.Context, t testing.TB, c gateway.RoundTripper, seed uint64, n, times int, limit time.Duration) (right, failed int) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for j := range times {
				ctx, cancel := context.WithTimeout(ctx, limit)
				if rng.IntN(5) == 0 {
					time.AfterFunc(time.Duration(rng.IntN(5000))*time.Microsecond, cancel)
				}
				err := ask(ctx, c, fmt.Sprintf("%d-%d-%d", seed, i, j), size(rng))
				cancel()
				mu.Lock()
				if err == nil {
					right++
				} else {
					failed++
				}
				mu.Unlock()
				if errors.Is(err, errCrossed) {
					t.Errorf("seed %d: %v", seed, err)
				}
			}
		})
	}
	all.Wait()
	return right, failed
}

// TestFaults puts a way on which things go wrong between the ends of each protocol, real sockets,
// and between a proxy and both its sides, and scripts that do not come to their end. Whatever
// happens, no client gets another's bytes, every failure is typed, and nothing is left.
func TestFaults(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	before := balanceNow(temp)
	t.Run("all", func(t *testing.T) {
		for name, start := range faultyWays() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c := start(t, *seedFlag)
				t.Cleanup(func() { closing(t, c) })
				for begun := time.Now(); ; { // on a busy machine, again: a program may need longer to start than it is given
					right, failed := traffic(t.Context(), t, c, *seedFlag, 4, 8, time.Second)
					t.Logf("%d right, %d failed", right, failed)
					if right > 0 {
						return
					}
					if time.Since(begun) > conformance.Limit {
						t.Fatal("nothing came through")
					}
				}
			})
		}
	})
	settled(t, before, temp)
}

// faultyWays are clients behind which things go wrong, by name.
func faultyWays() map[string]func(t testing.TB, seed uint64) gateway.RoundTripper {
	ways := make(map[string]func(t testing.TB, seed uint64) gateway.RoundTripper)
	ways["cgi"] = func(t testing.TB, seed uint64) gateway.RoundTripper { return script(t, seed) }
	for _, p := range wires {
		for name := range clients(p, nil) {
			ways[string(p)+" "+name] = func(t testing.TB, seed uint64) gateway.RoundTripper {
				way := &relay{seed: seed, most: 5 * time.Millisecond, odds: 0.3}
				return clients(p, dialer(way.listen(t, serving(t, p, signed))))[name]
			}
		}
		for _, back := range protocols {
			ways[fmt.Sprintf("%s to %s", p, back)] = func(t testing.TB, seed uint64) gateway.RoundTripper {
				inner := behind(t, back, seed)
				t.Cleanup(func() { closing(t, inner) })
				way := &relay{seed: seed, most: 5 * time.Millisecond, odds: 0.15}
				return clients(p, dialer(way.listen(t, serving(t, p, &gateway.Proxy{Backend: inner}))))["one"]
			}
		}
	}
	return ways
}

// behind is a client whose application is behind a way on which things go wrong.
func behind(t testing.TB, p fuzz.Protocol, seed uint64) gateway.RoundTripper {
	if p == fuzz.CGI {
		return script(t, seed)
	}
	way := &relay{seed: seed * 1000, most: 5 * time.Millisecond, odds: 0.15}
	return clients(p, dialer(way.listen(t, serving(t, p, signed))))["one"]
}

// serving starts a server until the test is over, and returns its address.
func serving(t testing.TB, p fuzz.Protocol, h gateway.Handler) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := server(p, h)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.Shutdown(ctx) // what hangs is ended by it
		if err := <-served; !errors.Is(err, gateway.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

// TestSlowFaults is TestFaults without a network and in time that costs nothing: pieces are late by
// up to a minute, so that every limit of time is met. A goroutine that is left stands still in its
// bubble, and fails it.
func TestSlowFaults(t *testing.T) {
	for _, p := range wires {
		for name := range clients(p, nil) {
			for seed := *seedFlag; seed < *seedFlag+5; seed++ {
				t.Run(fmt.Sprintf("%s/%s/seed=%d", p, name, seed), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { slowFaults(t, p, name, seed) })
				})
			}
		}
	}
}

func slowFaults(t *testing.T, p fuzz.Protocol, name string, seed uint64) {
	s := server(p, signed)
	way := &relay{seed: seed, most: time.Minute, odds: 0.3}
	c := clients(p, way.dial(func(c net.Conn) { s.ServeConn(t.Context(), c) }))[name]
	right, failed := traffic(t.Context(), t, c, seed, 3, 10, 10*time.Minute)
	t.Logf("%d right, %d failed", right, failed)
	closing(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	way.open.Wait()
	time.Sleep(time.Second) // the server's sweeper sees that nothing runs
}

// timed is a client of a protocol that carries one request a connection, with limits.
func timed(p fuzz.Protocol, dial func(context.Context) (net.Conn, error), limit time.Duration) gateway.RoundTripper {
	if p == fuzz.SCGI {
		return &scgi.Client{Dial: dial, HeadTimeout: limit, BodyTimeout: limit}
	}
	return &uwsgi.Client{Dial: dial, HeadTimeout: limit, BodyTimeout: limit}
}
