package conformance

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// A Server is a server of connections.
type Server interface {
	Serve(l net.Listener) error
	ServeConn(ctx context.Context, c net.Conn) error
	Shutdown(ctx context.Context) error
	Close() error
}

// A StopKit is what TestStops needs of a protocol.
type StopKit struct {
	NewServer func(h gateway.Handler, maxConns int) Server
	NewClient func(addr string) gateway.RoundTripper
	Request   string // a GET without a body, on a connection of its own

	// Upload is a POST with a body of size bytes, the same, and with more params (name, value).
	Upload func(size int, params ...string) string
}

// TestStops checks how a server stops, and that no connection can stop the others.
func TestStops(t *testing.T, k StopKit) {
	t.Run("a connection whose every method blocks", func(t *testing.T) { blockedConn(t, k, false) })
	t.Run("a connection whose every method blocks from the first call on", func(t *testing.T) { blockedConn(t, k, true) })
	t.Run("a connection without deadlines", func(t *testing.T) { noDeadlines(t, k) })
	t.Run("a request that arrives while the server stops", func(t *testing.T) { lateRequest(t, k) })
	t.Run("connections that wait to be accepted", func(t *testing.T) { lateConns(t, k) })
	t.Run("causes [479 480]", func(t *testing.T) { causes(t, k) })
	t.Run("MaxConns of two listeners", func(t *testing.T) { twoListeners(t, k) })
	t.Run("an upload that is refused early", func(t *testing.T) { earlyRefusal(t, k) })
	t.Run("a connection is closed once", func(t *testing.T) { closedOnce(t, k) })
}

var ok = gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
	_, err := io.WriteString(w, "ok")
	return err
})

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// A blocking is a connection that delivers a request, unless its deadlines block already, and whose
// other methods block then.
type blocking struct {
	net.Conn
	early   bool // the deadlines block
	release chan struct{}
	stuck   chan struct{} // closed by the first call that blocks
	once    sync.Once
}

func (b *blocking) block() {
	b.once.Do(func() { close(b.stuck) })
	<-b.release
}

func (b *blocking) Write(p []byte) (int, error)        { b.block(); return len(p), nil }
func (b *blocking) Close() error                       { b.block(); return b.Conn.Close() }
func (b *blocking) CloseWrite() error                  { b.block(); return nil }
func (b *blocking) SetWriteDeadline(t time.Time) error { b.block(); return nil }

func (b *blocking) SetReadDeadline(t time.Time) error {
	if b.early {
		b.block()
	}
	return b.Conn.SetReadDeadline(t)
}

func blockedConn(t *testing.T, k StopKit, early bool) {
	s := k.NewServer(ok, 0)
	l := listen(t)
	go s.Serve(l)
	ours, theirs := net.Pipe()
	b := &blocking{Conn: theirs, early: early, release: make(chan struct{}), stuck: make(chan struct{})}
	over := make(chan error, 1)
	go func() { over <- s.ServeConn(context.Background(), b) }()
	go io.WriteString(ours, k.Request)
	<-b.stuck
	for range 3 { // the sweeper comes by in between
		if o := Ask(t, k.NewClient(l.Addr().String()), get("/")); o.Err != nil || o.Body != "ok" {
			t.Errorf("another connection: %q, %v", o.Body, o.Err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
	close(b.release)
	ours.Close()
	<-over
}

// A timeless is a connection that has no deadlines.
type timeless struct{ net.Conn }

func (timeless) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (timeless) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (timeless) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

func noDeadlines(t *testing.T, k StopKit) {
	watched := gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		select { // the connection is read while the handler waits
		case <-r.Context().Done():
		case <-time.After(20 * time.Millisecond):
		}
		_, err := io.WriteString(w, "ok")
		return err
	})
	s := k.NewServer(watched, 0)
	ours, theirs := net.Pipe()
	defer ours.Close()
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.ServeConn(context.Background(), timeless{theirs})
	}()
	go io.WriteString(ours, k.Request)
	if b, _ := io.ReadAll(ours); len(b) == 0 {
		t.Error("no response")
	}
	<-over
}

