//go:build unix

package fuzz_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/cgi"
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
		return 30 * time.Minute
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
		client func(addr string) stressed
		raw    func(rnd *rand.Rand) []byte // requests of one connection
	}{
		"fastcgi": {&fastcgi.Server{Handler: h, Observe: observe, Logger: quiet}, func(addr string) stressed {
			return &fastcgi.Client{Addr: addr, MaxIdleConns: 4, MaxConns: stressPlaces, Logger: quiet, Observe: func(context.Context, *gateway.Exchange) {}}
		}, multiplexed},
		"scgi": {&scgi.Server{Handler: h, Observe: observe, Logger: quiet}, func(addr string) stressed {
			return &scgi.Client{Addr: addr, MaxConns: stressPlaces}
		}, func(rnd *rand.Rand) []byte { return must(scgi.AppendRequest(nil, naughtyRequest(rnd))) }},
		"uwsgi": {&uwsgi.Server{Handler: h, Observe: observe, Logger: quiet}, func(addr string) stressed {
			return &uwsgi.Client{Addr: addr, MaxConns: stressPlaces}
		}, func(rnd *rand.Rand) []byte { return must(uwsgi.AppendRequest(nil, naughtyRequest(rnd))) }},
	} {
		t.Run(name, func(t *testing.T) {
			observed.Store(0)
			temp := t.TempDir()
			before := balanceNow(temp)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			go c.server.Serve(l)
			client := c.client(l.Addr().String())
			stress(t, client, stressPlaces, func(rnd *rand.Rand) {
				if rnd.IntN(4) == 0 {
					sendCut(t, l.Addr().String(), c.raw(rnd), rnd)
				} else {
					callNaughtily(t, client, rnd, naughtyPaths[rnd.IntN(len(naughtyPaths))])
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), conformance.Limit)
			defer cancel()
			if err := c.server.Shutdown(ctx); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			settled(t, before, temp)
			s, cs := c.server.Stats(), client.Stats()
			if s.InFlight != 0 || s.Open != 0 || s.Idle != 0 || s.Requests != observed.Load() || cs.InFlight != 0 || cs.Waiting != 0 {
				t.Errorf("server %+v, observed %d, client %+v", s, observed.Load(), cs)
			}
			t.Logf("%d requests", s.Requests)
		})
	}
}

// A stressed client is one that TestStress uses.
type stressed interface {
	gateway.RoundTripper
	Stats() gateway.Stats
	Close() error
}

// stressPlaces is MaxConns, or MaxProcs, of the clients.
const stressPlaces = 8

// stress has 16 goroutines use the client, by call, for stressTime, and closes it now and then. At
// the end the client must still have all its places.
func stress(t *testing.T, c stressed, places int, call func(rnd *rand.Rand)) {
	t.Helper()
	var callers sync.WaitGroup
	end := time.Now().Add(stressTime())
	for i := range 16 {
		callers.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			for time.Now().Before(end) {
				call(rnd)
				if rnd.IntN(50) == 0 {
					c.Close()
				}
			}
		})
	}
	callers.Wait()
	noPlaceIsLost(t, c, places)
	c.Close()
}

// noPlaceIsLost holds as many responses open at once as the client has places.
func noPlaceIsLost(t *testing.T, c stressed, places int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), conformance.Limit)
	defer cancel()
	for i := range places {
		r := new(gateway.Request)
		if err := r.SetTarget("GET", "/large"); err != nil { // it does not end while it is not read
			t.Error(err)
		}
		var res gateway.Response
		if err := c.RoundTrip(ctx, r, &res); err != nil {
			t.Errorf("place %d of %d: %v", i, places, err)
			return
		}
		defer res.Body.Close()
	}
}

// naughtyPaths are what naughty knows.
var naughtyPaths = []string{"/echo", "/leave", "/panic", "/exit", "/wait", "/large", "/short", "/hijack"}

// naughtyRequest is one whose body, of ten bytes, the caller sends or does not.
func naughtyRequest(rnd *rand.Rand) *gateway.Request {
	r := &gateway.Request{Body: io.NopCloser(strings.NewReader("0123456789")), ContentLength: 10}
	if err := r.SetTarget("POST", naughtyPaths[rnd.IntN(len(naughtyPaths))]); err != nil {
		panic(err)
	}
	return r
}

