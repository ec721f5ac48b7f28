package server

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
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
			MaxConns: 2, Logger: slog.New(slog.DiscardHandler), Peers: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
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
