package gatewayhttp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
)

// The tests here hold single lines: each was written because the line could be taken out and nothing failed.

// rawHTTP sends request to h as it is and returns all that comes back.
func rawHTTP(t *testing.T, h http.Handler, request string) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.Start()
	defer s.Close()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(c, request)
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// responses is a backend that responds with a head and body that are parsed as they are.
func responses(head, body string) gateway.RoundTripper {
	return gateway.RoundTripperFunc(func(_ context.Context, _ *gateway.Request, res *gateway.Response) error {
		_, err := gateway.ConsumeResponse([]byte(head), res)
		res.Body = io.NopCloser(strings.NewReader(body))
		return err
	})
}

func TestFrontEdges(t *testing.T) {
	const ask = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
	t.Run("an interim 100 goes no further [249 F30]", func(t *testing.T) {
		b := raw(t, "Status: 100 Continue\r\n\r\nStatus: 200 OK\r\n\r\n", "x", true)
		for name, h := range fronts(b, nil) {
			if got := rawHTTP(t, h, ask); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") {
				t.Errorf("%s: %q", name, got)
			}
		}
	})
	t.Run("the front end responses Expect [300]", func(t *testing.T) {
		app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Expect") != "" {
				t.Error("Expect was passed on")
			}
			io.Copy(w, r.Body)
		})
		for name, h := range fronts(serve(t, app), nil) {
			s := httptest.NewServer(h)
			c, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(30 * time.Second))
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
			line, err := bufio.NewReader(c).ReadString('\n') // without a byte of the body
			if line != "HTTP/1.1 100 Continue\r\n" {
				t.Errorf("%s: %q, %v", name, line, err)
			}
			c.Close()
			s.Close()
		}
	})
	t.Run("a body that still comes when the response is over [083]", func(t *testing.T) {
		app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusForbidden) })
		var mu sync.Mutex
		var log bytes.Buffer
		s := httptest.NewUnstartedServer(&gatewayhttp.Proxy{Backend: serve(t, app), Logger: quiet})
		s.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return log.Write(p)
		}), nil), slog.LevelError)
		s.Start()
		for range 5 {
			c, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(30 * time.Second))
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\npart")
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(res.Body); res.StatusCode != 403 || string(b) != "no\n" || err != nil {
				t.Errorf("%d %q, %v", res.StatusCode, b, err)
			}
			c.Close()
		}
		s.Close()
		mu.Lock()
		defer mu.Unlock()
		if log.Len() > 0 {
			t.Errorf("net/http says %s", log.String())
		}
	})
	t.Run("what is left of a body is no request [F2]", func(t *testing.T) {
		var paths []string
		var mu sync.Mutex
		app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			paths = append(paths, r.URL.Path)
			http.Error(w, "no", http.StatusForbidden)
		})
		s := httptest.NewServer(&gatewayhttp.Proxy{Backend: serve(t, app), Logger: quiet})
		defer s.Close()
		for _, sent := range []int{0, 10, 5000} {
			c, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(30 * time.Second))
			smuggled := strings.Repeat("GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n", 1000) // more than leaves with the head
			fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(smuggled), smuggled[:sent])
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			io.WriteString(c, smuggled[sent:])
			if b, _ := io.ReadAll(c); len(b) > 0 {
				t.Errorf("another response: %.60q", b)
			}
			c.Close()
		}
		mu.Lock()
		defer mu.Unlock()
		if fmt.Sprint(paths) != "[/ / /]" {
			t.Errorf("requests for %v", paths)
		}
	})
	t.Run("fields that Connection names [254 F29]", func(t *testing.T) {
		b := responses("Status: 200\r\nConnection: x-foo, content-length\r\nX-Foo: 1\r\nX-Bar: 2\r\nContent-Length: 1\r\n\r\n", "x")
		for name, h := range fronts(b, nil) {
			got := rawHTTP(t, h, ask)
			if strings.Contains(got, "X-Foo") || !strings.Contains(got, "X-Bar: 2") || !strings.Contains(got, "Content-Length: 1\r\n") {
				t.Errorf("%s: %q", name, got)
			}
		}
		got, err := mapped(nil, get("/", "Connection", "x-foo", "X-Foo", "1", "X-Bar", "2"))
		if err != nil || got["HTTP_X_FOO"] != "" || got["HTTP_X_BAR"] != "2" {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("orders to a web server [255 F28]", func(t *testing.T) {
		var head strings.Builder
		head.WriteString("Status: 200\r\n")
		names := []string{"X-Accel-Redirect", "X-Accel-Buffering", "X-Sendfile", "X-Sendfile2", "X-LIGHTTPD-send-file", "X-Reproxy-URL"}
		for _, name := range names {
			head.WriteString(name + ": v\r\n")
		}
		for name, h := range fronts(responses(head.String()+"\r\n", "x"), nil) {
			got := strings.ToLower(rawHTTP(t, h, ask))
			for _, n := range names {
				if strings.Contains(got, strings.ToLower(n)) {
					t.Errorf("%s: %s is passed on", name, n)
				}
			}
		}
	})
	t.Run("fields that repeat with others between [256]", func(t *testing.T) {
		for name, h := range fronts(responses("Status: 200\r\nX: 1\r\nY: 2\r\nX: 3\r\nY: 4\r\n\r\n", ""), nil) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			if x, y := w.Header()["X"], w.Header()["Y"]; fmt.Sprint(x, y) != "[1 3] [2 4]" {
				t.Errorf("%s: %v %v", name, x, y)
			}
		}
	})
	t.Run("statuses and lengths [119 261]", func(t *testing.T) {
		tr := &gatewayhttp.Transport{}
		for _, c := range []struct {
			method, head string
			length       int64
			status       string
			body         bool
		}{
			{"GET", "Status: 204\r\nContent-Length: 5\r\n\r\n", 0, "204 No Content", false},
			{"HEAD", "Status: 200\r\nContent-Length: 5\r\n\r\n", 5, "200 OK", false},
			{"GET", "Status: 599\r\n\r\n", -1, "599 Unknown", true},
		} {
			tr.Backend = responses(c.head, "body")
			res, err := tr.RoundTrip(httptest.NewRequest(c.method, "/", nil))
			if err != nil || res.ContentLength != c.length || res.Status != c.status {
				t.Errorf("%s %q: %v, %v", c.method, c.head, res, err)
			}
			if b, err := io.ReadAll(res.Body); err != nil || (len(b) > 0) != c.body {
				t.Errorf("%s %q: %q, %v", c.method, c.head, b, err)
			}
			if err := res.Body.Close(); err != nil {
				t.Error(err)
			}
		}
		w := httptest.NewRecorder()
		(&gatewayhttp.Proxy{Backend: responses("Status: 204\r\nContent-Length: 5\r\n\r\n", "")}).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if _, ok := w.Header()["Content-Length"]; ok || w.Code != 204 {
			t.Errorf("%d, %v", w.Code, w.Header())
		}
	})
	t.Run("a ResponseWriter that cannot flush", func(t *testing.T) {
		w := httptest.NewRecorder()
		(&gatewayhttp.Proxy{Backend: responses("Status: 200\r\n\r\n", "body")}).ServeHTTP(struct{ http.ResponseWriter }{w}, httptest.NewRequest("GET", "/", nil))
		if w.Body.String() != "body" {
			t.Errorf("%q", w.Body.String())
		}
	})
	t.Run("no pool holds what one large request needed", func(t *testing.T) {
		large := 0
		p := &gatewayhttp.Proxy{Backend: gateway.RoundTripperFunc(func(_ context.Context, r *gateway.Request, res *gateway.Response) error {
			if (*pairs.List)(&r.Params).Cap() > 128<<10 || (*pairs.List)(&res.Header).Cap() > 128<<10 {
				large++
			}
			if r.Method() == "POST" {
				res.Header.Add("X", strings.Repeat("v", 1<<20))
			}
			res.Status, res.Body = 200, io.NopCloser(strings.NewReader(""))
			return nil
		})}
		for range 50 {
			p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/", nil))
			p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
			big := httptest.NewRequest("GET", "/", nil)
			big.Header.Set("X", strings.Repeat("v", 1<<20))
			large--
			p.ServeHTTP(httptest.NewRecorder(), big)
			p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		}
		if large != 0 {
			t.Errorf("large memory was used again %d times", large)
		}
	})
	t.Run("Refuse, and Stream [080]", func(t *testing.T) {
		app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%d %s %v", r.ContentLength, b, err)
		})
		c := serve(t, app)
		c.UnknownLength = true
		post := func(m *gatewayhttp.Mapping) (int, string) {
			r := httptest.NewRequest("POST", "/", struct{ io.Reader }{strings.NewReader("hello")})
			w := httptest.NewRecorder()
			(&gatewayhttp.Proxy{Backend: c, Mapping: m, Logger: quiet}).ServeHTTP(w, r)
			return w.Code, w.Body.String()
		}
		for policy, want := range map[gatewayhttp.BodyPolicy]string{
			gatewayhttp.SpoolUnknownBody: "200 5 hello <nil>", gatewayhttp.StreamBody: "200 -1 hello <nil>", gatewayhttp.RefuseUnknownBody: "411 Length Required\n",
		} {
			if status, body := post(&gatewayhttp.Mapping{Body: policy}); fmt.Sprint(status, " ", body) != want {
				t.Errorf("policy %d: %d %q", policy, status, body)
			}
		}
		// A client's request whose length is not known, through Transport.
		r, _ := http.NewRequest("POST", "http://app/", struct{ io.Reader }{strings.NewReader("hello")})
		res, err := (&gatewayhttp.Transport{Backend: c}).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if b, _ := io.ReadAll(res.Body); string(b) != "5 hello <nil>" {
			t.Errorf("%q", b)
		}
	})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestMappingEdges(t *testing.T) {
	t.Run("PATH_TRANSLATED stays in the root [049 F40]", func(t *testing.T) {
		r := get("/")
		r.URL.Path = "/x.php/../../etc/passwd"
		got, err := mapped(&gatewayhttp.Mapping{Root: "/srv/www"}, r)
		if err != nil || got["PATH_TRANSLATED"] != "/srv/www/etc/passwd" || got["DOCUMENT_ROOT"] != "/srv/www" {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("SCRIPT_FILENAME is a path [117]", func(t *testing.T) {
		got, err := mapped(&gatewayhttp.Mapping{Root: "/srv/www"}, get("/a.php/b?c"))
		if err != nil || got["SCRIPT_FILENAME"] != "/srv/www/a.php" {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("the order of fields [007]", func(t *testing.T) {
		for range 5 {
			var p gateway.Params
			r := get("/", "B", "1", "A", "2", "C", "3")
			if err := new(gatewayhttp.Mapping).AddParams(&p, r); err != nil {
				t.Fatal(err)
			}
			var order strings.Builder
			for name := range p.All() {
				if len(name) == len("HTTP_A") {
					order.WriteString(string(name[5:]))
				}
			}
			if order.String() != "ABC" {
				t.Fatalf("order %q", order.String())
			}
		}
	})
	t.Run("REMOTE_ADDR is always there [035 037]", func(t *testing.T) {
		r := get("/")
		r.RemoteAddr = "@"
		got, err := mapped(nil, r)
		if addr, ok := got["REMOTE_ADDR"]; !ok || addr != "" || err != nil {
			t.Errorf("%q %v, %v", addr, ok, err)
		}
	})
	t.Run("hosts of a client's request [024]", func(t *testing.T) {
		r, _ := http.NewRequest("GET", "http://name:81/", nil)
		r.Host = ""
		got, err := mapped(nil, r)
		if err != nil || got["SERVER_NAME"] != "name" || got["SERVER_PORT"] != "81" || got["HTTP_HOST"] != "name:81" {
			t.Errorf("%v, %v", got, err)
		}
		r = get("/")
		r.Host, r.URL.Host = "", ""
		got, err = mapped(nil, r)
		if _, ok := got["HTTP_HOST"]; ok || err != nil || got["SERVER_NAME"] != "localhost" {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("extensions [050 F9]", func(t *testing.T) {
		for _, m := range []*gatewayhttp.Mapping{{Root: "/w", Split: []string{""}}, {Root: "/w", Split: []string{".é"}}} {
			for _, path := range []string{"/a.É", "/a"} {
				r := get("/")
				r.URL.Path = path
				if got, err := mapped(m, r); err == nil {
					t.Errorf("%q: %v", path, got["SCRIPT_NAME"])
				}
			}
		}
	})
}

var onDefaultMux = sync.OnceFunc(func() {
	http.HandleFunc("/edge-of-the-default-mux", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "default") })
})

func TestHandlerEdges(t *testing.T) {
	get := func(method string) *gateway.Request { return gatewaytest.NewRequest(method, "/", nil) }
	t.Run("names that are not canonical [266 F28]", func(t *testing.T) {
		_, header, _, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			for _, name := range []string{"x-accel-redirect", "X-sendfile", "X-Sendfile2", "x-reproxy-url", "status", "transfer-encoding"} {
				w.Header()[name] = []string{"v"}
			}
			w.Header().Set("Proxy-Authenticate", "Basic")
		}, get("GET"))
		for name := range header {
			if strings.ContainsAny(strings.ToLower(name[:1]), "xst") {
				t.Errorf("%s is sent", name)
			}
		}
		if err != nil || header["Proxy-Authenticate"] != "Basic;" {
			t.Errorf("%v, %v", header, err)
		}
	})
	t.Run("a type of the handler's own [267 F25]", func(t *testing.T) {
		_, header, _, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/x-own")
			io.WriteString(w, "<html>")
		}, get("GET"))
		if err != nil || header["Content-Type"] != "text/x-own;" {
			t.Errorf("%v, %v", header, err)
		}
	})
	t.Run("lengths of bodies that are not sent [268 271]", func(t *testing.T) {
		for _, c := range []struct {
			method string
			status int
		}{{"HEAD", 200}, {"GET", 304}} {
			status, header, body, err := response(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "10")
				w.WriteHeader(c.status)
			}, get(c.method))
			if err != nil || status != c.status || header["Content-Length"] != "10;" || body != "" {
				t.Errorf("%s: %d %v %q, %v", c.method, status, header, body, err)
			}
		}
		_, _, body, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "one")
			io.WriteString(w, "two")
		}, get("HEAD"))
		if err != nil || body != "" {
			t.Errorf("%q, %v", body, err)
		}
		var w gatewaytest.Recorder
		h := gatewayhttp.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "short")
		}))
		if err := h.ServeGateway(&w, get("GET")); err == nil {
			t.Error("a short body is no error")
		}
	})
	t.Run("a status, then Flush [275]", func(t *testing.T) {
		status, _, _, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(404)
			w.(http.Flusher).Flush()
		}, get("GET"))
		if err != nil || status != 404 {
			t.Errorf("%d, %v", status, err)
		}
	})
	t.Run("panics [270 276]", func(t *testing.T) {
		for name, h := range map[string]http.HandlerFunc{
			"1000": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(1000) },
			"x":    func(w http.ResponseWriter, r *http.Request) { panic("x") },
		} {
			var log bytes.Buffer
			srv := &fastcgi.Server{Handler: gatewayhttp.Handler(h), Logger: slog.New(slog.NewTextHandler(&log, nil))}
			c := &fastcgi.Client{Addr: gatewaytest.Start(t, srv), Logger: quiet}
			var res gateway.Response
			r := get("GET")
			var errs bytes.Buffer
			r.Stderr = &errs
			if err := c.RoundTrip(t.Context(), r, &res); err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.Status != 500 || errs.Len() == 0 || !strings.Contains(log.String(), "panicked") {
				t.Errorf("%s: %d, STDERR %q, log %q", name, res.Status, errs.String(), log.String())
			}
		}
	})
	t.Run("targets [026 029]", func(t *testing.T) {
		for _, uri := range []string{"/?\x01", "/?\x7f", "/secret\x01"} {
			_, err := newRequest("REQUEST_METHOD", "GET", "REQUEST_URI", uri)
			if !errors.Is(err, gateway.ErrParam) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%q: %v", uri, err)
			}
		}
		r, err := newRequest("REQUEST_METHOD", "CONNECT", "REQUEST_URI", "name:443", "HTTP_HOST", "name:443")
		if err != nil || r.URL.Scheme != "" || r.URL.Host != "name:443" {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("context.AfterFunc", func(t *testing.T) {
		fired := make(chan struct{})
		if _, _, _, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithCancel(r.Context())
			context.AfterFunc(ctx, func() { close(fired) })
			_ = cancel // the request's end is what fires
		}, get("GET")); err != nil {
			t.Fatal(err)
		}
		select {
		case <-fired:
		case <-time.After(30 * time.Second):
			t.Error("nothing fired at the end of the request")
		}
	})
	t.Run("nil is the default mux", func(t *testing.T) {
		onDefaultMux()
		var w gatewaytest.Recorder
		if err := gatewayhttp.Handler(nil).ServeGateway(&w, gatewaytest.NewRequest("GET", "/edge-of-the-default-mux", nil)); err != nil || w.Body.String() != "default" {
			t.Errorf("%q, %v", w.Body.String(), err)
		}
	})
}

