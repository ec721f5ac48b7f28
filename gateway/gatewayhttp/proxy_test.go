package gatewayhttp_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
)

// raw is a backend that responds with a head and body as they are, through a FastCGI connection.
func raw(t testing.TB, head, body string, whole bool) *fastcgi.Client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r := fastcgi.NewReader(c)
			var req gateway.Request
			r.ReadRequest(&req)
			w := fastcgi.NewWriter(c)
			w.WriteRecord(fastcgi.TypeStdout, 1, []byte(head+body))
			if whole {
				b, _ := fastcgi.AppendRecord(nil, fastcgi.TypeStdout, 1, nil)
				b, _ = fastcgi.AppendEnd(b, 1, fastcgi.End{})
				c.Write(b)
			}
			c.Close()
		}
	}()
	return &fastcgi.Client{Addr: l.Addr().String(), Logger: quiet}
}

// fronts are the two ways to put HTTP before a backend.
func fronts(b gateway.RoundTripper, m *gatewayhttp.Mapping) map[string]http.Handler {
	return map[string]http.Handler{
		"Proxy": &gatewayhttp.Proxy{Backend: b, Mapping: m, Logger: quiet},
		"Transport": &httputil.ReverseProxy{
			Transport: &gatewayhttp.Transport{Backend: b, Mapping: m},
			Rewrite: func(p *httputil.ProxyRequest) {
				p.SetURL(&url.URL{Scheme: "http", Host: "backend"})
				p.Out.Host = p.In.Host
				p.Out.URL.RawQuery = p.In.URL.RawQuery
			},
			ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
		},
	}
}

// through asks for path through every front.
func through(t *testing.T, b gateway.RoundTripper, m *gatewayhttp.Mapping, method, path string, check func(t *testing.T, res *http.Response, body string, err error)) {
	t.Helper()
	for name, h := range fronts(b, m) {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(h)
			s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
			s.Start()
			defer s.Close()
			req, err := http.NewRequest(method, s.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				check(t, nil, "", err)
				return
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			check(t, res, string(body), err)
		})
	}
}

