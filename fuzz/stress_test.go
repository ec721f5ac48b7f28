//go:build unix

package fuzz_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/internal/race"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// stressTime is how long TestStress runs for each protocol.
func stressTime() time.Duration {
	switch {
	case *soak:
		return 40 * time.Minute
	case race.Enabled:
		return 10 * time.Second
	}
	return time.Second
}

// TestStress lets naughty handlers respond to naughty callers, and looks at what is left over.
func TestStress(t *testing.T) {
	type server interface {
		Serve(l net.Listener) error
		Shutdown(ctx context.Context) error
		Stats() gateway.ServerStats
	}
	type client interface {
		gateway.RoundTripper
		Stats() gateway.Stats
		Close() error
	}
	var observed atomic.Uint64
	observe := func(_ context.Context, r *gateway.Request, x *gateway.ServerExchange) {
		if r.Method() == "" && !x.Refused {
			t.Error("Observe has a request without params")
		}
		observed.Add(1)
	}
	h := gateway.HandlerFunc(naughty)
	for name, c := range map[string]struct {
		server server
		client func(addr string) client
	}{
		"fastcgi": {&fastcgi.Server{Handler: h, Observe: observe, Logger: quiet}, func(addr string) client {
			return &fastcgi.Client{Addr: addr, MaxIdleConns: 4, MaxConns: 8, Logger: quiet, Observe: func(context.Context, *gateway.Exchange) {}}
		}},
		"scgi": {&scgi.Server{Handler: h, Observe: observe, Logger: quiet}, func(addr string) client {
			return &scgi.Client{Addr: addr, MaxConns: 8}
		}},
		"uwsgi": {&uwsgi.Server{Handler: h, Observe: observe, Logger: quiet}, func(addr string) client {
			return &uwsgi.Client{Addr: addr, MaxConns: 8}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			observed.Store(0)
			before := leftovers(t)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			go c.server.Serve(l)
			client := c.client(l.Addr().String())
			var callers sync.WaitGroup
			end := time.Now().Add(stressTime())
			for i := range 16 {
				callers.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(i), 1))
					for time.Now().Before(end) {
						callNaughtily(t, client, rnd)
						if rnd.IntN(50) == 0 {
							client.Close()
						}
					}
				})
			}
			callers.Wait()
			client.Close()
			ctx, cancel := context.WithTimeout(t.Context(), conformance.Limit)
			defer cancel()
			if err := c.server.Shutdown(ctx); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			nothingLeft(t, before)
			s, cs := c.server.Stats(), client.Stats()
			if s.InFlight != 0 || s.Open != 0 || s.Idle != 0 || s.Requests != observed.Load() || cs.InFlight != 0 || cs.Waiting != 0 {
				t.Errorf("server %+v, observed %d, client %+v", s, observed.Load(), cs)
			}
			t.Logf("%d requests", s.Requests)
		})
	}
}

// naughty is a handler that does what handlers should not do.
func naughty(w gateway.ResponseWriter, r *gateway.Request) error {
	switch r.Path() {
	case "/echo":
		_, err := io.Copy(w, r.Body)
		return err
	case "/leave": // goroutines that outlive the handler
		body, ctx := r.Body, r.Context()
		for range 3 {
			go func() {
				for range 20 {
					io.WriteString(w, "late")
					w.Flush()
					w.SetReadDeadline(time.Time{})
					body.Read(make([]byte, 10))
					ctx.Err()
					io.WriteString(w.Stderr(), "late")
					runtime.Gosched()
				}
			}()
		}
		_, err := io.WriteString(w, "left")
		return err
	case "/panic":
		io.WriteString(w, "part")
		panic("of the handler")
	case "/exit":
		runtime.Goexit()
	case "/wait":
		w.Flush()
		select {
		case <-r.Context().Done():
		case <-time.After(20 * time.Millisecond):
		}
		return context.Cause(r.Context())
	case "/large":
		_, err := w.Write(make([]byte, 300_000))
		return err
	case "/short":
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "short")
	case "/hijack":
		s, err := w.Hijack()
		if err != nil {
			return err
		}
		defer s.Close()
		s.SetDeadline(time.Now().Add(time.Second))
		_, err = io.CopyN(s, s, 5)
		return err
	}
	return nil
}

// callNaughtily sends a request, and does with the response what callers should not do.
func callNaughtily(t *testing.T, c gateway.RoundTripper, rnd *rand.Rand) {
	ctx, cancel := context.WithTimeout(t.Context(), conformance.Limit)
	defer cancel()
	path := []string{"/echo", "/leave", "/panic", "/exit", "/wait", "/large", "/short", "/hijack"}[rnd.IntN(8)]
	r := new(gateway.Request)
	if err := r.SetTarget([]string{"GET", "POST", "HEAD"}[rnd.IntN(3)], path); err != nil {
		t.Error(err)
	}
	switch rnd.IntN(3) {
	case 0:
		r.SetBody(make([]byte, rnd.IntN(100)))
	case 1:
		n := rnd.IntN(200_000)
		r.Body, r.ContentLength = io.LimitReader(zeroes{}, int64(n)), int64(n)
	}
	if path == "/hijack" {
		r.Upgrade = "websocket"
		r.Body, r.ContentLength = nil, 0
		r.Params.Set("HTTP_UPGRADE", "websocket")
		r.Params.Set("HTTP_CONNECTION", "Upgrade")
	}
	if rnd.IntN(4) == 0 {
		time.AfterFunc(time.Duration(rnd.IntN(3))*time.Millisecond, cancel)
	}
	var res gateway.Response
	if err := c.RoundTrip(ctx, r, &res); err != nil {
		if _, ok := errors.AsType[*gateway.Error](err); !ok {
			t.Errorf("%s: untyped: %v", path, err)
		}
		return
	}
	body := res.Body
	if s, ok := body.(gateway.Stream); ok {
		s.SetDeadline(time.Now().Add(time.Second))
		io.WriteString(s, "hello")
		io.ReadAll(s)
		s.Close()
		return
	}
	switch rnd.IntN(3) {
	case 0:
		io.Copy(io.Discard, body)
	case 1:
		var both sync.WaitGroup
		both.Go(func() { io.Copy(io.Discard, body) })
		both.Go(func() { body.Close() })
		both.Wait()
	}
	body.Close()
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// leftovers counts goroutines and descriptors.
func leftovers(t *testing.T) [2]int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return [2]int{runtime.NumGoroutine(), len(files)}
}

// nothingLeft waits until nothing is left over beyond before.
func nothingLeft(t *testing.T, before [2]int) {
	t.Helper()
	var now [2]int
	for range 1000 {
		runtime.GC() // a connection that was dropped is closed by its finalizer at the latest
		if now = leftovers(t); now[0] <= before[0] && now[1] <= before[1] {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	stack := make([]byte, 1<<20)
	stack = stack[:runtime.Stack(stack, true)]
	t.Errorf("goroutines and descriptors: %v, before %v\n%s", now, before, strings.TrimSpace(fmt.Sprintf("%.8000s", stack)))
}