// TestCutToHTTP10: to a client of HTTP/1.0 only a reset tells a cut response from a whole one.
func TestCutToHTTP10(t *testing.T) {
	b := raw(t, "Status: 200 OK\r\n\r\n", "part", false)
	s := httptest.NewUnstartedServer(&gatewayhttp.Proxy{Backend: b, Logger: quiet})
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.Start()
	defer s.Close()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
	if b, err := io.ReadAll(c); err == nil {
		t.Errorf("%q looks whole", b)
	}
}

// TestLocalRedirect is items 228 and 229.
func TestLocalRedirect(t *testing.T) {
	loops := 0
	app := gateway.RoundTripperFunc(func(_ context.Context, r *gateway.Request, res *gateway.Response) error {
		head, body := "", ""
		switch r.PathInfo() {
		case "/local":
			head = "Location: /target?q=1\r\n\r\n"
		case "/fields":
			head = "Location: /target\r\nX: 1\r\n\r\n"
		case "/status":
			head = "Status: 302 Found\r\nLocation: /target\r\n\r\n"
		case "/body":
			head, body = "Location: /target\r\n\r\n", "a body"
		case "/loop":
			loops++
			head = "Location: /loop\r\n\r\n"
		case "/away":
			head = "Location: //host/x\r\n\r\n"
		case "/unclean":
			head = "Location: /a/../b\r\n\r\n"
		default:
			head, body = "Status: 200\r\n\r\n", fmt.Sprintf("%s %s %s %d %v", r.Method(), r.PathInfo(), r.Query(), r.ContentLength, r.Body != nil)
		}
		_, err := gateway.ConsumeResponse([]byte(head), res)
		res.Body = io.NopCloser(strings.NewReader(body))
		return err
	})
	p := &gatewayhttp.Proxy{Backend: app, Logger: quiet}
	ask := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader("sent")))
		return w
	}
	if w := ask("POST", "/local"); w.Code != 302 || w.Header().Get("Location") != "/target?q=1" {
		t.Errorf("228 off: %d %v", w.Code, w.Header())
	}
	p.LocalRedirect = p
	for path, want := range map[string]string{
		"/local": "200 GET /target q=1 0 false", "/fields": "302 ", "/status": "302 ", "/body": "302 a body",
		"/loop": "500 Internal Server Error\n", "/away": "502 Bad Gateway\n", "/unclean": "502 Bad Gateway\n",
	} {
		t.Run(path+" [228 229 F27]", func(t *testing.T) {
			if w := ask("POST", path); fmt.Sprint(w.Code, " ", w.Body.String()) != want {
				t.Errorf("%d %q", w.Code, w.Body.String())
			}
			if path == "/loop" && loops != 11 {
				t.Errorf("asked %d times", loops)
			}
		})
	}
}