func TestProxyResponse(t *testing.T) {
	const ask = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
	t.Run("responses without a body [118 119 261]", func(t *testing.T) {
		for _, c := range []struct{ method, head string }{
			{"HEAD", "Content-Length: 4\r\n\r\n"}, {"GET", "Status: 204 x\r\n\r\n"}, {"GET", "Status: 304 x\r\n\r\n"},
		} {
			through(t, raw(t, c.head, "body", true), nil, c.method, "/", func(t *testing.T, res *http.Response, body string, err error) {
				if err != nil || body != "" || c.method == "HEAD" && res.ContentLength != 4 {
					t.Errorf("%v %q, %v", res, body, err)
				}
			})
		}
	})
	t.Run("hop-by-hop fields [254 255 F28 F29]", func(t *testing.T) {
		head := "Connection: close, X-Foo, Content-Type\r\nX-Foo: 1\r\nKeep-Alive: 1\r\nProxy-Connection: 1\r\nTE: 1\r\nTrailer: X\r\nUpgrade: h2c\r\nProxy-Authenticate: 1\r\n" +
			"X-Accel-Redirect: /etc\r\nX-Accel-Buffering: no\r\nX-Sendfile: /etc\r\nX-LIGHTTPD-send-file: /etc\r\nContent-Type: a/b\r\nX-Bar: 2\r\nContent-Length: 2\r\n\r\n"
		through(t, raw(t, head, "ok", true), nil, "GET", "/", func(t *testing.T, res *http.Response, body string, err error) {
			if err != nil || body != "ok" {
				t.Fatalf("%q, %v", body, err)
			}
			res.Header.Del("Date")
			if diff := cmp.Diff(http.Header{"Content-Type": {"a/b"}, "X-Bar": {"2"}, "Content-Length": {"2"}}, res.Header); diff != "" {
				t.Error(diff)
			}
		})
	})
	t.Run("Status and cookies [247 256]", func(t *testing.T) {
		through(t, raw(t, "Status: 404 Nope\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n", "x", true), nil, "GET", "/", func(t *testing.T, res *http.Response, body string, err error) {
			if err != nil || res.StatusCode != 404 || res.Header.Get("Status") != "" || !slices.Equal(res.Header["Set-Cookie"], []string{"a", "b"}) {
				t.Errorf("%v, %v", res, err)
			}
		})
	})
	t.Run("a truncated response [087 252 F19]", func(t *testing.T) {
		for _, head := range []string{"Content-Type: a/b\r\n\r\n", "Content-Length: 50\r\n\r\n"} {
			through(t, raw(t, head, "part", false), nil, "GET", "/", func(t *testing.T, res *http.Response, body string, err error) {
				if err == nil {
					t.Errorf("%q looks whole", body)
				}
			})
		}
		through(t, raw(t, "Content-Length: 3\r\n\r\n", "abcde", true), nil, "GET", "/", func(t *testing.T, res *http.Response, body string, err error) {
			if err != nil || body != "abc" {
				t.Errorf("%q, %v", body, err)
			}
		})
	})
	t.Run("an invalid head [239 241 250 253 F18 F31]", func(t *testing.T) {
		for _, head := range []string{"A: 1\rB: 2\r\n\r\n", "<html>\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n", "Status: 101\r\nUpgrade: h2c\r\n\r\n", ""} {
			through(t, raw(t, head, "", true), nil, "GET", "/", func(t *testing.T, res *http.Response, body string, err error) {
				if err != nil || res.StatusCode != 502 {
					t.Errorf("%q: %v, %v", head, res, err)
				}
			})
		}
	})
	t.Run("interim responses [249]", func(t *testing.T) {
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</a>")
			w.WriteHeader(103)
			w.Header().Del("Link")
			io.WriteString(w, "final")
		}))
		for name, h := range fronts(c, nil) {
			s := httptest.NewServer(h)
			var hints []string
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
				hints = append(hints, fmt.Sprint(status, h.Get("Link")))
				return nil
			}})
			req, _ := http.NewRequestWithContext(ctx, "GET", s.URL, nil)
			res, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if string(b) != "final" || res.StatusCode != 200 || !slices.Equal(hints, []string{"103</a>"}) || res.Header.Get("Link") != "" {
				t.Errorf("%s: %q %v %v", name, b, hints, res.Header)
			}
			s.Close()
		}
	})
	t.Run("statuses of failures", func(t *testing.T) {
		dead := &fastcgi.Client{Addr: "unix:/nowhere/at/all"}
		for path, status := range map[string]int{"/x.php": 502, "/x.txt": 404, "/x%00.php": 400, "/x%0a.php": 400, "/../x.php": 400} {
			w := httptest.NewRecorder()
			(&gatewayhttp.Proxy{Backend: dead, Mapping: &gatewayhttp.Mapping{Root: "/r"}, Logger: quiet}).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
			if w.Code != status {
				t.Errorf("%s: %d, want %d", path, w.Code, status)
			}
		}
		w := httptest.NewRecorder()
		p := &gatewayhttp.Proxy{Backend: dead, ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) { w.WriteHeader(418) }}
		if p.ServeHTTP(w, httptest.NewRequest("GET", "/", nil)); w.Code != 418 {
			t.Errorf("%d", w.Code)
		}
		p = &gatewayhttp.Proxy{Backend: raw(t, "A: 1\r\n\r\n", "", true), Logger: quiet, ModifyResponse: func(res *gateway.Response) error {
			if res.Header.Get("A") == "1" {
				return gateway.ErrBodyTooLarge
			}
			return nil
		}}
		w = httptest.NewRecorder()
		if p.ServeHTTP(w, httptest.NewRequest("GET", "/", nil)); w.Code != 413 {
			t.Errorf("%d", w.Code)
		}
	})
	t.Run("ModifyResponse and lengths", func(t *testing.T) {
		p := &gatewayhttp.Proxy{Backend: raw(t, "Content-Length: 2\r\n\r\n", "ab", true), Logger: quiet, ModifyResponse: func(res *gateway.Response) error {
			res.Body.Close()
			res.Body, res.ContentLength = io.NopCloser(strings.NewReader("another")), 7
			return nil
		}}
		w := httptest.NewRecorder()
		if p.ServeHTTP(w, httptest.NewRequest("GET", "/", nil)); w.Body.String() != "another" || w.Header().Get("Content-Length") != "7" {
			t.Errorf("%q %v", w.Body.String(), w.Header())
		}
		var g gatewaytest.Recorder
		gp := &gateway.Proxy{Backend: p.Backend, ModifyResponse: p.ModifyResponse}
		if err := gp.ServeGateway(&g, gatewaytest.NewRequest("GET", "/", nil)); err != nil || g.Body.String() != "another" || g.Header().Get("Content-Length") != "7" {
			t.Errorf("%q, %v", g.Body.String(), err)
		}
	})
	t.Run("an application's response stays without a type [F25]", func(t *testing.T) {
		w := httptest.NewServer(&gatewayhttp.Proxy{Backend: raw(t, "X: 1\r\n\r\n", "<html>", true), Logger: quiet})
		defer w.Close()
		res, err := http.Get(w.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if v, ok := res.Header["Content-Type"]; ok {
			t.Errorf("Content-Type %q", v)
		}
	})
	t.Run("an interim 100 is not passed [249 F30]", func(t *testing.T) {
		b := raw(t, "Status: 100 Continue\r\n\r\nStatus: 200 OK\r\n\r\n", "x", true)
		for name, h := range fronts(b, nil) {
			if got := rawHTTP(t, h, ask); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") {
				t.Errorf("%s: %q", name, got)
			}
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
	t.Run("directives to a web server [255 F28]", func(t *testing.T) {
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
	t.Run("repeated fields with others between [256]", func(t *testing.T) {
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
	t.Run("large buffers are not pooled", func(t *testing.T) {
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
}

// The tests here hold single lines: each was written because the line could be taken out and
// nothing failed.

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

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

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

func TestProxyBody(t *testing.T) {
	t.Run("bodies of unknown length [080 199 300]", func(t *testing.T) {
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%d %s", r.ContentLength, b)
		}))
		for policy, expect := range map[gatewayhttp.BodyPolicy]string{gatewayhttp.SpoolUnknownBody: "5 hello", gatewayhttp.RefuseUnknownBody: "411", gatewayhttp.StreamBody: "411"} {
			s := httptest.NewServer(&gatewayhttp.Proxy{Backend: c, Mapping: &gatewayhttp.Mapping{Body: policy}, Logger: quiet})
			req, _ := http.NewRequest("POST", s.URL, struct{ io.Reader }{strings.NewReader("hello")})
			req.Header.Set("Expect", "100-continue")
			res, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if got := string(b); got != expect && fmt.Sprint(res.StatusCode) != expect {
				t.Errorf("policy %d: %d %q", policy, res.StatusCode, got)
			}
			s.Close()
		}
		small := &gatewayhttp.Mapping{Spool: gateway.Spool{MaxBytes: 3}}
		s := httptest.NewServer(&gatewayhttp.Proxy{Backend: c, Mapping: small, Logger: quiet})
		defer s.Close()
		res, err := http.Post(s.URL, "", struct{ io.Reader }{strings.NewReader("hello")})
		if err != nil || res.StatusCode != 413 {
			t.Errorf("%v, %v", res, err)
		}
		res.Body.Close()
	})
	t.Run("responses while the body arrives [082 083 F34]", func(t *testing.T) {
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/early" {
				w.WriteHeader(413)
				io.WriteString(w, "no")
				return
			}
			w.(http.Flusher).Flush()
			io.Copy(w, r.Body)
		}))
		s := httptest.NewServer(&gatewayhttp.Proxy{Backend: c, Logger: quiet})
		defer s.Close()
		pr, pw := io.Pipe()
		go func() {
			for range 10 {
				pw.Write(make([]byte, 10000))
				time.Sleep(time.Millisecond)
			}
			pw.Close()
		}()
		req, _ := http.NewRequest("POST", s.URL, pr)
		req.ContentLength = 100000
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if len(b) != 100000 || err != nil {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		io.WriteString(conn, "POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 500000\r\n\r\nabc") // and no more
		early, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || early.StatusCode != 413 {
			t.Errorf("%v, %v", early, err)
		}
	})
	t.Run("faults of the client", func(t *testing.T) {
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
		s := httptest.NewUnstartedServer(&gatewayhttp.Proxy{Backend: c, Logger: quiet})
		s.Config.ReadTimeout = 200 * time.Millisecond
		s.Start()
		defer s.Close()
		for body, status := range map[string]int{
			"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n": 400, "Transfer-Encoding: chunked\r\n\r\n5\r\nab": 408,
		} {
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(30 * time.Second))
			io.WriteString(conn, "POST / HTTP/1.1\r\nHost: h\r\n"+body)
			if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != status {
				t.Errorf("%q: %v, %v", body, res, err)
			}
			conn.Close()
		}
		w := httptest.NewRecorder()
		r := httptest.NewRequest("POST", "/", strings.NewReader("long"))
		r.Body = http.MaxBytesReader(w, r.Body, 2)
		r.ContentLength = -1
		(&gatewayhttp.Proxy{Backend: c, Logger: quiet}).ServeHTTP(w, r)
		if w.Code != 413 {
			t.Errorf("%d", w.Code)
		}
	})
	t.Run("the proxy handles Expect [300]", func(t *testing.T) {
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
	t.Run("a body that still arrives when the response is complete [083]", func(t *testing.T) {
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
	t.Run("the rest of a body is not a request [F2]", func(t *testing.T) {
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
	t.Run("RefuseUnknownBody and StreamBody [080]", func(t *testing.T) {
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

func TestProxyEnds(t *testing.T) {
	t.Run("no connection is left open", func(t *testing.T) {
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/204" {
				w.WriteHeader(204)
				return
			}
			io.WriteString(w, "body")
		}))
		for _, h := range fronts(c, nil) {
			for _, r := range []*http.Request{httptest.NewRequest("HEAD", "/", nil), httptest.NewRequest("GET", "/204", nil)} {
				h.ServeHTTP(httptest.NewRecorder(), r)
			}
		}
		failing := &gatewayhttp.Proxy{Backend: c, Logger: quiet, ModifyResponse: func(*gateway.Response) error { return io.EOF }}
		failing.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		var g gatewaytest.Recorder
		gp := &gateway.Proxy{Backend: c, ModifyResponse: func(*gateway.Response) error { return io.EOF }}
		if err := gp.ServeGateway(&g, gatewaytest.NewRequest("GET", "/", nil)); err == nil {
			t.Error("no error")
		}
		if st := c.Stats(); st.InFlight != 0 {
			t.Errorf("%+v", st)
		}
	})
	t.Run("a client that disconnects", func(t *testing.T) {
		gone := make(chan struct{})
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			gone <- struct{}{}
		}))
		for _, h := range fronts(c, nil) {
			s := httptest.NewServer(h)
			ctx, cancel := context.WithCancel(t.Context())
			req, _ := http.NewRequestWithContext(ctx, "GET", s.URL, nil)
			res, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			res.Body.Close()
			<-gone
			s.Close()
		}
		if st := c.Stats(); st.Idle != 0 || st.InFlight != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// SpoolBody reads a body to its end before the backend is called, even if its length is known.
func TestSpoolBody(t *testing.T) {
	called := make(chan string, 1)
	backend := gateway.RoundTripperFunc(func(_ context.Context, r *gateway.Request, res *gateway.Response) error {
		b, err := io.ReadAll(r.Body)
		called <- string(b)
		res.Reset()
		res.Status, res.Body = 204, http.NoBody
		return err
	})
	p := &gatewayhttp.Proxy{Backend: backend, Mapping: &gatewayhttp.Mapping{Body: gatewayhttp.SpoolBody}}
	body, client := io.Pipe()
	r := httptest.NewRequest("POST", "/", body)
	r.ContentLength = 10
	done := make(chan struct{})
	w := httptest.NewRecorder()
	go func() {
		defer close(done)
		p.ServeHTTP(w, r)
	}()
	io.WriteString(client, "hello")
	select {
	case <-called:
		t.Fatal("the backend was called before the body was complete")
	default:
	}
	io.WriteString(client, "world")
	client.Close()
	<-done
	if got := <-called; got != "helloworld" || w.Code != 204 {
		t.Errorf("the backend got %q; status %d", got, w.Code)
	}
}

// The body of an application that never ends is discarded for a limited time.
func TestDrainEnds(t *testing.T) {
	t.Parallel() // it takes as long as that may
	addr := gatewaytest.Start(t, &fastcgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		w.Flush()
		<-r.Context().Done()
		return nil
	})})
	srv := httptest.NewServer(&gatewayhttp.Proxy{Backend: &fastcgi.Client{Addr: addr}})
	defer srv.Close()
	for range 2 { // the second on the same connection
		res, err := srv.Client().Head(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
}

func TestInterimAndUpgradeNeedHTTP11(t *testing.T) {
	b := gateway.RoundTripperFunc(func(_ context.Context, r *gateway.Request, res *gateway.Response) error {
		res.Reset()
		if r.Interim != nil {
			h := new(gateway.Header)
			h.Add("Link", "</a>")
			r.Interim(103, h)
		}
		res.Status, res.ContentLength = 200, -1
		res.Header.Add("X-Upgrade", r.Upgrade)
		res.Body = io.NopCloser(strings.NewReader("body"))
		return nil
	})
	const ask = "Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n"
	for request, want := range map[string][2]bool{
		"GET / HTTP/1.1\r\n" + ask + "\r\n":                          {true, true},
		"GET / HTTP/1.0\r\n" + ask + "\r\n":                          {false, false},
		"POST / HTTP/1.1\r\n" + ask + "Content-Length: 1\r\n\r\nx":   {true, false},
		"GET / HTTP/1.1\r\n" + ask + "Content-Length: 1\r\n\r\nx":    {true, false},
		"OPTIONS / HTTP/1.1\r\n" + ask + "Content-Length: 0\r\n\r\n": {true, false},
	} {
		got := rawHTTP(t, &gatewayhttp.Proxy{Backend: b}, request)
		if strings.Contains(got, " 103 ") != want[0] || strings.Contains(got, "X-Upgrade: websocket") != want[1] || !strings.Contains(got, "body") {
			t.Errorf("249 175 %q: %q", request, got)
		}
	}
}

func TestConnectionOfTheApplicationIsItsOwn(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Strict-Transport-Security", "ours")
		w.Header().Set("Content-Type", "text/ours")
		(&gatewayhttp.Proxy{Backend: responses("Connection: Strict-Transport-Security, X-Hop\r\nX-Hop: 1\r\nX-Kept: 1\r\nContent-Type: text/theirs\r\n\r\n", "")}).ServeHTTP(w, r)
	}
	w := httptest.NewRecorder()
	h(w, httptest.NewRequest("GET", "/", nil))
	got := w.Header()
	if got.Get("Strict-Transport-Security") != "ours" || got.Get("X-Hop") != "" || got.Get("X-Kept") != "1" || len(got["Content-Type"]) != 1 || got.Get("Content-Type") != "text/theirs" {
		t.Errorf("254 F29: %v", got)
	}
}

// http2Site serves both front ends over HTTP/2 and gives each to f with a client that speaks
// nothing else.
func http2Site(t *testing.T, app http.Handler, m *gatewayhttp.Mapping, f func(t *testing.T, url string, c *http.Client)) {
	backend := serve(t, app)
	for name, front := range fronts(backend, m) {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(front)
			s.EnableHTTP2 = true
			s.StartTLS()
			t.Cleanup(s.Close)
			f(t, s.URL, s.Client())
		})
	}
}

// TestHTTP2 has HTTP/2 in front: what differs is the protocol's name, that a body needs no length,
// and that a stream alone is cut when a response breaks off.
func TestHTTP2(t *testing.T) {
	body := make([]byte, 1<<20)
	rand.Read(body)
	mux := http.NewServeMux()
	mux.HandleFunc("/params", func(w http.ResponseWriter, r *http.Request) {
		p := gatewayhttp.Params(r)
		fmt.Fprintf(w, "%s %s %s %s", p.Get("SERVER_PROTOCOL"), p.Get("HTTPS"), p.Get("HTTP_COOKIE"), r.Proto)
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Length", fmt.Sprint(r.ContentLength))
		w.Write(b)
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	http2Site(t, mux, nil, func(t *testing.T, url string, c *http.Client) {
		ask := func(method, path string, body io.Reader) (*http.Response, []byte, error) {
			r, err := http.NewRequest(method, url+path, body)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Add("Cookie", "a=1")
			r.Header.Add("Cookie", "b=2")
			res, err := c.Do(r)
			if err != nil {
				return nil, nil, err
			}
			defer res.Body.Close()
			if res.ProtoMajor != 2 {
				t.Fatalf("%s", res.Proto)
			}
			b, err := io.ReadAll(res.Body)
			return res, b, err
		}
		if _, b, err := ask("GET", "/params", nil); err != nil || string(b) != "HTTP/2.0 on a=1; b=2 HTTP/2.0" {
			t.Errorf("%q, %v", b, err)
		}
		res, b, err := ask("POST", "/echo", io.MultiReader(bytes.NewReader(body))) // of no known length
		if err != nil || !bytes.Equal(b, body) || res.Header.Get("X-Length") != fmt.Sprint(len(body)) {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		if _, b, err := ask("GET", "/cut", nil); err == nil || string(b) != "half" {
			t.Errorf("a response that broke off looked whole: %q", b)
		}
	})
}

// TestClientGone: the application learns of a client that gives up, whatever the front end and the
// version of HTTP.
func TestClientGone(t *testing.T) {
	gone := make(chan error, 1)
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begun")
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			gone <- nil
		case <-time.After(30 * time.Second):
			gone <- errors.New("the application was told of nothing")
		}
	})
	http2Site(t, app, nil, func(t *testing.T, url string, c *http.Client) {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		io.ReadFull(res.Body, make([]byte, 5))
		cancel()
		if err := <-gone; err != nil {
			t.Error(err)
		}
	})
}

// A bare is the ResponseWriter of a middleware without Unwrap.
type bare struct{ http.ResponseWriter }

// TestTruncatedForHTTP10 checks that an HTTP/1.0 client can see that a response is incomplete.
func TestTruncatedForHTTP10(t *testing.T) {
	truncated := func() gateway.RoundTripper {
		return responding(io.NopCloser(io.MultiReader(strings.NewReader("part"), iotest.ErrReader(gateway.ErrTruncated))), -1)
	}
	t.Run("over TLS [F58]", func(t *testing.T) {
		web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			(&gatewayhttp.Proxy{Backend: truncated()}).ServeHTTP(w, r)
		}))
		defer web.Close()
		c, err := tls.Dial("tcp", web.Listener.Addr().String(), web.Client().Transport.(*http.Transport).TLSClientConfig)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		if b, err := io.ReadAll(c); err == nil {
			t.Errorf("%q looks complete", b)
		}
	})
	wrapped := func(backend gateway.RoundTripper) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			(&gatewayhttp.Proxy{Backend: backend}).ServeHTTP(bare{w}, r)
		}))
	}
	ask := func(t *testing.T, web *httptest.Server) string {
		t.Helper()
		defer web.Close()
		c, err := net.Dial("tcp", web.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		b, _ := io.ReadAll(c)
		return string(b)
	}
	t.Run("behind a ResponseWriter without Unwrap [F58]", func(t *testing.T) {
		if got := ask(t, wrapped(truncated())); !strings.HasPrefix(got, "HTTP/1.0 502 ") {
			t.Errorf("%q", got)
		}
	})
	t.Run("a whole response gets its length", func(t *testing.T) {
		for _, size := range []int{0, 10, 100_000} {
			body := &watchedBody{Reader: strings.NewReader(strings.Repeat("x", size))}
			got := ask(t, wrapped(responding(body, -1)))
			if !strings.Contains(got, fmt.Sprintf("\r\nContent-Length: %d\r\n", size)) || !strings.HasSuffix(got, "\r\n\r\n"+strings.Repeat("x", size)) || body.closed.Load() == 0 {
				t.Errorf("%d bytes: %.200q, closed %v", size, got, body.closed.Load())
			}
		}
	})
}