// lateRequest sends a request on a connection that was accepted before Shutdown. On a machine that
// is busy elsewhere it may come too late, so one of ten must be served.
func lateRequest(t *testing.T, k StopKit) {
	served := 0
	for range 10 {
		s := k.NewServer(ok, 0)
		l := &noting{Listener: listen(t), accepted: make(chan struct{}, 10)}
		go s.Serve(l)
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		<-l.accepted
		down := make(chan error, 1)
		go func() { down <- s.Shutdown(t.Context()) }()
		time.Sleep(10 * time.Millisecond)
		if got := PlayReset(t, c.(*net.TCPConn), k.Request); strings.Contains(got, "\r\n\r\nok") {
			served++
		}
		if err := <-down; err != nil {
			t.Error(err)
		}
	}
	if served == 0 {
		t.Error("no request was served")
	}
}

// A noting is a listener that tells when it has accepted.
type noting struct {
	net.Listener
	accepted chan struct{}
}

func (n *noting) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	if err == nil {
		n.accepted <- struct{}{}
	}
	return c, err
}

// A slowListener takes its time, so that connections wait in its queue. Every eighth Accept comes
// after any deadline that Shutdown has set, as on a busy machine.
type slowListener struct {
	*net.TCPListener
	calls int
}

func (l *slowListener) Accept() (net.Conn, error) {
	l.calls++
	delay := 5 * time.Millisecond
	if l.calls%8 == 0 {
		delay = 50 * time.Millisecond
	}
	time.Sleep(delay)
	return l.TCPListener.Accept()
}

// lateConns connects and sends just before the server stops. What the kernel has accepted is
// served.
func lateConns(t *testing.T, k StopKit) {
	s := k.NewServer(ok, 0)
	l := &slowListener{TCPListener: listen(t).(*net.TCPListener)}
	go s.Serve(l)
	var conns []*net.TCPConn
	for range 20 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c.(*net.TCPConn))
		io.WriteString(c, k.Request)
	}
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(t.Context()) }()
	for _, c := range conns {
		if got := Play(t, c, ""); !strings.Contains(got, "\r\n\r\nok") {
			t.Errorf("responded %q", got)
		}
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
}

// A closeCounter counts calls of Close.
type closeCounter struct {
	net.Conn
	closed atomic.Int64
}

func (c *closeCounter) Close() error { c.closed.Add(1); return c.Conn.Close() }

func closedOnce(t *testing.T, k StopKit) {
	cut := gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		io.WriteString(w, "part")
		w.Flush()
		return errBroken
	})
	for name, c := range map[string]struct {
		handler gateway.Handler
		input   string
	}{"complete": {ok, k.Request}, "cut": {cut, k.Request}, "no request": {ok, ""}, "no message": {ok, "GET / HTTP/1.1\r\n\r\n"}} {
		ours, theirs := net.Pipe()
		conn := &closeCounter{Conn: theirs}
		over := make(chan struct{})
		go func() {
			defer close(over)
			k.NewServer(c.handler, 0).ServeConn(context.Background(), conn)
		}()
		go func() {
			io.WriteString(ours, c.input)
			io.Copy(io.Discard, ours)
		}()
		if c.input == "" {
			ours.Close()
		}
		<-over
		if n := conn.closed.Load(); n != 1 {
			t.Errorf("%s: closed %d times", name, n)
		}
		ours.Close()
	}
}

