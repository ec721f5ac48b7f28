package uwsgi_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

func TestClient(t *testing.T) {
	get := func() *gateway.Request { return gatewaytest.NewRequest("GET", "/", nil) }
	t.Run("uWSGI closes without a response [164 088]", func(t *testing.T) {
		c := &uwsgi.Client{Addr: responding(t, "")}
		o := conformance.Ask(t, c, get())
		if !errors.Is(o.Err, gateway.ErrNoResponse) || strings.Contains(o.Err.Error(), "4096") {
			t.Errorf("got %v", o.Err)
		}
		r := get()
		r.Params.Add("HTTP_X", strings.Repeat("v", 5000))
		o = conformance.Ask(t, c, r)
		if !errors.Is(o.Err, gateway.ErrNoResponse) || !strings.Contains(o.Err.Error(), "buffer-size is 4096") {
			t.Errorf("got %v", o.Err)
		}
	})
	t.Run("vars that do not fit are refused before dialing [162 F16]", func(t *testing.T) {
		c := &uwsgi.Client{Dial: func(context.Context) (net.Conn, error) {
			t.Error("dialed")
			return nil, io.EOF
		}}
		r := get()
		r.Params.Add("HTTP_X", strings.Repeat("v", 40000))
		r.Params.Add("HTTP_Y", strings.Repeat("v", 40000))
		o := conformance.Ask(t, c, r)
		if e, ok := errors.AsType[*gateway.Error](o.Err); !ok || e.Phase != gateway.PhaseRequest || gateway.ErrorStatus(e) != 431 {
			t.Errorf("got %v", o.Err)
		}
	})
	t.Run("one request per connection [168]", func(t *testing.T) {
		c := &uwsgi.Client{Addr: gatewaytest.Start(t, &uwsgi.Server{Handler: conformance.Handlers["echo"], Logger: quiet})}
		for range 3 {
			if o := conformance.Ask(t, c, get()); o.Err != nil {
				t.Error(o.Err)
			}
		}
		if s := c.Stats(); s.Dialed != 3 || s.Reused != 0 || s.Idle != 0 {
			t.Errorf("%+v", s)
		}
	})
	for _, c := range []struct {
		id, response string
		status       int
		body         string
	}{
		{"a status line [169]", "HTTP/1.0 404 NOT FOUND\r\nX: 1\r\n\r\nb", 404, "b"},
		{"fields [169]", "Status: 404 x\r\nX: 1\r\n\r\nb", 404, "b"},
		{"HTTP/2.0 [171]", "HTTP/2.0 202 A\r\nX: 1\r\n\r\nb", 202, "b"},
		{"HTTP/3.0 without a reason [171]", "HTTP/3.0 202\r\nX: 1\r\n\r\nb", 202, "b"},
		{"an invalid version [170 F20]", "HTTP/1.1x 200 OK\r\nX: 1\r\n\r\nb", 0, ""},
		{"HTTPS [170 F20]", "HTTPS/1 200 OK\r\nX: 1\r\n\r\nb", 0, ""},
		{"a field that begins so [170 F20]", "HT: v\r\nX: 1\r\n\r\nb", 200, "b"},
		{"HTTP and the end [170 F20]", "HTTP", 0, ""},
		{"chunks [173 253]", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n2;x=y\r\nod\r\n1\r\ny\r\n0\r\nA: 1\r\n\r\nmore", 200, "body"},
		{"chunks of HTTP/1.0 [173 253 F19]", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\n\r\n", 0, ""},
		{"chunks and a length [173 F19]", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\nb", 0, ""},
	} {
		t.Run(c.id, func(t *testing.T) {
			for i := 0; i <= len(c.response); i++ {
				addr := script(t, func(conn net.Conn) {
					var r gateway.Request
					uwsgi.NewReader(conn).ReadRequest(&r)
					io.WriteString(conn, c.response[:i])
					time.Sleep(time.Millisecond)
					io.WriteString(conn, c.response[i:])
				})
				o := conformance.Ask(t, &uwsgi.Client{Addr: addr}, get())
				if (o.Err != nil) != (c.status == 0) || o.Res.Status != c.status || o.Body != c.body {
					t.Errorf("cut at %d: %d %q, %v", i, o.Res.Status, o.Body, o.Err)
				}
			}
		})
	}
	t.Run("a 101 and the bytes that come with it [174]", func(t *testing.T) {
		addr := script(t, func(c net.Conn) {
			var r gateway.Request
			uwsgi.NewReader(c).ReadRequest(&r)
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\nearly")
			io.Copy(c, c)
		})
		c := &uwsgi.Client{Addr: addr, MaxConns: 1, HeadTimeout: limit, BodyTimeout: time.Nanosecond}
		r := get()
		r.Upgrade = "websocket"
		var res gateway.Response
		if err := c.RoundTrip(t.Context(), r, &res); err != nil || res.Status != 101 {
			t.Fatalf("%d, %v", res.Status, err)
		}
		s, ok := res.Body.(gateway.Stream)
		if !ok {
			t.Fatalf("a Body of type %T", res.Body)
		}
		io.WriteString(s, " and late")
		s.CloseWrite()
		if b, err := io.ReadAll(s); string(b) != "early and late" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		s.Close()
		s.Close()
		if st := c.Stats(); st.InFlight != 0 || st.Failed != 0 {
			t.Errorf("%+v", st)
		}
	})
	t.Run("a 101 to another protocol [175 F31]", func(t *testing.T) {
		for asked, token := range map[string]string{"": "websocket", "websocket": "h2c", "WebSocket": ""} {
			response := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: " + token + "\r\n\r\n"
			r := get()
			r.Upgrade = asked
			if o := conformance.Ask(t, &uwsgi.Client{Addr: responding(t, response)}, r); !errors.Is(o.Err, gateway.ErrMalformed) {
				t.Errorf("%q, %q: %v", asked, token, o.Err)
			}
		}
	})
	t.Run("Ping [176]", func(t *testing.T) {
		s := &uwsgi.Server{Ping: true, Logger: quiet}
		if warning, err := (&uwsgi.Client{Addr: gatewaytest.Start(t, s)}).Ping(t.Context()); warning != "" || err != nil {
			t.Errorf("%q, %v", warning, err)
		}
		pong := func(response string) *uwsgi.Client {
			return &uwsgi.Client{HeadTimeout: 50 * time.Millisecond, Addr: script(t, func(c net.Conn) {
				b := make([]byte, 4)
				if io.ReadFull(c, b); string(b) != "\x64\x00\x00\x00" {
					t.Errorf("pinged with % x", b)
				}
				io.WriteString(c, response)
				if response == "" {
					io.Copy(io.Discard, c)
				}
			})}
		}
		if warning, err := pong(packet(100, 1, "full")).Ping(t.Context()); warning != "full" || err != nil {
			t.Errorf("%q, %v", warning, err)
		}
		for response, want := range map[string]error{"\x64\x00\x00\x00": gateway.ErrMalformed, "\x64\x05\x00\x01ab": gateway.ErrTruncated, "\x64": io.ErrUnexpectedEOF} {
			if _, err := pong(response).Ping(t.Context()); !errors.Is(err, want) {
				t.Errorf("%q: %v", response, err)
			}
		}
		if e, _ := errors.AsType[*gateway.Error](second(pong("").Ping(t.Context()))); e == nil || !e.Timeout() {
			t.Errorf("no response: %v", e)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		silent := pong("")
		silent.HeadTimeout = 0
		if _, err := silent.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the context: %v", err)
		}
		if e, _ := errors.AsType[*gateway.Error](second(pong("\x64").Ping(t.Context()))); e == nil || !e.Sent || !e.Received || e.Phase != gateway.PhaseHead {
			t.Errorf("%+v", e)
		}
		if _, err := (&uwsgi.Client{Addr: gatewaytest.Start(t, &uwsgi.Server{Logger: quiet})}).Ping(t.Context()); !errors.Is(err, gateway.ErrNoResponse) {
			t.Errorf("got %v", err)
		}
		if e, _ := errors.AsType[*gateway.Error](second((&uwsgi.Client{Addr: "127.0.0.1:1"}).Ping(t.Context()))); e == nil || e.Phase != gateway.PhaseDial {
			t.Errorf("got %v", e)
		}
	})
	t.Run("uwsgi over TLS [177 F21]", func(t *testing.T) {
		ts := httptest.NewUnstartedServer(nil)
		ts.StartTLS() // for its certificate
		defer ts.Close()
		l, err := tls.Listen("tcp", "127.0.0.1:0", ts.TLS)
		if err != nil {
			t.Fatal(err)
		}
		s := &uwsgi.Server{Handler: conformance.Handlers["echo"], Logger: quiet}
		go s.Serve(l)
		defer s.Close()
		roots := x509.NewCertPool()
		roots.AddCert(ts.Certificate())
		dialer := &tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: "example.com"}}
		c := &uwsgi.Client{Dial: func(ctx context.Context) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", l.Addr().String())
		}}
		body := strings.Repeat("secret", 50000)
		if o := conformance.Ask(t, c, gatewaytest.NewRequest("POST", "/", []byte(body))); o.Err != nil || o.Body != body {
			t.Errorf("%d bytes, %v", len(o.Body), o.Err)
		}
		// Bytes sent without TLS are neither a request nor a response.
		plain := dial(t, l.Addr().String())
		io.WriteString(plain, head("A", "v"))
		if b, _ := io.ReadAll(plain); bytes.Contains(b, []byte("HTTP")) {
			t.Errorf("response %q", b)
		}
		clear := script(t, func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\ninjected")
			io.Copy(io.Discard, c)
		})
		c = &uwsgi.Client{Dial: func(ctx context.Context) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", clear) }}
		if o := conformance.Ask(t, c, get()); o.Err == nil {
			t.Errorf("a response in the clear: %q", o.Body)
		}
	})
}

// second is the error of a result.
func second(_ string, err error) error { return err }

// TestMisconfigured checks that every call returns the error of the configuration.
func TestMisconfigured(t *testing.T) {
	dial := func(context.Context) (net.Conn, error) { return nil, errors.New("was dialed") }
	c := &uwsgi.Client{Dial: dial, Env: []string{"A\x00=1"}}
	defer c.Close()
	if _, err := c.Ping(t.Context()); !errors.Is(err, gateway.ErrParam) {
		t.Errorf("Ping: %v", err)
	}
	if err := c.RoundTrip(t.Context(), new(gateway.Request), new(gateway.Response)); !errors.Is(err, gateway.ErrParam) {
		t.Errorf("RoundTrip: %v", err)
	}
}

func TestSendTimeout(t *testing.T) {
	conformance.SendTimeout(t, func(dial func(context.Context) (net.Conn, error), timeout time.Duration) gateway.RoundTripper {
		return &uwsgi.Client{Dial: dial, SendTimeout: timeout}
	}, func(w io.Writer) { io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly") })
}
