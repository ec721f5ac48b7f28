package gatewayhttp_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/nettest"
	"golang.org/x/net/websocket"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// sockets is an application of net/http that echoes over a WebSocket, and refuses some requests.
func sockets() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/echo", websocket.Handler(func(c *websocket.Conn) { io.Copy(c, c) }))
	mux.Handle("/refused", websocket.Server{Handshake: func(*websocket.Config, *http.Request) error { return http.ErrNotSupported }})
	mux.HandleFunc("/plain", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "no socket") })
	mux.HandleFunc("/silent", func(w http.ResponseWriter, r *http.Request) { w.(http.Hijacker).Hijack() })
	return mux
}

// TestUpgrade has a browser's WebSocket go through a front end and a gateway protocol to a handler
// of net/http.
func TestUpgrade(t *testing.T) {
	h := gatewayhttp.Handler(sockets())
	direct := map[string]gateway.RoundTripper{
		"scgi":  &scgi.Client{Addr: gatewaytest.Start(t, &scgi.Server{Handler: h, Logger: quiet})},
		"uwsgi": &uwsgi.Client{Addr: gatewaytest.Start(t, &uwsgi.Server{Handler: h, Logger: quiet})},
	}
	backends := make(map[string]gateway.RoundTripper)
	for name, b := range direct {
		backends[name] = b
		// The same through a proxy of the other protocol.
		p := &gateway.Proxy{Backend: b}
		if name == "scgi" {
			backends["uwsgi to scgi"] = &uwsgi.Client{Addr: gatewaytest.Start(t, &uwsgi.Server{Handler: p, Logger: quiet})}
		} else {
			backends["scgi to uwsgi"] = &scgi.Client{Addr: gatewaytest.Start(t, &scgi.Server{Handler: p, Logger: quiet})}
		}
	}
	for protocol, b := range backends {
		for name, front := range fronts(b, nil) {
			t.Run(protocol+" "+name+" [174 187 250]", func(t *testing.T) {
				s := httptest.NewServer(front)
				defer s.Close()
				testSocket(t, s.URL)
			})
		}
	}
}

func testSocket(t *testing.T, url string) {
	t.Helper()
	c, err := websocket.Dial(strings.Replace(url, "http", "ws", 1)+"/echo?q", "", "http://origin/")
	if err != nil {
		t.Fatal(err)
	}
	for _, message := range []string{"one", strings.Repeat("two", 50000), ""} {
		go websocket.Message.Send(c, message)
		var got string
		if message == "" {
			break
		}
		if err := websocket.Message.Receive(c, &got); err != nil {
			t.Fatal(err)
		}
		for len(got) < len(message) { // io.Copy makes several frames of a large one
			var more string
			if err := websocket.Message.Receive(c, &more); err != nil {
				t.Fatal(err)
			}
			got += more
		}
		if got != message {
			t.Errorf("%d bytes of %d", len(got), len(message))
		}
	}
	c.Close()
	if _, err := websocket.Dial(strings.Replace(url, "http", "ws", 1)+"/refused", "", "http://origin/"); err == nil {
		t.Error("a socket that was refused")
	}
	ask := func(path, upgrade string) (int, string) {
		r, _ := http.NewRequest("GET", url+path, nil)
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", upgrade)
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	if status, body := ask("/plain", "websocket"); status != 200 || body != "no socket" {
		t.Errorf("%d %q", status, body)
	}
	if status, _ := ask("/silent", "websocket"); status != 500 {
		t.Errorf("a connection that was taken and left: %d", status)
	}
	if status, _ := ask("/silent", "h2c"); status != 200 { // Hijack is refused, and the handler responds nothing
		t.Errorf("F31 h2c: %d", status)
	}
}

// A 101 that was not asked for is not a response (F31).
func TestUpgradeNotAsked(t *testing.T) {
	h := gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		_, err := w.Hijack()
		return err
	})
	for name, addr := range map[string]string{
		"fastcgi": gatewaytest.Start(t, &fastcgi.Server{Handler: h, Logger: quiet}),
		"scgi":    gatewaytest.Start(t, &scgi.Server{Handler: h, Logger: quiet}),
	} {
		var b gateway.RoundTripper = &fastcgi.Client{Addr: addr, Logger: quiet}
		if name == "scgi" {
			b = &scgi.Client{Addr: addr}
		}
		var res gateway.Response
		if err := b.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/", nil), &res); err != nil || res.Status != 500 {
			t.Errorf("%s: %d, %v", name, res.Status, err)
		}
	}
}

