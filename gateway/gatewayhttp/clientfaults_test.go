package gatewayhttp_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

// TestClientOddLengths reads responses whose fields net/http understands in another way than they
// are followed.
func TestClientOddLengths(t *testing.T) {
	for name, fields := range map[string]string{
		"a folded length [365 F67]":   "Content-Length:\r\n 2\r\n",
		"a folded encoding [365 F67]": "Transfer-Encoding:\r\n chunked\r\n",
		"many digits [365 F67]":       "Content-Length: 00000000000000000000002\r\n",
		"many spaces [365 F67]":       "Transfer-Encoding:" + strings.Repeat(" ", 300) + "chunked\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			addr, _ := rawServer(t, "HTTP/1.1 200 OK\r\n"+fields+"\r\nok")
			if o := conformance.Ask(t, &gatewayhttp.Client{Addr: addr}, gatewaytest.NewRequest("GET", "/", nil)); !errors.Is(o.Err, gateway.ErrMalformed) {
				t.Errorf("%q, %v", o.Body, o.Err)
			}
		})
	}
}

// TestClientRewriteOfKey has Rewrite add a field for which http.Transport sends a request again.
func TestClientRewriteOfKey(t *testing.T) {
	t.Run("a POST is sent once [370]", func(t *testing.T) {
		var received atomic.Int64
		addr := conformance.Script(t, func(c net.Conn) {
			in := bufio.NewReader(c)
			for i := range 2 {
				if _, err := readHead(in); err != nil {
					return
				}
				if received.Add(1); i == 0 {
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			}
		})
		c := &gatewayhttp.Client{Addr: addr, Rewrite: func(out *http.Request, _ *gateway.Request) error {
			out.Header.Set("Idempotency-Key", "1")
			return nil
		}}
		for range 2 {
			conformance.Ask(t, c, gatewaytest.NewRequest("POST", "/", nil))
		}
		if n := received.Load(); n != 2 {
			t.Errorf("2 POSTs were received as %d", n)
		}
	})
}

// TestClientStreamWrite writes to a server that has reset the connection after its 101.
func TestClientStreamWrite(t *testing.T) {
	addr := conformance.Script(t, func(c net.Conn) {
		readHead(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		c.(*net.TCPConn).SetLinger(0)
		time.Sleep(50 * time.Millisecond)
	})
	c := &gatewayhttp.Client{Addr: addr, SendTimeout: conformance.Limit, HeadTimeout: conformance.Limit}
	r := gatewaytest.NewRequest("GET", "/", nil)
	r.Upgrade = "websocket"
	var res gateway.Response
	if err := c.RoundTrip(t.Context(), r, &res); err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	begun := time.Now()
	for err := error(nil); err == nil; time.Sleep(time.Millisecond) {
		_, err = res.Body.(gateway.Stream).Write([]byte("hello"))
	}
	if took := time.Since(begun); took > conformance.Limit/2 {
		t.Errorf("after %v", took)
	}
}

// TestClientTrickle sends bytes that are not of the body within BodyTimeout of each other.
func TestClientTrickle(t *testing.T) {
	addr := conformance.Script(t, func(c net.Conn) {
		readHead(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;")
		for err := error(nil); err == nil; time.Sleep(20 * time.Millisecond) {
			_, err = io.WriteString(c, "a")
		}
	})
	o := conformance.Ask(t, &gatewayhttp.Client{Addr: addr, BodyTimeout: 200 * time.Millisecond}, gatewaytest.NewRequest("GET", "/", nil))
	if e, ok := errors.AsType[*gateway.Error](o.Err); !ok || e.Phase != gateway.PhaseBody || !e.Timeout() {
		t.Errorf("%v", o.Err)
	}
}

// TestClientClosedEarly closes bodies that have arrived and were not read.
func TestClientClosedEarly(t *testing.T) {
	t.Run("the connection is kept [400]", func(t *testing.T) {
		addr, _ := rawServer(t, "HTTP/1.1 503 X\r\nContent-Length: 4\r\nX: Content-Length: 0\r\n\r\nbusy")
		c := &gatewayhttp.Client{Addr: addr, IdleConnTimeout: time.Minute}
		for range 5 {
			var res gateway.Response
			if err := c.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/", nil), &res); err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
		}
		if s := c.Stats(); s.Dialed > 2 || s.InFlight != 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("a panic of Observe leaves nothing", func(t *testing.T) {
		addr, _ := rawServer(t, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
		c := &gatewayhttp.Client{Addr: addr, MaxConns: 1, Observe: func(context.Context, *gateway.Exchange) { panic("of Observe") }}
		for range 3 {
			var res gateway.Response
			if err := c.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/", nil), &res); err != nil {
				t.Fatal(err)
			}
			func() {
				defer func() { recover() }()
				res.Body.Close()
			}()
		}
		if s := c.Stats(); s.InFlight != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestClientBodyIsTheCallersAgain reuses a body in memory after a response that came early.
func TestClientBodyIsTheCallersAgain(t *testing.T) {
	addr := conformance.Script(t, func(c net.Conn) {
		readHead(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 413 X\r\nContent-Length: 0\r\n\r\n")
		time.Sleep(10 * time.Millisecond)
	})
	c := &gatewayhttp.Client{Addr: addr}
	data := strings.Repeat("x", 4<<20)
	body := strings.NewReader(data)
	for range 10 {
		r := gatewaytest.NewRequest("POST", "/", nil)
		r.Body, r.ContentLength = body, int64(len(data))
		conformance.Ask(t, c, r)
		body.Reset(data) // the race detector sees another reader
	}
}
