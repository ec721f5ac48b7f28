package gatewayhttp_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/websocket"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// sockets is an application of net/http that echoes what comes over a WebSocket, and refuses some.
func sockets() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/echo", websocket.Handler(func(c *websocket.Conn) { io.Copy(c, c) }))
	mux.Handle("/refused", websocket.Server{Handshake: func(*websocket.Config, *http.Request) error { return http.ErrNotSupported }})
	mux.HandleFunc("/plain", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "no socket") })
	mux.HandleFunc("/silent", func(w http.ResponseWriter, r *http.Request) { w.(http.Hijacker).Hijack() })
	return mux
}

// TestUpgrade has a browser's WebSocket go through a front end and a gateway protocol to a handler of net/http.
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
			t.Run("174 187 250 "+protocol+" "+name, func(t *testing.T) {
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
	if status, _ := ask("/silent", "h2c"); status != 200 { // Hijack is refused, and the handler answers nothing
		t.Errorf("F31 h2c: %d", status)
	}
}

// TestUpgradeNotAsked: a 101 that nobody asked for is no answer (F31).
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
