package conformance

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// An Observe is the function of a server.
type Observe func(ctx context.Context, r *gateway.Request, x *gateway.ServerExchange)

// An ObserveKit is what TestObserve needs of a protocol.
type ObserveKit struct {
	NewServer func(h gateway.Handler, maxRequests int, observe Observe) ObservedServer
	NewClient func(addr string) gateway.RoundTripper
	Head      func(nv ...string) string // a request, on a connection of its own
	Malformed string                    // what is no message of the protocol
	Stderr    string                    // in the log, of "no end" that GET /stderr writes to STDERR; "" means nothing
}

// An ObservedServer is a server with Stats.
type ObservedServer interface {
	Server
	Stats() gateway.ServerStats
}

// A seen is what Observe was told.
type seen struct {
	gateway.ServerExchange
	path  string
	value any   // of the context
	done  error // its Err
}

// An observed is a server and what its Observe was told.
type observed struct {
	ObservedServer
	addr string
	kit  ObserveKit

	mu  sync.Mutex
	all []seen
}

func observe(t *testing.T, k ObserveKit, h gateway.Handler, maxRequests int) *observed {
	t.Helper()
	o := &observed{kit: k}
	o.ObservedServer = k.NewServer(h, maxRequests, func(ctx context.Context, r *gateway.Request, x *gateway.ServerExchange) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.all = append(o.all, seen{*x, r.Path(), ctx.Value(contextKey("conn")), ctx.Err()})
	})
	l := listen(t)
	o.addr = l.Addr().String()
	go o.Serve(l)
	t.Cleanup(func() { o.Close() })
	return o
}

// wait waits for n calls of Observe and returns the last.
func (o *observed) wait(t *testing.T, n int) seen {
	t.Helper()
	for end := time.Now().Add(Limit); ; time.Sleep(time.Millisecond) {
		o.mu.Lock()
		all := o.all
		o.mu.Unlock()
		if len(all) >= n && o.Stats().InFlight == 0 {
			return all[n-1]
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d calls of Observe", len(all), n)
		}
	}
}

// raw sends input on a connection of its own, and returns the response.
func (o *observed) raw(t *testing.T, input string) string {
	t.Helper()
	return PlayReset(t, Dial(t, o.addr), input)
}

// TestObserve checks Stats and Observe.
func TestObserve(t *testing.T, k ObserveKit) {
	t.Run("outcomes [468 469]", func(t *testing.T) { outcomes(t, k) })
	t.Run("refusals [466 468]", func(t *testing.T) { refusals(t, k) })
	t.Run("a panic in Observe [469]", func(t *testing.T) { panicInObserve(t, k) })
	t.Run("counters [466 467]", func(t *testing.T) { counters(t, k) })
	t.Run("a connection that was taken over [466]", func(t *testing.T) { takenOver(t, k) })
}

// observable is the handler of these tests.
func observable(w gateway.ResponseWriter, r *gateway.Request) error {
	switch r.Path() {
	case "/error":
		return errBroken
	case "/late":
		io.WriteString(w, "part")
		w.Flush()
		return errBroken
	case "/panic":
		panic("of the handler")
	case "/stderr":
		io.WriteString(w.Stderr(), "no end")
	case "/echo":
		_, err := io.Copy(w, r.Body)
		return err
	case "/context":
		r.SetContext(context.WithValue(r.Context(), contextKey("conn"), "set"))
	case "/disconnect", "/close":
		<-r.Context().Done()
		return context.Cause(r.Context())
	}
	_, err := io.WriteString(w, "ok")
	return err
}

var errBroken = errors.New("broken")