// upgrading is a request for a WebSocket.
func upgrading() *gateway.Request {
	r := gatewaytest.NewRequest("GET", "/", nil)
	r.Params.Set("HTTP_CONNECTION", "Upgrade")
	r.Params.Set("HTTP_UPGRADE", "websocket")
	r.Upgrade = "websocket"
	return r
}

// TestHijackResponses writes responses other than a 101 to a hijacked connection.
func TestHijackResponses(t *testing.T) {
	for _, c := range []struct {
		name   string
		writes []string
		status int
		header string // X
		body   string
		err    error // of the last Write
	}{
		{"a response", []string{"HTTP/1.1 403 Forbidden\r\nX: 1\r\nConnection: close\r\n\r\nno"}, 403, "1", "no", nil},
		{"in pieces", []string{"HTTP/1.1 403 Forb", "idden\r\nX: 1\r\n\r", "\n", "n", "o"}, 403, "1", "no", nil},
		{"after an interim one", []string{"HTTP/1.1 103 Early Hints\r\nX: early\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX: 1\r\n\r\nyes"}, 200, "1", "yes", nil},
		{"without a body", []string{"HTTP/1.1 304 Not Modified\r\nX: 1\r\n\r\n", "late"}, 304, "1", "", http.ErrBodyNotAllowed},
		{"without a body, at once", []string{"HTTP/1.1 204 No Content\r\nX: 1\r\n\r\nlate"}, 204, "1", "", http.ErrBodyNotAllowed},
		{"with orders to the web server [F28]", []string{"HTTP/1.1 200 OK\r\nX-Accel-Redirect: /secret\r\nX-Sendfile: /secret\r\nX: 1\r\n\r\n"}, 200, "1", "", nil},
		{"chunked", []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"}, 502, "", "", gateway.ErrMalformed},
		{"no HTTP", []string{"\r\n\r\n"}, 502, "", "", gateway.ErrMalformed},
		{"a second try", []string{"\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"}, 502, "", "", gateway.ErrMalformed},
		{"a head without end", []string{"HTTP/1.1 200 OK\r\n", strings.Repeat("X: "+strings.Repeat("1", 1000)+"\r\n", 66)}, 502, "", "", gateway.ErrMalformed},
		{"a head cut", []string{"HTTP/1.1 200 OK\r\n"}, 500, "", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			wrote, read := make(chan error, 1), make(chan error, 1)
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				conn, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					wrote <- err
					return
				}
				for _, s := range c.writes {
					_, err = io.WriteString(conn, s)
				}
				wrote <- err
				conn.Close()
				if _, err := io.WriteString(conn, "after Close"); err == nil {
					t.Error("a Write after Close")
				}
				_, err = conn.Read(make([]byte, 1))
				read <- err
			})
			s := &scgi.Server{Handler: gatewayhttp.Handler(h), Logger: quiet}
			b := &scgi.Client{Addr: gatewaytest.Start(t, s)}
			var res gateway.Response
			if err := b.RoundTrip(t.Context(), upgrading(), &res); err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			for name := range res.Header.All() {
				if n := string(name); n == "X-Accel-Redirect" || n == "X-Sendfile" {
					t.Errorf("%s was sent", n)
				}
			}
			if res.Status != c.status || res.Header.Get("X") != c.header || string(body) != c.body || err != nil {
				t.Errorf("%d, X %q, %q, %v", res.Status, res.Header.Get("X"), body, err)
			}
			if err := <-wrote; !errors.Is(err, c.err) {
				t.Errorf("Write: %v", err)
			}
			if err := <-read; err == nil {
				t.Error("Read of a body that is not a stream succeeded")
			}
		})
	}
}

