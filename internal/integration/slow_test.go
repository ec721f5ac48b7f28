package integration_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

// behindSlowClients puts a Proxy before php-fpm with four children, and lets fifty clients send
// slowly and fifty read slowly. It returns the URL.
func behindSlowClients(t testing.TB) string {
	t.Helper()
	socket, root := startPHP(t, 4, "")
	c := &fastcgi.Client{Addr: "unix:" + socket, MaxConns: 4, Logger: quiet}
	web := httptest.NewServer(&gatewayhttp.Proxy{
		Backend: c, Logger: quiet, ReadAhead: 16 << 20,
		Mapping: &gatewayhttp.Mapping{Root: root, Body: gatewayhttp.SpoolBody, Spool: gateway.Spool{Dir: t.TempDir()}},
	})
	t.Cleanup(web.Close)
	t.Cleanup(web.CloseClientConnections)
	for range 50 {
		for _, request := range []string{
			"POST /index.php/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 1000), // and no more
			"GET /index.php/duplex HTTP/1.1\r\nHost: x\r\n\r\n",                                                       // and nothing is read
		} {
			conn, err := net.Dial("tcp", web.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			conn.(*net.TCPConn).SetReadBuffer(4 << 10)
			t.Cleanup(func() { conn.Close() })
			io.WriteString(conn, request)
		}
	}
	return web.URL
}

// TestSlowClients checks that a client is served while a hundred slow ones are.
func TestSlowClients(t *testing.T) {
	url := behindSlowClients(t)
	ctx, cancel := context.WithTimeout(t.Context(), conformance.Limit)
	defer cancel()
	for range 10 {
		r, err := http.NewRequestWithContext(ctx, "GET", url+"/index.php/missing", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); string(b) != "not here" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		res.Body.Close()
	}
}

// BenchmarkSlowClients measures the time of a GET beside them.
func BenchmarkSlowClients(b *testing.B) {
	url := behindSlowClients(b)
	for b.Loop() {
		res, err := http.Get(url + "/index.php/missing")
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
}
