package scgi_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/scgi"
)

func TestClient(t *testing.T) {
	get := func() *gateway.Request { return gatewaytest.NewRequest("GET", "/", nil) }
	t.Run("no response [088 260]", func(t *testing.T) {
		o := conformance.Ask(t, &scgi.Client{Addr: responding(t, "")}, get())
		if !errors.Is(o.Err, gateway.ErrNoResponse) {
			t.Errorf("got %v", o.Err)
		}
	})
	t.Run("a reset in the middle of a response [087]", func(t *testing.T) {
		addr := script(t, func(c net.Conn) {
			var r gateway.Request
			scgi.NewReader(c).ReadRequest(&r)
			io.WriteString(c, "Status: 200 OK\r\n\r\npart")
			time.Sleep(20 * time.Millisecond)
			c.(*net.TCPConn).SetLinger(0)
		})
		if o := conformance.Ask(t, &scgi.Client{Addr: addr}, get()); !errors.Is(o.Err, gateway.ErrTruncated) || o.Body != "part" {
			t.Errorf("%q, %v", o.Body, o.Err)
		}
	})
	t.Run("a head split at every byte [090 169 214]", func(t *testing.T) {
		for _, response := range []string{"Status: 404 Not Found\r\nX: 1\r\n\r\nbody", "HTTP/1.1 404 Not Found\r\nX: 1\r\n\r\nbody"} {
			for i := 1; i < len(response); i++ {
				addr := script(t, func(c net.Conn) {
					var r gateway.Request
					scgi.NewReader(c).ReadRequest(&r)
					io.WriteString(c, response[:i])
					time.Sleep(time.Millisecond)
					io.WriteString(c, response[i:])
				})
				if o := conformance.Ask(t, &scgi.Client{Addr: addr}, get()); o.Err != nil || o.Res.Status != 404 || o.Body != "body" || o.Res.Header.Get("X") != "1" {
					t.Errorf("cut at %d: %d %q, %v", i, o.Res.Status, o.Body, o.Err)
				}
			}
		}
	})
	t.Run("a response before the body is read [082 F34]", func(t *testing.T) {
		const up, down = 8 << 20, 4 << 20
		addr := script(t, func(c net.Conn) {
			var r gateway.Request
			if scgi.NewReader(c).ReadRequest(&r) != nil {
				return
			}
			io.WriteString(c, "Status: 200 OK\r\n\r\n")
			c.Write(make([]byte, down))
			n, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprint(c, n)
		})
		o := conformance.Ask(t, &scgi.Client{Addr: addr}, gatewaytest.NewRequest("POST", "/", make([]byte, up)))
		if o.Err != nil || len(o.Body) != down+len("8388608") {
			t.Errorf("%d bytes, %v", len(o.Body), o.Err)
		}
	})
	t.Run("a response that ends before the body is sent [083]", func(t *testing.T) {
		addr := script(t, func(c net.Conn) {
			var r gateway.Request
			scgi.NewReader(c).ReadRequest(&r)
			io.WriteString(c, "Status: 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
			io.Copy(io.Discard, c)
		})
		o := conformance.Ask(t, &scgi.Client{Addr: addr}, gatewaytest.NewRequest("POST", "/", make([]byte, 8<<20)))
		if o.Err != nil || o.Res.Status != 413 || o.Body != "no" {
			t.Errorf("%d %q, %v", o.Res.Status, o.Body, o.Err)
		}
	})
	t.Run("time-outs and missing sockets [120 292]", func(t *testing.T) {
		phase := func(c *scgi.Client) gateway.Phase {
			e, _ := errors.AsType[*gateway.Error](conformance.Ask(t, c, get()).Err)
			if e == nil {
				return 99
			}
			return e.Phase
		}
		if p := phase(&scgi.Client{Addr: "127.0.0.1:1"}); p != gateway.PhaseDial {
			t.Errorf("phase %v", p)
		}
		for _, c := range []*scgi.Client{{Addr: "nowhere"}, {Addr: "unix:"}, {Addr: "127.0.0.1:1", Env: []string{"NOTHING"}}} {
			if p := phase(c); p != gateway.PhaseRequest {
				t.Errorf("%+v: phase %v", c.Addr, p)
			}
		}
		silent := script(t, func(c net.Conn) { io.Copy(io.Discard, c) })
		e, _ := errors.AsType[*gateway.Error](conformance.Ask(t, &scgi.Client{Addr: silent, HeadTimeout: 20 * time.Millisecond}, get()).Err)
		if e == nil || e.Phase != gateway.PhaseHead || gateway.ErrorStatus(e) != 504 {
			t.Errorf("got %v", e)
		}
		slow := script(t, func(c net.Conn) {
			io.WriteString(c, "Status: 200 OK\r\n\r\npart")
			io.Copy(io.Discard, c)
		})
		e, _ = errors.AsType[*gateway.Error](conformance.Ask(t, &scgi.Client{Addr: slow, BodyTimeout: 20 * time.Millisecond}, get()).Err)
		if e == nil || e.Phase != gateway.PhaseBody || !e.Timeout() {
			t.Errorf("got %v", e)
		}
	})
	t.Run("MaxConns, Env and Observe", func(t *testing.T) {
		var seen []gateway.Exchange
		c := &scgi.Client{
			Addr: gatewaytest.Start(t, &scgi.Server{Handler: conformance.Handlers["params"], Logger: quiet}), MaxConns: 1,
			Env:     []string{"SERVER_NAME=configured", "OWN=1"},
			Observe: func(_ context.Context, x *gateway.Exchange) { seen = append(seen, *x) },
		}
		o := conformance.Ask(t, c, get())
		if o.Err != nil || !strings.Contains(o.Body, `SERVER_NAME="configured"`) || strings.Contains(o.Body, "localhost") || !strings.Contains(o.Body, `OWN="1"`) {
			t.Errorf("%q, %v", o.Body, o.Err)
		}
		var res gateway.Response
		if err := c.RoundTrip(t.Context(), get(), &res); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		err := c.RoundTrip(ctx, get(), new(gateway.Response))
		if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Phase != gateway.PhaseWait || gateway.ErrorStatus(err) != 503 {
			t.Errorf("got %v", err)
		}
		res.Body.Close()
		if o := conformance.Ask(t, c, get()); o.Err != nil {
			t.Error(o.Err)
		}
		if s := c.Stats(); s.Requests != 4 || s.Dialed != 3 || s.Failed != 1 || s.InFlight != 0 || len(seen) != 4 || seen[0].Status != 200 || seen[0].Received != int64(len(o.Body)) || seen[2].Err != nil && seen[1].Err == nil {
			t.Errorf("%+v, %+v", s, seen)
		}
		c.Close()
	})
}

// closing tells when the request's context ended.
func closing(r *gateway.Request) <-chan time.Time {
	c := make(chan time.Time, 1)
	go func() {
		<-r.Context().Done()
		c <- time.Now()
	}()
	return c
}

func TestSendTimeout(t *testing.T) {
	conformance.SendTimeout(t, func(dial func(context.Context) (net.Conn, error), timeout time.Duration) gateway.RoundTripper {
		return &scgi.Client{Dial: dial, SendTimeout: timeout}
	}, func(w io.Writer) { io.WriteString(w, "Status: 200 OK\r\nContent-Length: 5\r\n\r\nearly") })
}

// A Read of the body that a handler left behind must not cost the peer the end of its sending.
func TestLeftReadIsDrained(t *testing.T) {
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		go io.Copy(io.Discard, r.Body)
		time.Sleep(5 * time.Millisecond)
		w.WriteHeader(413)
		return nil
	})
	c := dial(t, gatewaytest.Start(t, s))
	io.WriteString(c, head("CONTENT_LENGTH", "200000")+strings.Repeat("b", 50000))
	time.Sleep(20 * time.Millisecond)
	for range 15 {
		if _, err := io.WriteString(c, strings.Repeat("b", 10000)); err != nil {
			t.Fatalf("143 145: %v", err)
		}
	}
	c.CloseWrite()
	if b, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(b), "Status: 413 ") {
		t.Errorf("%q, %v", b, err)
	}
}

