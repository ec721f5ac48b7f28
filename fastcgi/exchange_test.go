package fastcgi_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

// TestPanicInLastLine has Stderr panic at a line without an end, which it receives when the
// exchange has failed. The connection is closed by then, and its place is free again.
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

// TestLinesNameTheRequest checks the record of a line of STDERR, of a body that is read late.
func TestLinesNameTheRequest(t *testing.T) {
	var log strings.Builder
	addr := gatewaytest.Start(t, &fastcgi.Server{Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		_, err := io.WriteString(w.Stderr(), "a warning\n")
		return err
	})})
	c := &fastcgi.Client{Addr: addr, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	r := gatewaytest.NewRequest("GET", "/path?secret", nil)
	var res gateway.Response
	if err := c.RoundTrip(t.Context(), r, &res); err != nil {
		t.Fatal(err)
	}
	r.Reset()
	io.ReadAll(res.Body)
	res.Body.Close()
	if want := `msg=application addr=` + addr + ` stderr="a warning" method=GET path=/path remote=127.0.0.1`; !strings.Contains(log.String(), want) || strings.Contains(log.String(), "secret") {
		t.Errorf("%q, want %q", log.String(), want)
	}
}