func outcomes(t *testing.T, k ObserveKit) {
	o := observe(t, k, gateway.HandlerFunc(observable), 0)
	c := k.NewClient(o.addr)
	n := 0
	for _, e := range []struct {
		path           string
		status         int
		received, sent int64
		err            error
	}{
		{"/", 200, 0, 2, nil},
		{"/echo", 200, 5, 5, nil},
		{"/context", 200, 0, 2, nil},
		{"/error", 500, 0, 0, errBroken},
		{"/late", 200, 0, 4, errBroken},
		{"/panic", 500, 0, 0, gateway.ErrPanic},
	} {
		r := request("POST", e.path, "")
		if e.path == "/echo" {
			r = request("POST", e.path, "hello")
		}
		Ask(t, c, r)
		n++
		x := o.wait(t, n)
		if x.path != e.path || x.Status != e.status || x.Received != e.received || x.Sent != e.sent || !errors.Is(x.Err, e.err) || (x.Err == nil) != (e.err == nil) || x.Refused || x.Hijacked {
			t.Errorf("%s: %+v", e.path, x)
		}
		if x.Start.IsZero() || x.Head < 0 || x.FirstByte < x.Head || x.Total < x.FirstByte {
			t.Errorf("%s: head %v, first byte %v, total %v", e.path, x.Head, x.FirstByte, x.Total)
		}
		if (e.path == "/context") != (x.value == "set") || e.path != "/context" && x.done != nil {
			t.Errorf("%s: the context has %v, %v", e.path, x.value, x.done)
		}
	}
	conn := Dial(t, o.addr)
	io.WriteString(conn, k.Head("SCRIPT_NAME", "/disconnect"))
	waitInFlight(t, o)
	conn.SetLinger(0)
	conn.Close()
	n++
	if x := o.wait(t, n); !errors.Is(x.Err, gateway.ErrDisconnected) {
		t.Errorf("disconnect: %+v", x)
	}
	conn = Dial(t, o.addr)
	defer conn.Close()
	io.WriteString(conn, k.Head("SCRIPT_NAME", "/close"))
	waitInFlight(t, o)
	o.Close()
	n++
	if x := o.wait(t, n); !errors.Is(x.Err, gateway.ErrServerClosed) {
		t.Errorf("Close: %+v", x)
	}
	if s := o.Stats(); s.Panics != 1 || s.Aborted != 1 || s.Received != 5 || s.Sent != 13 || s.Requests != uint64(n) || s.Refused+s.Malformed != 0 {
		t.Errorf("%+v", s)
	}
}

func waitInFlight(t *testing.T, o *observed) {
	t.Helper()
	for i := 0; o.Stats().InFlight == 0; i++ {
		if time.Sleep(time.Millisecond); i == 5000 {
			t.Fatal("the request does not begin")
		}
	}
}

func refusals(t *testing.T, k ObserveKit) {
	t.Run("what breaks a rule", func(t *testing.T) {
		o := observe(t, k, gateway.HandlerFunc(observable), 0)
		o.raw(t, k.Head("SCRIPT_NAME", "/a", "HTTP_X", "a\rb"))
		if x := o.wait(t, 1); x.Status != 400 || !x.Refused || !errors.Is(x.Err, gateway.ErrParam) {
			t.Errorf("%+v", x)
		}
		o.raw(t, k.Malformed)
		o.raw(t, "")
		for i := 0; o.Stats().Malformed < 2 || o.Stats().Open > 0; i++ {
			if time.Sleep(time.Millisecond); i == 5000 {
				t.Fatalf("%+v", o.Stats())
			}
		}
		if s := o.Stats(); s.Requests != 1 || s.Malformed != 2 || s.Accepted != 3 || s.Refused != 0 || len(o.all) != 1 {
			t.Errorf("%+v, %d calls of Observe", s, len(o.all))
		}
	})
	t.Run("no handler", func(t *testing.T) {
		o := observe(t, k, nil, 0)
		o.raw(t, k.Head("SCRIPT_NAME", "/a"))
		if x := o.wait(t, 1); x.Status != 501 || !x.Refused || x.Err == nil {
			t.Errorf("%+v", x)
		}
		if s := o.Stats(); s.Refused != 1 || s.Requests != 1 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("MaxRequests", func(t *testing.T) {
		o := observe(t, k, gateway.HandlerFunc(observable), 1)
		conn := Dial(t, o.addr)
		io.WriteString(conn, k.Head("SCRIPT_NAME", "/disconnect"))
		waitInFlight(t, o)
		if got := o.raw(t, k.Head("SCRIPT_NAME", "/b")); !strings.Contains(got, "503") {
			t.Errorf("%q", got)
		}
		for i := 0; o.Stats().Refused == 0; i++ {
			if time.Sleep(time.Millisecond); i == 5000 {
				t.Fatalf("%+v", o.Stats())
			}
		}
		conn.Close()
		o.wait(t, 2)
		if x := o.all[0]; x.Status != 503 || !x.Refused || !errors.Is(x.Err, gateway.ErrRefused) {
			t.Errorf("%+v", x)
		}
	})
}

func panicInObserve(t *testing.T, k ObserveKit) {
	calls := make(chan struct{}, 10)
	s := k.NewServer(gateway.HandlerFunc(observable), 0, func(context.Context, *gateway.Request, *gateway.ServerExchange) {
		calls <- struct{}{}
		panic("of Observe")
	})
	l := listen(t)
	go s.Serve(l)
	defer s.Close()
	for range 3 {
		if o := Ask(t, k.NewClient(l.Addr().String()), get("/")); o.Err != nil || o.Body != "ok" {
			t.Errorf("%q, %v", o.Body, o.Err)
		}
		<-calls
	}
}

// takenOver checks that a connection that Hijack took is neither open nor idle, and that another is
// still both.
func takenOver(t *testing.T, k ObserveKit) {
	held, release := make(chan bool, 1), make(chan struct{})
	o := observe(t, k, gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		s, err := w.Hijack()
		held <- err == nil
		<-release
		if err == nil {
			s.Close()
		}
		return err
	}), 0)
	defer Dial(t, o.addr).Close()
	conn := Dial(t, o.addr)
	defer conn.Close()
	io.WriteString(conn, k.Head("SCRIPT_NAME", "/", "HTTP_UPGRADE", "websocket", "HTTP_CONNECTION", "Upgrade"))
	hijacked := <-held
	for i := 0; o.Stats().Idle != 1; i++ {
		if time.Sleep(time.Millisecond); i == 1000 {
			t.Errorf("%+v", o.Stats())
			break
		}
	}
	if s := o.Stats(); hijacked && (s.Open != 1 || s.InFlight != 1) {
		t.Errorf("%+v", s)
	}
	close(release)
	if x := o.wait(t, 1); x.Hijacked != hijacked {
		t.Errorf("%+v", x)
	}
	if s := o.Stats(); s.Idle > s.Open {
		t.Errorf("%+v", s)
	}
}