// multiplexed returns the records of several requests on one connection: interleaved, without an
// end, aborted, and with an id that is taken.
func multiplexed(rnd *rand.Rand) (b []byte) {
	for range 20 {
		id := uint16(1 + rnd.IntN(6))
		switch rnd.IntN(4) {
		case 0:
			b = must(fastcgi.AppendRequest(b, id, true, naughtyRequest(rnd)))
		case 1:
			b = must(fastcgi.AppendRecord(b, fastcgi.TypeStdin, id, make([]byte, rnd.IntN(10))))
		case 2:
			b = must(fastcgi.AppendRecord(b, fastcgi.TypeStdin, id, nil))
		case 3:
			b = must(fastcgi.AppendRecord(b, fastcgi.TypeAbort, id, nil))
		}
	}
	return b
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// sendCut sends b, or a part of it, in two pieces, reads a little of the response, and leaves: with
// a FIN, or with a reset.
func sendCut(t *testing.T, addr string, b []byte, rnd *rand.Rand) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Millisecond))
	b = b[:rnd.IntN(len(b)+1)]
	first := rnd.IntN(len(b) + 1)
	c.Write(b[:first]) // the server may have closed the connection
	c.Write(b[first:])
	if rnd.IntN(2) == 0 {
		io.CopyN(io.Discard, c, int64(rnd.IntN(1000)))
	}
	if rnd.IntN(2) == 0 {
		c.(*net.TCPConn).SetLinger(0)
	}
}

// naughtyScripts are programs that do what programs should not do.
const naughtyScripts = `#!/bin/sh
head() { printf 'Content-Type: text/plain\n\n'; }
case $PATH_INFO in
/echo) head; cat;;
/hold) head; sleep 20 & ;; # a child that keeps the output open
/deaf) trap '' TERM; head; sleep 0.2; sleep 0.2;;
/closes) head; exec >&- 2>&-; sleep 0.2;;
/killed) head; kill -9 $$;;
/stops) head; kill -STOP $$;;
/large) head; head -c 300000 /dev/zero;;
/short) printf 'Content-Length: 100\n\nshort';;
/silent) exit 3;;
/halfhead) printf 'Content-Type: text';;
/nohead) echo 'no such table: users';;
/stderr) head; head -c 200000 /dev/zero >&2;;
/drips) head; for i in 1 2 3 4 5; do echo $i; sleep 0.01; done;;
/unread) exec <&-; head; echo unread;;
esac
`

// TestStressCGI lets naughty programs respond to naughty callers, and looks at what is left over.
func TestStressCGI(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "naughty.sh")
	if err := os.WriteFile(path, []byte(naughtyScripts), 0o755); err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	before := balanceNow(temp)
	c := &cgi.Client{
		Path: path, MaxProcs: stressPlaces, Env: []string{ofTest + strconv.Itoa(os.Getpid())}, Logger: quiet,
		Grace: 20 * time.Millisecond, BodyTimeout: 300 * time.Millisecond, HeadTimeout: 5 * time.Second,
	}
	var runs, observed atomic.Int64
	c.Prepare = func(context.Context, *exec.Cmd, *gateway.Request) error { runs.Add(1); return nil }
	c.Observe = func(context.Context, *gateway.Exchange) { observed.Add(1) }
	kinds := []string{"/echo", "/hold", "/deaf", "/closes", "/killed", "/stops", "/large", "/short", "/silent", "/halfhead", "/nohead", "/stderr", "/drips", "/unread"}
	stress(t, c, stressPlaces, func(rnd *rand.Rand) { callNaughtily(t, c, rnd, kinds[rnd.IntN(len(kinds))]) })
	settled(t, before, temp)
	if s := c.Stats(); s.InFlight != 0 || s.Waiting != 0 || observed.Load() < runs.Load() || runs.Load() == 0 {
		t.Errorf("%+v, %d runs, observed %d", s, runs.Load(), observed.Load())
	}
	t.Logf("%d runs", runs.Load())
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
func callNaughtily(t *testing.T, c gateway.RoundTripper, rnd *rand.Rand, path string) {
	ctx, cancel := context.WithTimeout(t.Context(), conformance.Limit)
	defer cancel()
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
		if ctx.Err() == context.DeadlineExceeded {
			t.Errorf("%s: hung: %v", path, err)
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
