package uwsgi_test

import (
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

func TestServer(t *testing.T) {
	called := gateway.HandlerFunc(func(gateway.ResponseWriter, *gateway.Request) error { panic("the handler was called") })
	ok := gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		_, err := w.Write([]byte{'m', '0' + r.Modifier1, '0' + r.Modifier2})
		return err
	})
	t.Run("modifiers [178 F49]", func(t *testing.T) {
		for input, want := range map[string]string{packet(5, 2, vars("A", "v")): "", packet(0, 0, vars("A", "v")): "HTTP/1.1 200 OK\r\n\r\nm00"} {
			if got := play(t, &uwsgi.Server{Handler: ok}, input); got != want {
				t.Errorf("%q: response %q", input, got)
			}
		}
		s := &uwsgi.Server{Handler: ok, Modifiers: []uwsgi.Modifier{uwsgi.ModifierPSGI}}
		if got := play(t, s, packet(5, 2, vars("A", "v"))); got != "HTTP/1.1 200 OK\r\n\r\nm52" {
			t.Errorf("response %q", got)
		}
		s = &uwsgi.Server{Handler: called, Modifiers: []uwsgi.Modifier{uwsgi.ModifierPSGI}}
		dropped(t, s, packet(0, 0, vars("A", "v")))
	})
	t.Run("other protocols are refused before the vars [178 297 F49]", func(t *testing.T) {
		for _, input := range []string{"GET / HTTP/1.1\r\n", "\x16\x03\x01\x02", "PROXY TCP4 "} {
			c := dial(t, gatewaytest.Start(t, &uwsgi.Server{Handler: called, Logger: quiet}))
			io.WriteString(c, input) // and neither more nor an end
			if b, _ := io.ReadAll(c); len(b) > 0 {
				t.Errorf("%q: response %q", input, b)
			}
		}
	})
	t.Run("pings [176 178]", func(t *testing.T) {
		dropped(t, &uwsgi.Server{Handler: called}, packet(100, 0, ""))
		if got := play(t, &uwsgi.Server{Handler: called, Ping: true}, packet(100, 0, "")); got != "\x64\x00\x00\x01" {
			t.Errorf("response %q", got)
		}
		dropped(t, &uwsgi.Server{Handler: called, Ping: true}, packet(100, 1, ""))
	})
	t.Run("malformed packets [179 180]", func(t *testing.T) {
		for _, block := range []string{"", "\x00\x00\x01\x00v", vars("A", "v") + "\x01"} {
			dropped(t, &uwsgi.Server{Handler: called}, packet(0, 0, block))
		}
	})
	t.Run("the status line [184 185 263 265 F13]", func(t *testing.T) {
		got := play(t, &uwsgi.Server{Handler: conformance.Handlers["responses"]}, head("PATH_INFO", "/404", "SERVER_PROTOCOL", "HTTP/1.0"))
		if got != "HTTP/1.1 404 Not Found\r\n\r\nnot here" {
			t.Errorf("response %q", got)
		}
	})
	t.Run("addresses that may connect [190 048 F14 F15]", func(t *testing.T) {
		for prefix, want := range map[string]bool{"127.0.0.0/8": true, "::ffff:127.0.0.1/128": true, "192.0.2.0/24": false, "::1/128": false} {
			s := &uwsgi.Server{Handler: called, Logger: quiet, Peers: []netip.Prefix{netip.MustParsePrefix(prefix)}}
			got := conformance.PlayReset(t, dial(t, gatewaytest.Start(t, s)), head("REQUEST_METHOD", "GET"))
			if (got != "") != want {
				t.Errorf("%s: response %q", prefix, got)
			}
		}
	})
	t.Run("a second request [183 186]", func(t *testing.T) {
		one := head("PATH_INFO", "/404")
		if got := play(t, &uwsgi.Server{Handler: conformance.Handlers["responses"]}, one+one); strings.Count(got, "404 Not Found") != 1 {
			t.Errorf("response %q", got)
		}
	})
	t.Run("paths as nginx and Apache send them [188 189]", func(t *testing.T) {
		s := func() *uwsgi.Server { return &uwsgi.Server{Handler: conformance.Handlers["params"]} }
		if got := play(t, s(), head("REQUEST_METHOD", "GET", "REQUEST_URI", "/a%20b?q")); !strings.Contains(got, `path "/a b"`) {
			t.Errorf("response %q", got)
		}
		got := play(t, s(), head("REQUEST_METHOD", "GET", "PATH_INFO", "/a b", "SCRIPT_NAME", "", "SCRIPT_FILENAME", "proxy:uwsgi://h:1/a b?q"))
		if !strings.Contains(got, `path "/a b"`) {
			t.Errorf("response %q", got)
		}
		r, err := fromBytes(head("SCRIPT_FILENAME", "proxy:uwsgi://h:1/a?q"))
		if err != nil || r.ScriptFilename() != "/a" {
			t.Errorf("%q, %v", r.ScriptFilename(), err)
		}
	})
	t.Run("early bytes of an upgraded connection are kept [174 187]", func(t *testing.T) {
		s := &uwsgi.Server{Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			r.Context().Done() // a watcher reads
			time.Sleep(20 * time.Millisecond)
			c, err := w.Hijack()
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = io.Copy(c, c)
			return err
		})}
		c := dial(t, gatewaytest.Start(t, s))
		io.WriteString(c, head("HTTP_UPGRADE", "websocket", "HTTP_CONNECTION", "keep-alive, Upgrade")+"early")
		time.Sleep(50 * time.Millisecond)
		io.WriteString(c, " and late")
		c.CloseWrite()
		b, err := io.ReadAll(c)
		if got := string(b); err != nil || !strings.HasPrefix(got, "HTTP/1.1 101 Switching Protocols\r\n") || !strings.HasSuffix(got, "\r\n\r\nearly and late") ||
			!strings.Contains(got, "Upgrade: websocket\r\n") || !strings.Contains(got, "Connection: Upgrade\r\n") {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("upgrades that were not requested [175 187 F31]", func(t *testing.T) {
		s := &uwsgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			w.Header().Set("Upgrade", "h2c")
			_, err := w.Hijack()
			return err
		})}
		for _, nv := range [][]string{nil, {"HTTP_UPGRADE", "h2c", "HTTP_CONNECTION", "Upgrade"}, {"HTTP_UPGRADE", "websocket"}, {"HTTP_UPGRADE", "websocket", "HTTP_CONNECTION", "upgrade"}} {
			got := play(t, s, head(append([]string{"A", "v"}, nv...)...))
			if !strings.HasPrefix(got, "HTTP/1.1 50") {
				t.Errorf("%q: response %q", nv, got)
			}
			s = &uwsgi.Server{Handler: s.Handler}
		}
	})
}

// TestLife listens, serves and shuts down.
func TestLife(t *testing.T) {
	conformance.Life(t, "uwsgi", func(h gateway.Handler) conformance.Listener {
		return &uwsgi.Server{Handler: h, SocketMode: 0o600, BaseContext: conformance.Base, ConnContext: conformance.PerConn, Logger: quiet}
	}, func(addr string) gateway.RoundTripper { return &uwsgi.Client{Addr: addr} })
}