// TestLogs checks what a server logs. newServer returns one with that logger.
func TestLogs(t *testing.T, k ObserveKit, newServer func(h gateway.Handler, l *slog.Logger) Server) {
	for name, c := range map[string]struct{ input, want string }{
		"a handler's error":  {k.Head("REQUEST_METHOD", "GET", "SCRIPT_NAME", "/error", "QUERY_STRING", "secret", "REMOTE_ADDR", "192.0.2.1"), `level=ERROR msg="handler failed" status=500 error=broken method=GET path=/error remote=192.0.2.1`},
		"a panic":            {k.Head("REQUEST_METHOD", "GET", "SCRIPT_NAME", "/panic"), `level=ERROR msg="handler panicked" panic="of the handler" stack=`},
		"what breaks a rule": {k.Head("REQUEST_METHOD", "GET", "SCRIPT_NAME", "/a", "HTTP_X", "a\rb"), `level=INFO msg="request refused" status=400`},
		"a line of STDERR":   {k.Head("REQUEST_METHOD", "GET", "SCRIPT_NAME", "/stderr"), k.Stderr},
		"HTTP on the port":   {"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + strings.Repeat("x", 30_000), `level=WARN msg="HTTP on a port of `},
	} {
		t.Run(name, func(t *testing.T) {
			log := new(logBuffer)
			s := newServer(gateway.HandlerFunc(observable), slog.New(slog.NewTextHandler(log, nil)))
			l := listen(t)
			go s.Serve(l)
			PlayReset(t, Dial(t, l.Addr().String()), c.input)
			s.Shutdown(t.Context())
			if got := log.String(); !strings.Contains(got, c.want) || strings.Contains(got, "secret") {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// A logBuffer is written by several goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// counters sends requests from several clients at once, and compares the sums.
func counters(t *testing.T, k ObserveKit) {
	o := observe(t, k, gateway.HandlerFunc(observable), 0)
	c := k.NewClient(o.addr)
	const clients, each = 8, 50
	var sending sync.WaitGroup
	for range clients {
		sending.Go(func() {
			for i := range each {
				path := []string{"/", "/echo", "/error", "/panic"}[i%4]
				Ask(t, c, request("POST", path, "hello"))
			}
		})
	}
	sending.Wait()
	o.wait(t, clients*each)
	if closer, ok := c.(io.Closer); ok {
		closer.Close()
	}
	o.Close()
	var received, sent int64
	var panics uint64
	for _, x := range o.all {
		received += x.Received
		sent += x.Sent
		if errors.Is(x.Err, gateway.ErrPanic) {
			panics++
		}
	}
	for i := 0; o.Stats().Open > 0 && i < 5000; i++ {
		time.Sleep(time.Millisecond)
	}
	s := o.Stats()
	if len(o.all) != clients*each || s.Requests != clients*each || s.InFlight != 0 || s.Received != uint64(received) || s.Sent != uint64(sent) || s.Panics != panics || s.Open != 0 || s.Idle != 0 {
		t.Errorf("%+v; %d calls, %d bytes received, %d sent, %d panics", s, len(o.all), received, sent, panics)
	}
}
