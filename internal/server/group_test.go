package server

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// A peer that is refused gives its place back.
func TestRefusedPeers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var g Group
	over := make(chan error, 1)
	go func() {
		over <- g.Serve(l, Options{
			MaxConns: 2, Logger: slog.New(slog.DiscardHandler), Observer: new(Observer), Peers: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
			Serve: func(c net.Conn, ended func(error)) { ended(c.Close()) },
		})
	}()
	for i := range 5 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("peer %d: %v", i, err)
		}
		c.Close()
	}
	g.Close()
	if err := <-over; !errors.Is(err, gateway.ErrServerClosed) {
		t.Errorf("got %v", err)
	}
}

// A fakeConn counts sweeps.
type fakeConn struct {
	listed atomic.Bool
	swept  atomic.Int64
	busy   atomic.Bool
}

func (c *fakeConn) Stop()                {}
func (c *fakeConn) Close()               {}
func (c *fakeConn) Listed() *atomic.Bool { return &c.listed }

func (c *fakeConn) Sweep() bool {
	c.swept.Add(1)
	return c.busy.Load()
}

// TestSweepVisitsBusyConns checks that idle connections cost nothing while a handler runs.
func TestSweepVisitsBusyConns(t *testing.T) {
	var g Group
	idle := make([]fakeConn, 100)
	for i := range idle {
		g.Add(&idle[i])
	}
	busy := new(fakeConn)
	g.Add(busy)
	for round := range int64(3) {
		busy.busy.Store(true)
		before := busy.swept.Load()
		g.Busy(busy)
		for busy.swept.Load() < before+3 {
			time.Sleep(time.Millisecond)
		}
		busy.busy.Store(false)
		for busy.listed.Load() {
			time.Sleep(time.Millisecond)
		}
		if after := busy.swept.Load(); after < before+4 {
			t.Errorf("round %d: swept %d times", round, after-before)
		}
	}
	for i := range idle {
		if n := idle[i].swept.Load(); n > 0 {
			t.Errorf("an idle connection was swept %d times", n)
		}
		g.Remove(&idle[i])
	}
	g.Remove(busy)
}

// TestShutdownWaitsForAcceptedConns checks that Shutdown waits for a connection that was accepted
// and is not in the group yet.
func TestShutdownWaitsForAcceptedConns(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var g Group
	accepted, proceed := make(chan struct{}), make(chan struct{})
	go g.Serve(l, Options{
		MaxConns: 2, Logger: slog.New(slog.DiscardHandler), Observer: new(Observer),
		Serve: func(c net.Conn, ended func(error)) {
			close(accepted)
			<-proceed
			fake := new(fakeConn)
			if !g.AddAccepted(fake) {
				t.Error("the connection is refused")
			}
			g.Remove(fake)
			ended(c.Close())
		},
	})
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-accepted
	down := make(chan error, 1)
	go func() { down <- g.Shutdown(t.Context()) }()
	select {
	case <-down:
		t.Error("Shutdown does not wait")
		down <- nil
	case <-time.After(100 * time.Millisecond): // it has closed the listener by now
	}
	close(proceed)
	if err := <-down; err != nil {
		t.Error(err)
	}
}