// While a large body in memory is being written, something has left.
func TestSentWhileWriting(t *testing.T) {
	for name, end := range map[string]func(c net.Conn, cancel func()){
		"the application closes": func(c net.Conn, _ func()) { c.(*net.TCPConn).CloseWrite() },
		"the caller gives up":    func(_ net.Conn, cancel func()) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			over := make(chan struct{})
			addr := script(t, func(c net.Conn) {
				io.ReadFull(c, make([]byte, 100000))
				end(c, cancel)
				<-over
			})
			var x gateway.Exchange
			c := &scgi.Client{Addr: addr, Observe: func(_ context.Context, e *gateway.Exchange) { x = *e }}
			const size = 64 << 20
			err := c.RoundTrip(ctx, gatewaytest.NewRequest("POST", "/", make([]byte, size)), new(gateway.Response))
			close(over)
			if e, ok := errors.AsType[*gateway.Error](err); !ok || !e.Sent || gateway.Retryable(err) {
				t.Errorf("%+v", err)
			}
			if x.Sent >= size {
				t.Errorf("%d bytes of the body are said to be sent", x.Sent)
			}
		})
	}
}

// A response that is cut must not look whole over TLS, where a close says goodbye.
func TestCutOverTLS(t *testing.T) {
	ts := httptest.NewUnstartedServer(nil)
	ts.StartTLS()
	defer ts.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", ts.TLS)
	if err != nil {
		t.Fatal(err)
	}
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		io.WriteString(w, "part")
		w.Flush()
		return errFailed
	})
	go s.Serve(l)
	defer s.Close()
	d := &tls.Dialer{Config: ts.Client().Transport.(*http.Transport).TLSClientConfig}
	c := &scgi.Client{Dial: func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", l.Addr().String()) }}
	if o := conformance.Ask(t, c, gatewaytest.NewRequest("GET", "/", nil)); !errors.Is(o.Err, gateway.ErrTruncated) {
		t.Errorf("276: %q, %v", o.Body, o.Err)
	}
}

// A source that is slow does not use up the time of a write.
func TestSlowSource(t *testing.T) {
	src := script(t, func(c net.Conn) {
		for range 5 {
			io.WriteString(c, "x")
			time.Sleep(40 * time.Millisecond)
		}
	})
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		c, err := net.Dial("tcp", src)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = io.Copy(w, c)
		return err
	})
	s.WriteTimeout = 60 * time.Millisecond
	o := conformance.Ask(t, &scgi.Client{Addr: gatewaytest.Start(t, s)}, gatewaytest.NewRequest("GET", "/", nil))
	if o.Err != nil || o.Body != "xxxxx" {
		t.Errorf("%q, %v", o.Body, o.Err)
	}
}