// TestLogsNameTheRequest checks the records of responses that the Proxy makes itself.
func TestLogsNameTheRequest(t *testing.T) {
	for _, c := range []struct {
		path string
		err  error
		want string
	}{
		{"/x.php?secret=1", &gateway.Error{Phase: gateway.PhaseDial, Addr: "unix:/run/php.sock", Err: errors.New("refused")}, "level=ERROR msg=\"no response\" status=502 error=\"gateway: dial unix:/run/php.sock: refused\" method=GET path=/x.php remote=192.0.2.1:1234 script=/srv/www/x.php"},
		{"/none", nil, "level=INFO msg=\"no response\" status=404 error=\"gateway: request: gatewayhttp: no script in the path: file does not exist\" method=GET path=/none remote=192.0.2.1:1234"},
	} {
		var log bytes.Buffer
		p := &gatewayhttp.Proxy{Mapping: &gatewayhttp.Mapping{Root: "/srv/www"}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		p.Backend = gateway.RoundTripperFunc(func(context.Context, *gateway.Request, *gateway.Response) error { return c.err })
		p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", c.path, nil))
		if _, got, _ := strings.Cut(log.String(), " "); got != c.want+"\n" {
			t.Errorf("%s:\n%s\nwant %s", c.path, got, c.want)
		}
	}
}