// TestHijackMisuse: a connection is taken once, and before the head.
func TestHijackMisuse(t *testing.T) {
	errs := make(chan error, 4)
	mux := http.NewServeMux()
	mux.HandleFunc("/twice", func(w http.ResponseWriter, r *http.Request) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		_, _, err := w.(http.Hijacker).Hijack()
		errs <- err
		_, err = io.WriteString(w, "body")
		errs <- err
		errs <- http.NewResponseController(w).Flush()
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		errs <- nil
	})
	mux.HandleFunc("/late", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(404)
		_, _, err := w.(http.Hijacker).Hijack()
		errs <- err
	})
	b := &scgi.Client{Addr: gatewaytest.Start(t, &scgi.Server{Handler: gatewayhttp.Handler(mux), Logger: quiet})}
	ask := func(path string) int {
		r := upgrading()
		r.Params.Set("REQUEST_URI", path)
		r.Params.Set("SCRIPT_NAME", "")
		r.Params.Set("PATH_INFO", path)
		var res gateway.Response
		if err := b.RoundTrip(t.Context(), r, &res); err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.Status
	}
	if status := ask("/twice"); status != 200 {
		t.Errorf("%d", status)
	}
	for _, want := range []error{http.ErrHijacked, http.ErrHijacked, http.ErrHijacked, nil} {
		if err := <-errs; !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%v, not %v", err, want)
		}
	}
	if status := ask("/late"); status != 404 {
		t.Errorf("%d", status)
	}
	if err := <-errs; err == nil {
		t.Error("Hijack after WriteHeader")
	}
}

// TestHijackConn: a connection that was taken over has addresses and deadlines, before its head and
// after.
func TestHijackConn(t *testing.T) {
	errs := make(chan error, 3)
	addrs := make(chan string, 2)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		addrs <- conn.LocalAddr().Network() + " " + conn.LocalAddr().String()
		addrs <- conn.RemoteAddr().Network()
		errs <- conn.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Sendfile: /secret\r\n\r\nfirst")
		errs <- conn.SetDeadline(time.Now().Add(-time.Second))
		_, err = conn.Read(make([]byte, 1))
		errs <- err
	})
	for _, addr := range []string{"tcp", "unix"} {
		s := &scgi.Server{Handler: gatewayhttp.Handler(h), Logger: quiet}
		var b *scgi.Client
		if addr == "tcp" {
			b = &scgi.Client{Addr: gatewaytest.Start(t, s)}
			addr += " " + b.Addr
		} else {
			path := "unix:" + t.TempDir() + "/s"
			l, err := new(scgi.Server).Listen(path)
			if err != nil {
				t.Fatal(err)
			}
			go s.Serve(l)
			defer s.Close()
			b = &scgi.Client{Addr: path}
			addr += " "
		}
		var res gateway.Response
		if err := b.RoundTrip(t.Context(), upgrading(), &res); err != nil || res.Status != 101 {
			t.Fatal(res.Status, err)
		}
		if res.Header.Get("X-Sendfile") != "" {
			t.Error("F28: an order to the web server was sent")
		}
		if b, err := io.ReadAll(res.Body); string(b) != "first" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		res.Body.Close()
		if local := <-addrs; local != addr || <-addrs != addr[:strings.Index(addr, " ")] {
			t.Errorf("%q, not %q", local, addr)
		}
		for _, want := range []error{nil, nil, os.ErrDeadlineExceeded} {
			if err := <-errs; !errors.Is(err, want) {
				t.Errorf("%v, not %v", err, want)
			}
		}
	}
}

// TestHijackIsConn holds a connection that was taken over to what net.Conn promises, deadlines and
// a Close that ends a Write that waits among it.
func TestHijackIsConn(t *testing.T) {
	taken, stop := make(chan net.Conn), make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
		taken <- conn
		<-stop
	})
	addr := gatewaytest.Start(t, &scgi.Server{Handler: gatewayhttp.Handler(h), Logger: quiet})
	defer close(stop)
	ask, err := scgi.AppendRequest(nil, upgrading())
	if err != nil {
		t.Fatal(err)
	}
	const head = "Status: 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
	nettest.TestConn(t, func() (ours, peers net.Conn, end func(), err error) {
		if peers, err = net.Dial("tcp", addr); err != nil {
			return nil, nil, nil, err
		}
		if _, err = peers.Write(ask); err != nil {
			return nil, nil, nil, err
		}
		ours = <-taken
		got := make([]byte, len(head))
		if _, err = io.ReadFull(peers, got); err == nil && string(got) != head {
			err = errors.New(string(got))
		}
		return ours, peers, func() {
			ours.Close()
			peers.Close()
		}, err
	})
}

