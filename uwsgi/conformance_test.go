package uwsgi_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// TestCodecConformance is items 161 to 182 for the codec.
func TestCodecConformance(t *testing.T) {
	t.Run("the header, little-endian [161]", func(t *testing.T) {
		for _, h := range []uwsgi.PacketHeader{{}, {Modifier1: 30, Size: 0x1234, Modifier2: 7}, {Modifier1: 255, Size: 65535, Modifier2: 255}} {
			b := uwsgi.AppendHeader(nil, h)
			if got, n := uwsgi.ConsumeHeader(b); got != h || n != 4 {
				t.Errorf("%+v: %+v, %d", h, got, n)
			}
			if b[1] != byte(h.Size) || b[2] != byte(h.Size>>8) {
				t.Errorf("% x", b)
			}
			if _, n := uwsgi.ConsumeHeader(b[:3]); n != 0 {
				t.Errorf("three bytes: %d", n)
			}
		}
	})
	t.Run("vars of 65535 bytes and of one more [162 F16]", func(t *testing.T) {
		fixed := "\x0e\x00CONTENT_LENGTH\x01\x000"
		for extra, want := range map[int]error{0: nil, 1: gateway.ErrTooLarge} {
			r := new(gateway.Request)
			room := 65535 - len(fixed) - 2*(4+len("HTTP_X")) + extra
			r.Params.Add("HTTP_X", strings.Repeat("v", room/2))
			r.Params.Add("HTTP_Y", strings.Repeat("v", room-room/2))
			b, err := uwsgi.AppendRequest([]byte("dst"), r)
			if !errors.Is(err, want) || want != nil && string(b) != "dst" {
				t.Errorf("%d more: %d bytes, %v", extra, len(b), err)
			}
			if want == nil && (len(b) != 3+4+65535 || b[4] != 0xff || b[5] != 0xff) {
				t.Errorf("%d bytes, % x", len(b), b[:8])
			}
			var w bytes.Buffer
			if err := uwsgi.NewWriter(&w).WriteRequest(r); want != nil && (err == nil || w.Len() > 0) {
				t.Errorf("%d bytes were written", w.Len())
			}
		}
	})
	t.Run("names and values that fit nothing [163]", func(t *testing.T) {
		long := strings.Repeat("x", 65536)
		for _, c := range []struct {
			name, value string
			err         error
		}{{"", "v", gateway.ErrParam}, {long, "v", gateway.ErrTooLarge}, {"A", long, gateway.ErrTooLarge}, {"A\x00", "v", gateway.ErrParam}, {"A", "\x00", gateway.ErrParam}} {
			if b, err := uwsgi.AppendParam([]byte("dst"), c.name, c.value); !errors.Is(err, c.err) || string(b) != "dst" {
				t.Errorf("%d, %d: %v", len(c.name), len(c.value), err)
			}
		}
		if b, err := uwsgi.AppendParam(nil, strings.Repeat("n", 300), "v"); err != nil || b[0] != 300%256 || b[1] != 1 {
			t.Errorf("%v", err) // nginx once wrote such a length in one byte
		}
	})
	t.Run("modifiers [165]", func(t *testing.T) {
		r := gatewaytest.NewRequest("GET", "/", nil)
		b, err := uwsgi.AppendRequest(nil, r)
		if err != nil || b[0] != 0 || b[3] != 0 {
			t.Errorf("% x, %v", b[:4], err)
		}
		r.Modifier1, r.Modifier2 = uint8(uwsgi.ModifierPSGI), 3
		b, err = uwsgi.AppendRequest(nil, r)
		if err != nil || b[0] != 5 || b[3] != 3 {
			t.Errorf("% x, %v", b[:4], err)
		}
		got, err := fromBytes(string(b))
		if err != nil || got.Modifier1 != 5 || got.Modifier2 != 3 || got.Method() != "GET" {
			t.Errorf("%d %d, %v", got.Modifier1, got.Modifier2, err)
		}
	})
	t.Run("no coding of a body that has none [167 016]", func(t *testing.T) {
		r := gatewaytest.NewRequest("POST", "/", []byte("hello"))
		r.Params.Add("HTTP_TRANSFER_ENCODING", "chunked")
		if b, err := uwsgi.AppendRequest(nil, r); err != nil || bytes.Contains(b, []byte("TRANSFER")) {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("UWSGI_* from configuration alone [166 F12]", func(t *testing.T) {
		addr := gatewaytest.Start(t, &uwsgi.Server{Handler: conformance.Handlers["params"], Logger: quiet})
		c := &uwsgi.Client{Addr: addr, Env: []string{"UWSGI_FILE=ours.py"}}
		web := httptest.NewServer(&gatewayhttp.Proxy{Backend: c})
		defer web.Close()
		req, _ := http.NewRequest("GET", web.URL+"/?UWSGI_CHDIR=/x", nil)
		for _, name := range []string{"Uwsgi_File", "UWSGI-FILE", "Uwsgi-Pyhome"} {
			req.Header[name] = []string{"theirs.py"}
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		if got := string(b); !strings.Contains(got, "UWSGI_FILE=\"ours.py\"\n") || strings.Count(got, "\nUWSGI_") != 1 || strings.Contains(got, "=\"theirs.py\"\nUWSGI") {
			t.Errorf("%s", got)
		}
	})
	t.Run("an unknown length [167]", func(t *testing.T) {
		r := gatewaytest.NewRequest("POST", "/", nil)
		r.ContentLength = -1
		if _, err := uwsgi.AppendRequest(nil, r); !errors.Is(err, gateway.ErrLengthRequired) {
			t.Errorf("got %v", err)
		}
	})
	for _, c := range []struct{ id, block string }{
		{"no vars [179]", ""},
		{"a name of no length [180 001]", "\x00\x00\x01\x00v"},
		{"a name that runs over [180]", "\xff\x00A"},
		{"a value that runs over [180]", "\x01\x00A\xff\x00v"},
		{"no length of the value [180]", "\x01\x00A"},
		{"one byte of the length of the value [180]", "\x01\x00A\x01"},
		{"one byte behind the last [180]", vars("A", "v") + "\x01"},
		{"two bytes behind the last [180]", vars("A", "v") + "\x01\x00"},
	} {
		t.Run(c.id, func(t *testing.T) {
			if r, err := fromBytes(packet(0, 0, c.block)); !errors.Is(err, gateway.ErrMalformed) || r.Params.Len() > 0 {
				t.Errorf("got %v", err)
			}
			var p gateway.Params
			if _, n, err := uwsgi.ConsumeRequest([]byte(packet(0, 0, c.block)), &p); c.block != "" && (n != -1 || !errors.Is(err, gateway.ErrMalformed)) {
				t.Errorf("ConsumeRequest: %d, %v", n, err)
			}
		})
	}
	t.Run("an empty value at the end [181]", func(t *testing.T) {
		r, err := fromBytes(head("A", "v", "B", ""))
		if v, ok := r.Params.Lookup("B"); err != nil || !ok || len(v) > 0 {
			t.Errorf("%v", err)
		}
	})
	t.Run("more vars than the cap [182 F35]", func(t *testing.T) {
		if _, err := fromBytes(packet(0, 0, strings.Repeat(vars("A", "v"), 1001))); !errors.Is(err, gateway.ErrTooLarge) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("one message after another, and every prefix [183 293]", func(t *testing.T) {
		first, second := head("A", "1", "CONTENT_LENGTH", "5"), head("A", "2")
		for name, wrap := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader} {
			r := uwsgi.NewReader(wrap(strings.NewReader(first + "hello" + second)))
			var req gateway.Request
			for i, want := range []string{"1", "2"} {
				if err := r.ReadRequest(&req); err != nil || req.Params.Get("A") != want {
					t.Errorf("%s: request %d: %v", name, i, err)
				}
			}
			if err := r.ReadRequest(&req); err != io.EOF || r.Offset() != int64(len(first)+5+len(second)) {
				t.Errorf("%s: %v at %d", name, err, r.Offset())
			}
		}
		whole := first + "hello"
		for i := range len(whole) {
			r, err := fromBytes(whole[:i])
			if err == nil {
				_, err = io.ReadAll(r.Body)
			}
			if i == 0 && err != io.EOF || i > 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%d bytes: %v", i, err)
			}
			var p gateway.Params
			if _, n, err := uwsgi.ConsumeRequest([]byte(whole[:i]), &p); i < len(first) && (n != 0 || err != nil) {
				t.Errorf("%d bytes: ConsumeRequest %d, %v", i, n, err)
			}
		}
	})
	t.Run("params alone", func(t *testing.T) {
		r := gatewaytest.NewRequest("GET", "/a?b", nil)
		b, err := uwsgi.AppendParams(nil, &r.Params)
		if err != nil {
			t.Fatal(err)
		}
		var p gateway.Params
		if n, err := uwsgi.ConsumeParams(append(b, "\x05\x00PA"...), &p); n != len(b) || err != nil || p.Len() != r.Params.Len() {
			t.Errorf("%d, %v", n, err)
		}
		if n, err := uwsgi.ConsumeParams([]byte("\x00\x00"), &p); n != -1 || !errors.Is(err, gateway.ErrMalformed) || p.Len() != r.Params.Len() {
			t.Errorf("%d, %v", n, err)
		}
		if name, value, n := uwsgi.ConsumeParam([]byte(vars("A", "v") + "rest")); string(name) != "A" || string(value) != "v" || n != 6 {
			t.Errorf("%q %q %d", name, value, n)
		}
	})
}

// TestServerConformance is what a server of uwsgi does that is not in the shared suite.
func TestServerConformance(t *testing.T) {
	called := gateway.HandlerFunc(func(gateway.ResponseWriter, *gateway.Request) error { panic("the handler was called") })
	ok := gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		_, err := w.Write([]byte{'m', '0' + r.Modifier1, '0' + r.Modifier2})
		return err
	})
	t.Run("modifiers [178 F49]", func(t *testing.T) {
		for input, want := range map[string]string{packet(5, 2, vars("A", "v")): "", packet(0, 0, vars("A", "v")): "HTTP/1.1 200 OK\r\n\r\nm00"} {
			if got := play(t, &uwsgi.Server{Handler: ok}, input); got != want {
				t.Errorf("%q: responded %q", input, got)
			}
		}
		s := &uwsgi.Server{Handler: ok, Modifiers: []uwsgi.Modifier{uwsgi.ModifierPSGI}}
		if got := play(t, s, packet(5, 2, vars("A", "v"))); got != "HTTP/1.1 200 OK\r\n\r\nm52" {
			t.Errorf("responded %q", got)
		}
		s = &uwsgi.Server{Handler: called, Modifiers: []uwsgi.Modifier{uwsgi.ModifierPSGI}}
		dropped(t, s, packet(0, 0, vars("A", "v")))
	})
	t.Run("closed on before the vars [178 297 F49]", func(t *testing.T) {
		for _, input := range []string{"GET / HTTP/1.1\r\n", "\x16\x03\x01\x02", "PROXY TCP4 "} {
			c := dial(t, gatewaytest.Start(t, &uwsgi.Server{Handler: called, Logger: quiet}))
			io.WriteString(c, input) // and neither more nor an end
			if b, _ := io.ReadAll(c); len(b) > 0 {
				t.Errorf("%q: responded %q", input, b)
			}
		}
	})
	t.Run("pings [176 178]", func(t *testing.T) {
		dropped(t, &uwsgi.Server{Handler: called}, packet(100, 0, ""))
		if got := play(t, &uwsgi.Server{Handler: called, Ping: true}, packet(100, 0, "")); got != "\x64\x00\x00\x01" {
			t.Errorf("responded %q", got)
		}
		dropped(t, &uwsgi.Server{Handler: called, Ping: true}, packet(100, 1, ""))
	})
	t.Run("packets that are malformed [179 180]", func(t *testing.T) {
		for _, block := range []string{"", "\x00\x00\x01\x00v", vars("A", "v") + "\x01"} {
			dropped(t, &uwsgi.Server{Handler: called}, packet(0, 0, block))
		}
	})
	t.Run("the status line [184 185 263 265 F13]", func(t *testing.T) {
		got := play(t, &uwsgi.Server{Handler: conformance.Handlers["responses"]}, head("PATH_INFO", "/404", "SERVER_PROTOCOL", "HTTP/1.0"))
		if got != "HTTP/1.1 404 Not Found\r\n\r\nnot here" {
			t.Errorf("responded %q", got)
		}
	})
	t.Run("who may connect [190 048 F14 F15]", func(t *testing.T) {
		for prefix, want := range map[string]bool{"127.0.0.0/8": true, "::ffff:127.0.0.1/128": true, "192.0.2.0/24": false, "::1/128": false} {
			s := &uwsgi.Server{Handler: called, Logger: quiet, Peers: []netip.Prefix{netip.MustParsePrefix(prefix)}}
			got := conformance.PlayReset(t, dial(t, gatewaytest.Start(t, s)), head("REQUEST_METHOD", "GET"))
			if (got != "") != want {
				t.Errorf("%s: responded %q", prefix, got)
			}
		}
	})
	t.Run("a second request [183 186]", func(t *testing.T) {
		one := head("PATH_INFO", "/404")
		if got := play(t, &uwsgi.Server{Handler: conformance.Handlers["responses"]}, one+one); strings.Count(got, "404 Not Found") != 1 {
			t.Errorf("responded %q", got)
		}
	})
	t.Run("paths as nginx and Apache send them [188 189]", func(t *testing.T) {
		s := func() *uwsgi.Server { return &uwsgi.Server{Handler: conformance.Handlers["params"]} }
		if got := play(t, s(), head("REQUEST_METHOD", "GET", "REQUEST_URI", "/a%20b?q")); !strings.Contains(got, `path "/a b"`) {
			t.Errorf("responded %q", got)
		}
		got := play(t, s(), head("REQUEST_METHOD", "GET", "PATH_INFO", "/a b", "SCRIPT_NAME", "", "SCRIPT_FILENAME", "proxy:uwsgi://h:1/a b?q"))
		if !strings.Contains(got, `path "/a b"`) {
			t.Errorf("responded %q", got)
		}
		r, err := fromBytes(head("SCRIPT_FILENAME", "proxy:uwsgi://h:1/a?q"))
		if err != nil || r.ScriptFilename() != "/a" {
			t.Errorf("%q, %v", r.ScriptFilename(), err)
		}
	})
	t.Run("upgrades keep what came early [174 187]", func(t *testing.T) {
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
	t.Run("upgrades that were not asked for [175 187 F31]", func(t *testing.T) {
		s := &uwsgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			w.Header().Set("Upgrade", "h2c")
			_, err := w.Hijack()
			return err
		})}
		for _, nv := range [][]string{nil, {"HTTP_UPGRADE", "h2c", "HTTP_CONNECTION", "Upgrade"}, {"HTTP_UPGRADE", "websocket"}, {"HTTP_UPGRADE", "websocket", "HTTP_CONNECTION", "upgrade"}} {
			got := play(t, s, head(append([]string{"A", "v"}, nv...)...))
			if !strings.HasPrefix(got, "HTTP/1.1 50") {
				t.Errorf("%q: responded %q", nv, got)
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

// TestClientConformance is what a client of uwsgi does that is not in the shared suite.
func TestClientConformance(t *testing.T) {
	get := func() *gateway.Request { return gatewaytest.NewRequest("GET", "/", nil) }
	t.Run("a silent close [164 088]", func(t *testing.T) {
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
	t.Run("nothing is dialed for vars that do not fit [162 F16]", func(t *testing.T) {
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
	t.Run("one request a connection [168]", func(t *testing.T) {
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
		{"a version that is none [170 F20]", "HTTP/1.1x 200 OK\r\nX: 1\r\n\r\nb", 0, ""},
		{"HTTPS [170 F20]", "HTTPS/1 200 OK\r\nX: 1\r\n\r\nb", 0, ""},
		{"a field that begins so [170 F20]", "HT: v\r\nX: 1\r\n\r\nb", 200, "b"},
		{"HTTP and the end [170 F20]", "HTTP", 0, ""},
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
	t.Run("a 101 and what came with it [174]", func(t *testing.T) {
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
	t.Run("a 101 to another token [175 F31]", func(t *testing.T) {
		for asked, responded := range map[string]string{"": "websocket", "websocket": "h2c", "WebSocket": ""} {
			response := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: " + responded + "\r\n\r\n"
			r := get()
			r.Upgrade = asked
			if o := conformance.Ask(t, &uwsgi.Client{Addr: responding(t, response)}, r); !errors.Is(o.Err, gateway.ErrMalformed) {
				t.Errorf("%q, %q: %v", asked, responded, o.Err)
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
		// What was sent in the clear is no request and no response.
		plain := dial(t, l.Addr().String())
		io.WriteString(plain, head("A", "v"))
		if b, _ := io.ReadAll(plain); bytes.Contains(b, []byte("HTTP")) {
			t.Errorf("responded %q", b)
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
