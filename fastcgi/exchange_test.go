package fastcgi_test

import (
	"context"
	"io"
	"net"
	"testing"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

// TestPanicInLastLine has Stderr panic at a line without an end, which it receives when the exchange
// has failed. The connection is closed by then, and its place is free again.
func TestPanicInLastLine(t *testing.T) {
	closed := make(chan struct{}, 3)
	addr := script(t, func(c net.Conn) {
		var req gateway.Request
		fastcgi.NewReader(c).ReadRequest(&req)
		io.WriteString(c, rec(fastcgi.TypeStderr, 1, "no end")+rec(fastcgi.TypeStdout, 1, "no head\r\n\r\n"))
		io.Copy(io.Discard, c)
		closed <- struct{}{}
	})
	c := &fastcgi.Client{Addr: addr, MaxConns: 1, Logger: quiet, Stderr: func(context.Context, []byte) { panic("of the caller") }}
	for range 3 {
		func() {
			defer func() {
				if v := recover(); v != "of the caller" {
					t.Errorf("recovered %v", v)
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			err := c.RoundTrip(ctx, request(t, "GET", ""), new(gateway.Response))
			t.Errorf("no panic: %v", err)
		}()
		<-closed
	}
	if s := c.Stats(); s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
}