// earlyRefusal refuses an upload that its client sends to the end before it reads. The response is
// not lost to a reset.
func earlyRefusal(t *testing.T, k StopKit) {
	s := k.NewServer(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		w.WriteHeader(413)
		_, err := io.WriteString(w, "too large")
		return err
	}), 0)
	l := listen(t)
	go s.Serve(l)
	defer s.Close()
	refused := func(upload, want string) {
		c := Dial(t, l.Addr().String())
		if n, err := io.WriteString(c, upload); err != nil {
			t.Errorf("%s: after %d bytes: %v", want, n, err)
		}
		if b, err := io.ReadAll(c); !strings.Contains(string(b), want) || err != nil {
			t.Errorf("%q, %v, want %s", b, err, want)
		}
	}
	for range 5 {
		refused(k.Upload(8<<20), "too large")
		refused(k.Upload(8<<20, "HTTP_X", "a\nb"), "400") // by the server itself
	}
}

func twoListeners(t *testing.T, k StopKit) {
	begun, release := make(chan struct{}, 2), make(chan struct{})
	s := k.NewServer(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		begun <- struct{}{}
		<-release
		return nil
	}), 1)
	defer s.Close()
	first, second := listen(t), listen(t)
	go s.Serve(first)
	go s.Serve(second)
	var asked sync.WaitGroup
	for _, l := range []net.Listener{first, second} {
		asked.Go(func() {
			if o := Ask(t, k.NewClient(l.Addr().String()), get("/")); o.Err != nil {
				t.Error(o.Err)
			}
		})
	}
	<-begun
	select {
	case <-begun:
		t.Error("two connections are served")
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	asked.Wait()
}

// endings are the ways in which a request ends, and the cause that its context then has. A nil end
// means that the handler returns.
var endings = map[string]struct {
	end  func(t *testing.T, s Server, c net.Conn)
	want error
}{
	"the peer resets": {func(_ *testing.T, _ Server, c net.Conn) {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}, gateway.ErrDisconnected},
	endOfInput: {func(_ *testing.T, _ Server, c net.Conn) { c.(*net.TCPConn).CloseWrite() }, gateway.ErrDisconnected},
	"Close":    {func(_ *testing.T, s Server, _ net.Conn) { s.Close() }, gateway.ErrServerClosed},
	"Shutdown that is late": {func(t *testing.T, s Server, _ net.Conn) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s.Shutdown(ctx)
	}, gateway.ErrServerClosed},
	"the handler returns": {nil, context.Canceled},
}

const endOfInput = "the peer ends its input"

// causes checks why the context of a request is done.
func causes(t *testing.T, k StopKit) {
	for name, e := range endings {
		t.Run(name, func(t *testing.T) {
			got := make(chan context.Context, 1)
			s := k.NewServer(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
				ctx := r.Context()
				got <- ctx
				if e.end != nil {
					<-ctx.Done()
					io.WriteString(w, "ok") // may still arrive
				}
				return nil
			}), 0)
			l := listen(t)
			go s.Serve(l)
			defer s.Close()
			conn := Dial(t, l.Addr().String())
			defer conn.Close()
			io.WriteString(conn, k.Request)
			causeOf(t, <-got, e.want, func() {
				if e.end != nil {
					e.end(t, s, conn)
				}
			})
			if name != endOfInput {
				return
			}
			conn.SetDeadline(time.Now().Add(Limit))
			if b, err := io.ReadAll(conn); !strings.Contains(string(b), "\r\n\r\nok") || err != nil {
				t.Errorf("the response is lost: %q, %v", b, err)
			}
		})
	}
}

// causeOf calls end, and checks the cause of ctx and of contexts that are derived from it.
func causeOf(t *testing.T, ctx context.Context, want error, end func()) {
	timed, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	valued := context.WithValue(ctx, contextKey("key"), 1)
	without := context.WithoutCancel(ctx)
	end()
	<-ctx.Done()
	<-timed.Done()
	for _, ctx := range []context.Context{ctx, timed, valued} {
		if cause := context.Cause(ctx); cause != want || ctx.Err() != context.Canceled {
			t.Errorf("cause %v, error %v", cause, ctx.Err())
		}
	}
	if context.Cause(without) != nil {
		t.Errorf("WithoutCancel: %v", context.Cause(without))
	}
}
