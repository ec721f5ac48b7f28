package scgi_test

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/scgi"
)

// When the peer resets a connection in the middle of an upload that the handler does not read, the write of the response
// fails, and everything that belongs to the connection is freed.
func TestResetDuringUnreadUploadLeavesNothing(t *testing.T) {
	returned := make(chan struct{})
	gone := make(chan struct{})
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		_ = r.Context().Done() // starts the watcher, which queues 64 KiB of the body and then waits for room
		<-gone
		return nil
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	before := runtime.NumGoroutine()
	const rounds = 20
	for range rounds {
		peer := dial(t, l.Addr().String())
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer func() { returned <- struct{}{} }()
			s.ServeConn(context.Background(), c)
		}()
		io.WriteString(peer, head("CONTENT_LENGTH", "1000000")+strings.Repeat("b", 200000))
		time.Sleep(10 * time.Millisecond)
		peer.SetLinger(0)
		peer.Close()
		time.Sleep(5 * time.Millisecond)
		gone <- struct{}{}
		<-returned
	}
	s.Close()
	for end := time.Now().Add(limit); runtime.NumGoroutine() > before+1; time.Sleep(time.Millisecond) { // the sweeper naps
		if time.Now().After(end) {
			t.Fatalf("%d goroutines are left of %d connections", runtime.NumGoroutine()-before, rounds)
		}
	}
}

// shutdownConn is a connection on which Shutdown comes between the arrival of a request and the return of the Read that
// takes it.
type shutdownConn struct {
	net.Conn
	shutdown func()
	once     sync.Once
	stopped  chan struct{} // receives when Shutdown touches the connection
}

func (c *shutdownConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.once.Do(func() {
		go c.shutdown()
		<-c.stopped
	})
	return n, err
}

func (c *shutdownConn) SetReadDeadline(t time.Time) error {
	c.touch()
	return c.Conn.SetReadDeadline(t)
}

func (c *shutdownConn) Close() error {
	c.touch()
	return c.Conn.Close()
}

func (c *shutdownConn) touch() {
	select {
	case c.stopped <- struct{}{}:
	default:
	}
}

// A request that has been read when Shutdown comes is served.
func TestShutdownServesWhatWasRead(t *testing.T) {
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		_, err := io.WriteString(w, "ok")
		return err
	})
	ours, theirs := net.Pipe()
	down := make(chan error, 1)
	c := &shutdownConn{Conn: theirs, stopped: make(chan struct{}), shutdown: func() { down <- s.Shutdown(t.Context()) }}
	served := make(chan error, 1)
	go func() { served <- s.ServeConn(t.Context(), c) }()
	ours.SetDeadline(time.Now().Add(limit))
	go io.WriteString(ours, head("REQUEST_METHOD", "GET"))
	b, err := io.ReadAll(ours)
	if err != nil || !strings.HasSuffix(string(b), "ok") {
		t.Errorf("got %q, %v", b, err)
	}
	if err := <-served; err != nil {
		t.Errorf("ServeConn: %v", err)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// Shutdown ends the wait of connections on which nothing was sent, without an error.
func TestShutdownEndsIdleConnections(t *testing.T) {
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error { return nil })
	ours, theirs := net.Pipe()
	defer ours.Close()
	served := make(chan error, 1)
	go func() { served <- s.ServeConn(t.Context(), theirs) }()
	time.Sleep(5 * time.Millisecond)
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case err := <-served:
		if err != nil && !errors.Is(err, gateway.ErrServerClosed) {
			t.Errorf("ServeConn: %v", err)
		}
	case <-time.After(limit):
		t.Error("the connection is still served")
	}
}

func TestSendTimeout(t *testing.T) {
	conformance.SendTimeout(t, func(dial func(context.Context) (net.Conn, error), timeout time.Duration) gateway.RoundTripper {
		return &scgi.Client{Dial: dial, SendTimeout: timeout}
	}, func(w io.Writer) { io.WriteString(w, "Status: 200 OK\r\nContent-Length: 5\r\n\r\nearly") })
}
