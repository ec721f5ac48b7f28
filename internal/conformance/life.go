package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

// A Listener is a server that opens its own listener.
type Listener interface {
	Run(ctx context.Context, addr string) error
	ListenAndServe(addr string) error
	Shutdown(ctx context.Context) error
}

type contextKey string

// Base and PerConn are a BaseContext and a ConnContext.
func Base(l net.Listener) context.Context {
	return context.WithValue(context.Background(), contextKey("listener"), l.Addr().String())
}

func PerConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, contextKey("conn"), c.LocalAddr().String())
}

// Life makes a server of a protocol listen, serve and shut down. newServer returns one with
// SocketMode 0600, Base and PerConn.
func Life(t *testing.T, protocol string, newServer func(h gateway.Handler) Listener, newClient func(addr string) gateway.RoundTripper) {
	t.Run("Run [160 290]", func(t *testing.T) { testRun(t, newServer, newClient) })
	t.Run("Shutdown that is late", func(t *testing.T) { testLateShutdown(t, newServer, newClient) })
	t.Run("no listener", func(t *testing.T) {
		s := newServer(Handlers["echo"])
		for _, listen := range []func(string) error{s.ListenAndServe, func(addr string) error { return s.Run(t.Context(), addr) }} {
			if err := listen("nowhere"); err == nil || !strings.HasPrefix(err.Error(), protocol+": ") {
				t.Errorf("got %v", err)
			}
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := s.ListenAndServe("127.0.0.1:0"); !errors.Is(err, gateway.ErrServerClosed) {
			t.Errorf("after Shutdown: %v", err)
		}
	})
}

func testRun(t *testing.T, newServer func(h gateway.Handler) Listener, newClient func(addr string) gateway.RoundTripper) {
	path := socket(t)
	begun := make(chan struct{}, 1)
	s := newServer(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		begun <- struct{}{}
		time.Sleep(50 * time.Millisecond)
		_, err := fmt.Fprintf(w, "finished on %v, %v", r.Context().Value(contextKey("listener")), r.Context().Value(contextKey("conn")))
		return err
	}))
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- s.Run(ctx, "unix:"+path) }()
	idle := await(t, path)
	defer idle.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 && runtime.GOOS == "linux" {
		t.Errorf("%v, %v", info, err)
	}
	got := make(chan *Outcome, 1)
	go func() { got <- Ask(t, newClient("unix:"+path), gatewaytest.NewRequest("GET", "/", nil)) }()
	<-begun
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	stop()
	if o := <-got; o.Err != nil || o.Body != "finished on "+path+", "+path {
		t.Errorf("%q, %v", o.Body, o.Err)
	}
	if err := <-over; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

// testLateShutdown shuts down a server whose handler does not return.
func testLateShutdown(t *testing.T, newServer func(h gateway.Handler) Listener, newClient func(addr string) gateway.RoundTripper) {
	path := socket(t)
	begun, release := make(chan struct{}, 1), make(chan struct{})
	defer close(release)
	s := newServer(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		begun <- struct{}{}
		<-release
		return nil
	}))
	over := make(chan error, 1)
	go func() { over <- s.ListenAndServe("unix:" + path) }()
	await(t, path).Close()
	got := make(chan *Outcome, 1)
	go func() { got <- Ask(t, newClient("unix:"+path), gatewaytest.NewRequest("GET", "/", nil)) }()
	<-begun
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	if o := <-got; o.Err == nil {
		t.Errorf("a response that was not sent: %q", o.Body)
	}
	if err := <-over; !errors.Is(err, gateway.ErrServerClosed) {
		t.Errorf("ListenAndServe: %v", err)
	}
}

// socket returns a path short enough for a Unix socket.
func socket(t *testing.T) string {
	dir, err := os.MkdirTemp("", "gh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir + "/s"
}

// await connects as soon as a server listens.
func await(t *testing.T, path string) net.Conn {
	t.Helper()
	for range 1000 {
		if c, err := net.Dial("unix", path); err == nil {
			return c
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("no server listens")
	return nil
}