// noStream is a backend whose 101 has an ordinary body.
func TestSwitchWithoutStream(t *testing.T) {
	b := gateway.RoundTripperFunc(func(_ context.Context, r *gateway.Request, res *gateway.Response) error {
		res.Reset()
		res.Status, res.Body = 101, io.NopCloser(strings.NewReader(""))
		res.Header.Add("Upgrade", "websocket")
		return nil
	})
	got := rawHTTP(t, &gatewayhttp.Proxy{Backend: b}, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 502 ") {
		t.Errorf("got %q", got)
	}
}

// TestHijackedReadBeforeHead checks that a Read waits neither for good nor past its deadline before
// a head was written.
func TestHijackedReadBeforeHead(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(s *scgi.Server, peer net.Conn, c net.Conn)
		want error
	}{
		"its deadline": {func(_ *scgi.Server, _ net.Conn, c net.Conn) { c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) }, os.ErrDeadlineExceeded},
		"a deadline that is set later": {func(_ *scgi.Server, _ net.Conn, c net.Conn) {
			time.AfterFunc(20*time.Millisecond, func() { c.SetDeadline(time.Unix(1, 0)) })
		}, os.ErrDeadlineExceeded},
		"the end of the peer": {func(_ *scgi.Server, peer net.Conn, _ net.Conn) { peer.Close() }, gateway.ErrDisconnected},
		"Close of the server": {func(s *scgi.Server, _ net.Conn, _ net.Conn) { s.Close() }, gateway.ErrServerClosed},
		"Shutdown that is late": {func(s *scgi.Server, _ net.Conn, _ net.Conn) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			s.Shutdown(ctx)
		}, gateway.ErrServerClosed},
		"Close of the connection": {func(_ *scgi.Server, _ net.Conn, c net.Conn) {
			time.AfterFunc(20*time.Millisecond, func() { c.Close() })
		}, net.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			var s *scgi.Server
			var peer net.Conn
			ready := make(chan struct{})
			got := make(chan error, 1)
			s = &scgi.Server{Logger: slog.New(slog.DiscardHandler), Handler: gatewayhttp.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					got <- err
					return
				}
				<-ready
				c.end(s, peer, conn)
				_, err = conn.Read(make([]byte, 1))
				got <- err
			}))}
			peer, err := net.Dial("tcp", gatewaytest.Start(t, s))
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			close(ready)
			b, err := scgi.AppendRequest(nil, func() *gateway.Request {
				r := gatewaytest.NewRequest("GET", "/", nil)
				r.Params.Set("HTTP_UPGRADE", "websocket")
				r.Params.Set("HTTP_CONNECTION", "Upgrade")
				return r
			}())
			if err != nil {
				t.Fatal(err)
			}
			peer.Write(b)
			if err := <-got; !errors.Is(err, c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestHijackedDeadlineBeforeHead checks that a read deadline that is set before the 101 holds after
// it.
func TestHijackedDeadlineBeforeHead(t *testing.T) {
	got := make(chan error, 1)
	addr := gatewaytest.Start(t, &scgi.Server{Logger: quiet, Handler: gatewayhttp.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		}
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		got <- err
		conn.Close()
	}))})
	r := gatewaytest.NewRequest("GET", "/", nil)
	r.Upgrade = "websocket"
	r.Params.Set("HTTP_UPGRADE", "websocket")
	r.Params.Set("HTTP_CONNECTION", "Upgrade")
	var res gateway.Response
	if err := (&scgi.Client{Addr: addr}).RoundTrip(t.Context(), r, &res); err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	select {
	case err := <-got:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	case <-time.After(conformance.Limit):
		t.Error("the Read waits on")
	}
}
