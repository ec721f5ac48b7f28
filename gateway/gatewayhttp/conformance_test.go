package gatewayhttp_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/netip"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

var quiet = slog.New(slog.DiscardHandler)

// mapped is what m makes of r.
func mapped(m *gatewayhttp.Mapping, r *http.Request) (map[string]string, error) {
	var p gateway.Params
	if err := m.AddParams(&p, r); err != nil {
		return nil, err
	}
	got := make(map[string]string)
	for name, value := range p.All() {
		if _, twice := got[string(name)]; twice {
			got["TWICE"] = string(name)
		}
		got[string(name)] = string(value)
	}
	return got, nil
}

func get(target string, fields ...string) *http.Request {
	r := httptest.NewRequest("GET", target, nil)
	for i := 0; i < len(fields); i += 2 {
		r.Header[fields[i]] = append(r.Header[fields[i]], fields[i+1])
	}
	return r
}

// TestMappingConformance is those of items 1 to 54 and 300 that make params of an http.Request.
func TestMappingConformance(t *testing.T) {
	wsgi := &gatewayhttp.Mapping{}
	php := &gatewayhttp.Mapping{Root: "/srv/www"}
	params := func(t *testing.T, m *gatewayhttp.Mapping, r *http.Request) map[string]string {
		t.Helper()
		got, err := mapped(m, r)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	absent := func(t *testing.T, got map[string]string, names ...string) {
		t.Helper()
		for _, name := range names {
			if v, ok := got[name]; ok {
				t.Errorf("%s=%q is sent", name, v)
			}
		}
	}
	t.Run("Proxy [004 F1]", func(t *testing.T) {
		for _, name := range []string{"Proxy", "pRoXy", "PROXY"} {
			absent(t, params(t, wsgi, get("/", name, "http://evil")), "HTTP_PROXY")
		}
	})
	t.Run("names with other bytes [006 007 288 F10]", func(t *testing.T) {
		got := params(t, wsgi, get("/", "X_User", "spoof", "X-User", "real", "Remote.User", "spoof", "Remote_User", "spoof", "X User", "a", "X'User", "a", "X!User", "a"))
		if got["HTTP_X_USER"] != "real" {
			t.Errorf("%q", got["HTTP_X_USER"])
		}
		absent(t, got, "HTTP_REMOTE_USER", "REMOTE_USER", "HTTP_X'USER", "HTTP_X!USER")
	})
	t.Run("values that repeat [009]", func(t *testing.T) {
		got := params(t, wsgi, get("/", "Accept", "a", "Accept", "b", "Cookie", "a=1", "Cookie", "b=2"))
		if got["HTTP_ACCEPT"] != "a, b" || got["HTTP_COOKIE"] != "a=1; b=2" {
			t.Errorf("%v", got)
		}
	})
	t.Run("data makes no other names [012 013 F11 F12 F43]", func(t *testing.T) {
		got := params(t, wsgi, get("/", "Php-Value", "x", "Uwsgi-File", "x", "Script-Name", "x"))
		absent(t, got, "PHP_VALUE", "UWSGI_FILE")
		if got["SCRIPT_NAME"] != "" || got["HTTP_PHP_VALUE"] != "x" || got["TWICE"] != "" {
			t.Errorf("%v", got)
		}
	})
	t.Run("fields that are not passed [014 016 300 F29]", func(t *testing.T) {
		got := params(t, wsgi, get("/", "Content-Type", "a/b", "Content-Length", "5", "Transfer-Encoding", "chunked", "Te", "x", "Trailer", "x",
			"Connection", "keep-alive, X-Hop", "X-Hop", "x", "Keep-Alive", "x", "Upgrade", "h2c", "Expect", "100-continue", "Proxy-Authorization", "x", "Proxy-Connection", "x", "Host", "forged"))
		absent(t, got, "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_TE", "HTTP_TRAILER", "HTTP_CONNECTION", "HTTP_X_HOP",
			"HTTP_KEEP_ALIVE", "HTTP_UPGRADE", "HTTP_EXPECT", "HTTP_PROXY_AUTHORIZATION", "HTTP_PROXY_CONNECTION", "CONTENT_LENGTH")
		if got["CONTENT_TYPE"] != "a/b" || got["HTTP_HOST"] != "example.com" {
			t.Errorf("%v", got)
		}
	})
	t.Run("SERVER_PROTOCOL [022 F13]", func(t *testing.T) {
		for proto, expect := range map[[2]int]string{{1, 0}: "HTTP/1.0", {1, 1}: "HTTP/1.1", {2, 0}: "HTTP/2.0", {3, 0}: "HTTP/3.0"} {
			r := get("/")
			r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1 200\r\nX: y", proto[0], proto[1]
			if got := params(t, wsgi, r); got["SERVER_PROTOCOL"] != expect {
				t.Errorf("%v: %q", proto, got["SERVER_PROTOCOL"])
			}
		}
		r := get("/")
		r.ProtoMajor = 9
		if _, err := mapped(wsgi, r); !errors.Is(err, gateway.ErrParam) {
			t.Error(err)
		}
	})
	t.Run("HTTP_HOST [024 F45]", func(t *testing.T) {
		r := get("http://target.example/x", "Host", "header.example")
		if got := params(t, wsgi, r); got["HTTP_HOST"] != "target.example" {
			t.Errorf("%q", got["HTTP_HOST"])
		}
		for _, host := range []string{"a/b", "a?b", "a@b", "a b", "a\r\nb", "h:$(id)", "h:80x", "h:99999", "a:b:1", "::1", "[::1", "[x]:1", "[1.2.3.4]"} {
			r := get("/")
			r.Host = host
			if _, err := mapped(wsgi, r); !errors.Is(err, gateway.ErrParam) {
				t.Errorf("%q: %v", host, err)
			}
		}
	})
	t.Run("control bytes in the path [029 051 F8 F26]", func(t *testing.T) {
		for _, path := range []string{"/a.php\n/b", "/a.php\r", "/a.jpg\x00.php"} {
			for _, m := range []*gatewayhttp.Mapping{wsgi, php} {
				r := get("/")
				r.URL.Path = path
				if _, err := mapped(m, r); !errors.Is(err, gateway.ErrParam) {
					t.Errorf("%q: %v", path, err)
				}
			}
		}
	})
	t.Run("encoded slashes [030]", func(t *testing.T) {
		if got := params(t, wsgi, get("/a%2Fb?c=%2F")); got["REQUEST_URI"] != "/a%2Fb?c=%2F" || got["PATH_INFO"] != "/a/b" || got["QUERY_STRING"] != "c=%2F" {
			t.Errorf("%v", got)
		}
	})
	t.Run("QUERY_STRING [032]", func(t *testing.T) {
		for _, target := range []string{"/x", "/x?"} {
			if v, ok := params(t, wsgi, get(target))["QUERY_STRING"]; !ok || v != "" {
				t.Errorf("%s: %q %v", target, v, ok)
			}
		}
	})
	t.Run("names and paths [033 034 F24]", func(t *testing.T) {
		for _, c := range []struct {
			m                      *gatewayhttp.Mapping
			path, name, info, file string
		}{
			{wsgi, "/a/b", "", "/a/b", ""},
			{&gatewayhttp.Mapping{Prefix: "/app"}, "/app/x", "/app", "/x", ""},
			{&gatewayhttp.Mapping{Prefix: "/app/"}, "/app", "/app", "", ""},
			{&gatewayhttp.Mapping{Prefix: "/app"}, "/apple", "", "/apple", ""},
			{wsgi, "a/b", "", "/a/b", ""}, // from which http.StripPrefix took the slash, too
			{php, "/x.php", "/x.php", "", "/srv/www/x.php"},
			{php, "/x.php/info", "/x.php", "/info", "/srv/www/x.php"},
			{php, "/", "/index.php", "", "/srv/www/index.php"},
			{php, "/d/", "/d/index.php", "", "/srv/www/d/index.php"},
			{php, "/x.php/", "/x.php", "/", "/srv/www/x.php"},
			{&gatewayhttp.Mapping{Root: "/srv/www/", Prefix: "/p"}, "/p/x.php/i", "/p/x.php", "/i", "/srv/www/x.php"},
			{&gatewayhttp.Mapping{Root: "/r", Split: []string{}}, "/any/thing", "/any/thing", "", "/r/any/thing"},
			{&gatewayhttp.Mapping{Root: "/r", Index: "app.py", Split: []string{".py"}}, "/", "/app.py", "", "/r/app.py"},
		} {
			r := get("/")
			r.URL.Path = c.path
			got := params(t, c.m, r)
			if got["SCRIPT_NAME"] != c.name || got["PATH_INFO"] != c.info || got["SCRIPT_FILENAME"] != c.file {
				t.Errorf("%s: %q %q %q", c.path, got["SCRIPT_NAME"], got["PATH_INFO"], got["SCRIPT_FILENAME"])
			}
			if _, translated := got["PATH_TRANSLATED"]; translated != (c.info != "" && c.file != "") {
				t.Errorf("%s: PATH_TRANSLATED %q", c.path, got["PATH_TRANSLATED"])
			}
		}
	})
	t.Run("what is always there [035]", func(t *testing.T) {
		got := params(t, wsgi, get("/"))
		for _, name := range []string{"GATEWAY_INTERFACE", "SERVER_SOFTWARE", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "REQUEST_METHOD", "SCRIPT_NAME", "REMOTE_ADDR", "QUERY_STRING"} {
			if _, ok := got[name]; !ok {
				t.Errorf("no %s", name)
			}
		}
	})
	t.Run("names and ports [036 038]", func(t *testing.T) {
		for host, expect := range map[string][3]string{
			"a": {"a", "80", "443"}, "a:81": {"a", "81", "81"}, "[::1]:8080": {"[::1]", "8080", "8080"}, "[::1]": {"[::1]", "80", "443"}, "": {"localhost", "80", "443"},
		} {
			for i, state := range []*tls.ConnectionState{nil, {}} {
				r := get("/")
				r.Host, r.TLS = host, state
				got := params(t, wsgi, r)
				if got["SERVER_NAME"] != expect[0] || got["SERVER_PORT"] != expect[1+i] {
					t.Errorf("%q: %q %q", host, got["SERVER_NAME"], got["SERVER_PORT"])
				}
				if https, ok := got["HTTPS"]; ok != (state != nil) || ok && https != "on" || got["REQUEST_SCHEME"] != []string{"http", "https"}[i] {
					t.Errorf("HTTPS=%q, %q", https, got["REQUEST_SCHEME"])
				}
			}
		}
	})
	t.Run("REMOTE_ADDR [037]", func(t *testing.T) {
		for addr, expect := range map[string][2]string{"1.2.3.4:56": {"1.2.3.4", "56"}, "[fe80::1%eth0]:7": {"fe80::1", "7"}, "@": {"", ""}, "": {"", ""}} {
			r := get("/")
			r.RemoteAddr = addr
			if got := params(t, wsgi, r); got["REMOTE_ADDR"] != expect[0] || got["REMOTE_PORT"] != expect[1] {
				t.Errorf("%q: %q %q", addr, got["REMOTE_ADDR"], got["REMOTE_PORT"])
			}
		}
	})
	t.Run("credentials [041 042]", func(t *testing.T) {
		got := params(t, wsgi, get("/", "Authorization", "Basic x", "Auth-Type", "x", "Remote-User", "x"))
		if got["HTTP_AUTHORIZATION"] != "Basic x" {
			t.Error("no Authorization")
		}
		absent(t, got, "AUTH_TYPE", "REMOTE_USER")
		r := get("/")
		r = r.WithContext(gatewayhttp.WithParam(gatewayhttp.WithParam(r.Context(), "REMOTE_USER", "old"), "REMOTE_USER", "ali"))
		if got := params(t, wsgi, r); got["REMOTE_USER"] != "ali" || gatewayhttp.ContextParam(r, "REMOTE_USER") != "ali" || gatewayhttp.ContextParam(r, "X") != "" {
			t.Errorf("%v", got)
		}
	})
	t.Run("an empty User-Agent [044]", func(t *testing.T) {
		got := params(t, wsgi, get("/", "User-Agent", "", "X-Empty", ""))
		absent(t, got, "HTTP_USER_AGENT")
		if v, ok := got["HTTP_X_EMPTY"]; !ok || v != "" {
			t.Error("an empty field is lost")
		}
	})
	t.Run("out of the root [049 F40]", func(t *testing.T) {
		for _, path := range []string{"../x.php", "../../", "x.php", "/../x.php", "/a/../../x.php", "/a/../x.php", "//x.php", "/./x.php"} {
			r := get("/")
			r.URL.Path = path
			if got, err := mapped(php, r); err == nil {
				t.Errorf("%q: %q", path, got["SCRIPT_FILENAME"])
			}
		}
	})
	t.Run("folding [050 F9]", func(t *testing.T) {
		for path, name := range map[string]string{
			"/x.PHP/i": "/x.PHP", "/ȺȺȺȺ.php.txt.php": "/ȺȺȺȺ.php.txt.php", "/ẞ.php/x": "/ẞ.php",
			"/x.ｐhp": "", "/x.𝗉hp": "", "/x.¡.txt": "", "/x.phpx": "", "/x.php.txt": "", "/.php": "/.php", "/php": "",
		} {
			r := get("/")
			r.URL.Path = path
			got, err := mapped(php, r)
			if name == "" && !errors.Is(err, fs.ErrNotExist) || name != "" && got["SCRIPT_NAME"] != name {
				t.Errorf("%q: %q, %v", path, got["SCRIPT_NAME"], err)
			}
		}
	})
	t.Run("backslashes, an empty path, a prefix that is gone [010 049]", func(t *testing.T) {
		r := get("/")
		r.URL.Path = `/..\..\secret.php`
		if got, err := mapped(php, r); !errors.Is(err, gateway.ErrParam) {
			t.Errorf("%q, %v", got["SCRIPT_FILENAME"], err)
		}
		r.URL.Path = ""
		if got := params(t, php, r); got["SCRIPT_NAME"] != "/index.php" {
			t.Errorf("%v", got)
		}
		if got := params(t, wsgi, r); got["PATH_INFO"] != "/" {
			t.Errorf("%v", got)
		}
		m := &gatewayhttp.Mapping{Prefix: "/app"}
		r = get("/app/app/x")
		if got := params(t, m, r); got["SCRIPT_NAME"] != "/app" || got["PATH_INFO"] != "/app/x" {
			t.Errorf("%v", got)
		}
		r.URL.Path = "/app/x" // as http.StripPrefix leaves it
		if got := params(t, m, r); got["SCRIPT_NAME"] != "/app" || got["PATH_INFO"] != "/app/x" {
			t.Errorf("%v", got)
		}
		if got := params(t, &gatewayhttp.Mapping{Root: "/r", Split: []string{}}, get("/d/")); got["SCRIPT_FILENAME"] != "/r/d/index.php" {
			t.Errorf("%v", got)
		}
	})
	t.Run("several extensions [052 053]", func(t *testing.T) {
		m := &gatewayhttp.Mapping{Root: "/r", Split: []string{".php5", ".php"}}
		for path, name := range map[string]string{"/a.php/b.php/c": "/a.php", "/a.php5/b.php": "/a.php5", "/d.x/b.php5": "/d.x/b.php5"} {
			if got := params(t, m, get(path)); got["SCRIPT_NAME"] != name {
				t.Errorf("%s: %q", path, got["SCRIPT_NAME"])
			}
		}
	})
	t.Run("a script that is not there [054]", func(t *testing.T) {
		m := &gatewayhttp.Mapping{Root: "/r", Files: fstest.MapFS{"x.php": {}, "d.php/y.php": {}}}
		if got := params(t, m, get("/x.php/i")); got["SCRIPT_FILENAME"] != "/r/x.php" {
			t.Errorf("%v", got)
		}
		for _, path := range []string{"/y.php", "/d.php", "/x.php.php"} {
			if _, err := mapped(m, get(path)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v", path, err)
			}
		}
	})
	t.Run("params that stand twice [011 F46]", func(t *testing.T) {
		if _, err := newRequest("REQUEST_METHOD", "GET", "REQUEST_METHOD", "DELETE"); !errors.Is(err, gateway.ErrParam) {
			t.Error(err)
		}
	})
	t.Run("a script that was chosen, the last word, and nothing more", func(t *testing.T) {
		r := get("/pretty")
		r = r.WithContext(gatewayhttp.WithScript(r.Context(), gatewayhttp.Script{Filename: "/r/front.php", Name: "/front.php", PathInfo: "/pretty"}))
		m := &gatewayhttp.Mapping{Root: "/r", Params: func(p *gateway.Params, r *http.Request) error {
			p.Set("SERVER_SOFTWARE", "mine")
			return nil
		}}
		if got := params(t, m, r); got["SCRIPT_FILENAME"] != "/r/front.php" || got["SERVER_SOFTWARE"] != "mine" {
			t.Errorf("%v", got)
		}
		m = &gatewayhttp.Mapping{Minimal: true, Params: m.Params}
		if diff := cmp.Diff(map[string]string{"SERVER_SOFTWARE": "mine"}, params(t, m, get("/"))); diff != "" {
			t.Error(diff)
		}
	})
}

// newRequest is NewRequest of params.
func newRequest(nv ...string) (*http.Request, error) {
	r := new(gateway.Request)
	r.ContentLength = -1
	for i := 0; i < len(nv); i += 2 {
		r.Params.Add(nv[i], nv[i+1])
	}
	return gatewayhttp.NewRequest(context.Background(), r)
}

// TestRequestConformance is those of items 1 to 54 that make an http.Request of params.
func TestRequestConformance(t *testing.T) {
	ok := func(t *testing.T, nv ...string) *http.Request {
		t.Helper()
		r, err := newRequest(append(nv, "REQUEST_METHOD", "GET")...)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	t.Run("fields [014 015 017 046]", func(t *testing.T) {
		r := ok(t, "HTTP_ACCEPT_ENCODING", "gzip", "CONTENT_TYPE", "a/b", "HTTP_CONTENT_TYPE", "x", "HTTP_CONTENT_LENGTH", "9", "HTTP_TRANSFER_ENCODING", "chunked",
			"HTTP_PROXY", "x", "SSL_X", "x", "REMOTE_USER", "x", "http_lower", "x", "HTTP_x", "x", "HTTP_", "x", "HTTP_X-Y", "x", "HTTP_X__Y", "", "HTTP_HOST", "h")
		if diff := cmp.Diff(http.Header{"Accept-Encoding": {"gzip"}, "Content-Type": {"a/b"}, "X--Y": {""}}, r.Header); diff != "" {
			t.Error(diff)
		}
		p := gatewayhttp.Params(r)
		if p.Get("REMOTE_USER") != "x" || p != gatewayhttp.Params(r) || gatewayhttp.Params(httptest.NewRequest("GET", "/", nil)) != nil {
			t.Error("params")
		}
	})
	t.Run("no body [019]", func(t *testing.T) {
		r := new(gateway.Request)
		r.Params.Add("REQUEST_METHOD", "GET")
		hr, err := gatewayhttp.NewRequest(t.Context(), r)
		if err != nil || hr.Body != http.NoBody || hr.ContentLength != 0 {
			t.Errorf("%v %d, %v", hr.Body, hr.ContentLength, err)
		}
	})
	t.Run("SERVER_PROTOCOL [023]", func(t *testing.T) {
		for p, expect := range map[string]string{"": "HTTP/1.0", "INCLUDED": "HTTP/1.0", "HTTP/2": "HTTP/2.0", "HTTP/1.1": "HTTP/1.1", "HTTP/3.0": "HTTP/3.0", "HTTP/0.9": "HTTP/0.9"} {
			if r := ok(t, "SERVER_PROTOCOL", p); r.Proto != expect {
				t.Errorf("%q: %q", p, r.Proto)
			}
		}
		if _, err := newRequest("REQUEST_METHOD", "GET", "SERVER_PROTOCOL", "SPDY/3"); !errors.Is(err, gateway.ErrParam) {
			t.Error(err)
		}
	})
	t.Run("the host [025 F44]", func(t *testing.T) {
		for _, h := range []string{"a/b?", "a#b", "u@h", "a b", "a\\b", "a\x01"} {
			if _, err := newRequest("REQUEST_METHOD", "GET", "HTTP_HOST", h); !errors.Is(err, gateway.ErrParam) {
				t.Errorf("%q: %v", h, err)
			}
		}
		if r := ok(t, "HTTP_HOST", "[::1]:80"); r.Host != "[::1]:80" {
			t.Errorf("%q", r.Host)
		}
		if r := ok(t, "SERVER_NAME", "n", "SERVER_PORT", "81"); r.Host != "n:81" {
			t.Errorf("%q", r.Host)
		}
	})
	t.Run("targets [026 027 029 030 F44]", func(t *testing.T) {
		for _, c := range []struct{ uri, path, raw, query, host string }{
			{"/a%2Fb?c;d", "/a/b", "/a%2Fb", "c;d", ""},
			{"//x/y", "//x/y", "", "", ""},
			{"http://h/p?q", "/p", "", "q", "h"},
			{"*", "*", "", "", ""},
			{"/a%0ab", "/a\nb", "/a%0ab", "", ""},
			{"/plain?", "/plain", "", "", ""},
		} {
			r := ok(t, "REQUEST_URI", c.uri, "HTTP_HOST", "front")
			if r.RequestURI != c.uri || r.URL.Path != c.path || r.URL.RawPath != c.raw || r.URL.RawQuery != c.query || r.URL.Host != c.host || r.Host != "front" {
				t.Errorf("%q: %+v", c.uri, r.URL)
			}
			if std, err := url.ParseRequestURI(c.uri); err != nil || *std != *r.URL {
				t.Errorf("%q: %+v, net/url has %+v", c.uri, r.URL, std)
			}
		}
		r, err := newRequest("REQUEST_METHOD", "CONNECT", "REQUEST_URI", "h:443")
		if err != nil || r.URL.Host != "h:443" || r.URL.Path != "" {
			t.Errorf("%+v, %v", r.URL, err)
		}
		r = ok(t, "SCRIPT_NAME", "/a b", "PATH_INFO", "/c\n", "QUERY_STRING", "q")
		if r.RequestURI != "/a%20b/c%0A?q" || r.URL.Path != "/a b/c\n" || r.URL.RawQuery != "q" {
			t.Errorf("%q %+v", r.RequestURI, r.URL)
		}
		for _, uri := range []string{"/%zz", "x y", "/\x7f"} {
			if _, err := newRequest("REQUEST_METHOD", "GET", "REQUEST_URI", uri); !errors.Is(err, gateway.ErrParam) {
				t.Errorf("%q: %v", uri, err)
			}
		}
		if _, err := newRequest("REQUEST_URI", "/"); !errors.Is(err, gateway.ErrParam) {
			t.Error("no method")
		}
	})
	t.Run("TLS and addresses [039 040 048]", func(t *testing.T) {
		r := ok(t, "HTTPS", "on", "REMOTE_ADDR", "::1", "REMOTE_PORT", "8")
		if r.TLS == nil || r.RemoteAddr != "[::1]:8" {
			t.Errorf("%v %q", r.TLS, r.RemoteAddr)
		}
		r = ok(t, "HTTP_X_FORWARDED_PROTO", "https", "REMOTE_ADDR", "1.2.3.4")
		if r.TLS != nil || r.RemoteAddr != "1.2.3.4:0" {
			t.Errorf("%v %q", r.TLS, r.RemoteAddr)
		}
	})
}

// serve starts h behind a FastCGI server and returns a client of it.
func serve(t testing.TB, h http.Handler) *fastcgi.Client {
	t.Helper()
	c := &fastcgi.Client{Addr: gatewaytest.Start(t, &fastcgi.Server{Handler: gatewayhttp.Handler(h), Logger: quiet, SendInterim: true}), MaxIdleConns: 2, Logger: quiet}
	t.Cleanup(func() { c.Close() })
	return c
}

// response is what h responses to r through FastCGI.
func response(t *testing.T, h http.HandlerFunc, r *gateway.Request) (status int, header map[string]string, body string, err error) {
	t.Helper()
	var res gateway.Response
	if err := serve(t, h).RoundTrip(t.Context(), r, &res); err != nil {
		return 0, nil, "", err
	}
	defer res.Body.Close()
	header = make(map[string]string)
	for name, value := range res.Header.All() {
		header[string(name)] += string(value) + ";"
	}
	b, err := io.ReadAll(res.Body)
	return res.Status, header, string(b), err
}

// TestHandlerConformance is items 263 to 276, for a handler of net/http.
func TestHandlerConformance(t *testing.T) {
	req := func(method string) *gateway.Request { return gatewaytest.NewRequest(method, "/", nil) }
	t.Run("fields that are not sent [264 F18 F28 266 274]", func(t *testing.T) {
		status, header, _, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			for _, name := range []string{"Status", "Transfer-Encoding", "Connection", "Keep-Alive", "Upgrade", "Trailer", "X-Accel-Redirect", "X-Sendfile", "X-LIGHTTPD-send-file", "Te"} {
				w.Header().Set(name, "201 forged")
			}
			w.Header().Set("X-Accel-Buffering", "no")
			w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
			w.WriteHeader(202)
		}, req("GET"))
		if diff := cmp.Diff(map[string]string{"X-Accel-Buffering": "no;"}, header); err != nil || status != 202 || diff != "" {
			t.Errorf("%d, %v %s", status, err, diff)
		}
		status, header, _, err = response(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X", "a\r\nInjected: 1")
		}, req("GET"))
		if err != nil || status != 500 || len(header) > 1 {
			t.Errorf("%d %v, %v", status, header, err)
		}
	})
	t.Run("the type of the content [267 F25]", func(t *testing.T) {
		for body, expect := range map[string]string{"plain": "text/plain; charset=utf-8;", "\x00\x01": "application/octet-stream;", "": ""} {
			_, header, got, err := response(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) }, req("GET"))
			if err != nil || header["Content-Type"] != expect || got != body {
				t.Errorf("%q: %v, %v", body, header, err)
			}
		}
		for _, status := range []int{204, 304} {
			_, header, got, err := response(t, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(status)
				if _, err := io.WriteString(w, "body"); !errors.Is(err, http.ErrBodyNotAllowed) {
					t.Errorf("%v", err)
				}
			}, req("GET"))
			if err != nil || len(header) > 0 || got != "" {
				t.Errorf("%d: %v %q, %v", status, header, got, err)
			}
		}
		_, header, _, _ := response(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, "x")
		}, req("GET"))
		if header["Content-Type"] != "" {
			t.Errorf("%v", header)
		}
	})
	t.Run("Content-Length [268]", func(t *testing.T) {
		for _, bad := range []string{"", "abc", " 5", "-1"} {
			status, header, body, err := response(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", bad)
				io.WriteString(w, "body")
			}, req("GET"))
			if err != nil || status != 200 || body != "body" || header["Content-Length"] != "" {
				t.Errorf("%q: %d %q %v, %v", bad, status, body, header, err)
			}
		}
		_, header, body, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "3")
			if _, err := io.WriteString(w, "abcd"); !errors.Is(err, http.ErrContentLength) {
				t.Errorf("%v", err)
			}
			io.WriteString(w, "abc")
		}, req("GET"))
		if err != nil || body != "abc" || header["Content-Length"] != "3;" {
			t.Errorf("%q %v, %v", body, header, err)
		}
		_, _, _, err = response(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "3")
			io.WriteString(w, "ab")
			w.(http.Flusher).Flush()
		}, req("GET"))
		if !errors.Is(err, gateway.ErrTruncated) {
			t.Errorf("a short body looks whole: %v", err)
		}
	})
	t.Run("1xx [269 F30]", func(t *testing.T) {
		r := req("GET")
		var interim []int
		r.Interim = func(status int, h *gateway.Header) error {
			interim = append(interim, status)
			return nil
		}
		status, _, body, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			for _, status := range []int{100, 101, 103} {
				w.WriteHeader(status)
			}
			io.WriteString(w, "x")
		}, r)
		if err != nil || status != 200 || body != "x" || !slices.Equal(interim, []int{103}) {
			t.Errorf("%d %q %v, %v", status, body, interim, err)
		}
	})
	t.Run("WriteHeader [270]", func(t *testing.T) {
		status, header, _, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(404)
			w.Header().Set("X-Late", "1")
			w.WriteHeader(200)
		}, req("GET"))
		if err != nil || status != 404 || header["X-Late"] != "" {
			t.Errorf("%d %v, %v", status, header, err)
		}
		if status, _, _, err := response(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(42) }, req("GET")); err != nil || status != 500 {
			t.Errorf("%d, %v", status, err)
		}
	})
	t.Run("HEAD [271 261]", func(t *testing.T) {
		status, header, body, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "5")
			n, err := io.WriteString(w, "hello")
			if n != 5 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
			io.Copy(w, strings.NewReader(""))
		}, req("HEAD"))
		if err != nil || status != 200 || body != "" || header["Content-Length"] != "5;" || header["Content-Type"] == "" {
			t.Errorf("%d %v %q, %v", status, header, body, err)
		}
	})
	t.Run("cookies [272]", func(t *testing.T) {
		_, header, _, _ := response(t, func(w http.ResponseWriter, r *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "a", Value: "1"})
			http.SetCookie(w, &http.Cookie{Name: "b", Value: "2"})
		}, req("GET"))
		if header["Set-Cookie"] != "a=1;b=2;" {
			t.Errorf("%v", header)
		}
	})
	t.Run("Flush and deadlines [275 142]", func(t *testing.T) {
		step := make(chan bool)
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rc := http.NewResponseController(w)
			for _, err := range []error{rc.SetReadDeadline(time.Now().Add(time.Minute)), rc.SetWriteDeadline(time.Now().Add(time.Minute)), rc.EnableFullDuplex(), rc.Flush()} {
				if err != nil {
					t.Error(err)
				}
			}
			if _, _, err := rc.Hijack(); !errors.Is(err, http.ErrNotSupported) {
				t.Error(err)
			}
			<-step
			io.WriteString(w, "one")
			rc.Flush()
			<-step
			io.WriteString(w, "two")
		}))
		var res gateway.Response
		if err := c.RoundTrip(t.Context(), req("GET"), &res); err != nil { // the head alone has come
			t.Fatal(err)
		}
		defer res.Body.Close()
		step <- true
		b := make([]byte, 100)
		if n, err := res.Body.Read(b); string(b[:n]) != "one" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
		step <- true
		if rest, err := io.ReadAll(res.Body); string(rest) != "two" || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
	})
	t.Run("a handler that aborts [276]", func(t *testing.T) {
		_, _, body, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "part")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, req("GET"))
		if !errors.Is(err, gateway.ErrTruncated) || body != "part" {
			t.Errorf("%q, %v", body, err)
		}
	})
	t.Run("the request's context, body and params", func(t *testing.T) {
		var kept *http.Request
		r := gatewaytest.NewRequest("POST", "/x", []byte("body"))
		_, _, body, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			kept = r
			b, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %v %s %v", b, err, gatewayhttp.Params(r).Get("PATH_INFO"), r.Context().Err())
		}, r)
		if err != nil || body != "body <nil> /x <nil>" {
			t.Errorf("%q, %v", body, err)
		}
		<-kept.Context().Done()
		if gatewayhttp.Params(kept).Get("PATH_INFO") != "/x" {
			t.Error("the params that were asked for are gone")
		}
	})
	t.Run("a request that is kept shows nothing of the next", func(t *testing.T) {
		var kept []*http.Request
		c := &fastcgi.Client{MaxIdleConns: 1, Addr: gatewaytest.Start(t, &fastcgi.Server{Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			hr, err := gatewayhttp.NewRequest(r.Context(), r)
			kept = append(kept, hr)
			return err
		})})}
		defer c.Close()
		unasked := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { kept = append(kept, r) }))
		for _, client := range []*fastcgi.Client{c, unasked} {
			kept = nil
			for _, path := range []string{"/alice", "/bob"} {
				var res gateway.Response
				if err := client.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", path, nil), &res); err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			if got := gatewayhttp.Params(kept[0]).Get("PATH_INFO"); got != "/alice" && got != "" {
				t.Errorf("alice's request says %q", got)
			}
		}
	})
	t.Run("nil is the default mux", func(t *testing.T) {
		var w gatewaytest.Recorder
		if err := gatewayhttp.Handler(nil).ServeGateway(&w, req("GET")); err != nil || w.Status != 404 {
			t.Errorf("%d, %v", w.Status, err)
		}
	})
}

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

// TestFrontConformance is items 238 to 262 as a browser sees them.
func TestFrontConformance(t *testing.T) {
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
	t.Run("fields of one hop [254 255 F28 F29]", func(t *testing.T) {
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
	t.Run("a response that is cut [087 252 F19]", func(t *testing.T) {
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
	t.Run("a bad head [239 241 250 253 F18 F31]", func(t *testing.T) {
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
	t.Run("responses while the body comes [082 083 F34]", func(t *testing.T) {
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
	t.Run("the client's faults are the client's", func(t *testing.T) {
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
	t.Run("no type is guessed for an application [F25]", func(t *testing.T) {
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
	t.Run("Transport closes bodies and sends them again", func(t *testing.T) {
		dead := &gatewayhttp.Transport{Backend: &fastcgi.Client{Addr: "unix:/nowhere/at/all"}}
		live := &gatewayhttp.Transport{Backend: serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))}
		for _, tr := range []*gatewayhttp.Transport{dead, live} {
			for _, method := range []string{"POST", "HEAD"} {
				body := &closing{Reader: strings.NewReader("body")}
				req, _ := http.NewRequest(method, "http://h/", body)
				req.ContentLength = 4
				if res, err := tr.RoundTrip(req); err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				if !body.closed {
					t.Errorf("%s: the body is not closed", method)
				}
			}
		}
		// A kept connection that dies under a GET with a body: GetBody gives it once more.
		var conns atomic.Int64
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				first := conns.Add(1) == 1
				go func() {
					defer c.Close()
					r := fastcgi.NewReader(c)
					var req gateway.Request
					for n := 1; r.ReadRequest(&req) == nil; n++ {
						var body []byte
						if req.Body != nil {
							body, _ = io.ReadAll(req.Body)
						}
						if first && n == 2 {
							return
						}
						w := fastcgi.NewWriter(c)
						w.ID, _ = r.Begin()
						w.WriteResponse(&gateway.Response{Status: 200, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(string(body)))})
					}
				}()
			}
		}()
		backend := &fastcgi.Client{Addr: l.Addr().String(), MaxIdleConns: 1}
		defer backend.Close()
		client := &http.Client{Transport: &gatewayhttp.Transport{Backend: backend}}
		for range 2 {
			req, _ := http.NewRequest("GET", "http://h/", strings.NewReader("again"))
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			res.Body.Close()
			if string(b) != "again" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
		}
		if conns.Load() != 2 {
			t.Errorf("%d connections", conns.Load())
		}
	})
	t.Run("cancellation", func(t *testing.T) {
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
	t.Run("queries and streams", func(t *testing.T) {
		step := make(chan bool)
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.URL.RawQuery+"\n")
			w.(http.Flusher).Flush()
			<-step
			io.WriteString(w, "end\n")
		}))
		for name, h := range fronts(c, nil) {
			s := httptest.NewServer(h)
			res, err := http.Get(s.URL + "/?a;b=1")
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(res.Body)
			first, err := lines.ReadString('\n')
			step <- true
			last, _ := lines.ReadString('\n')
			if err != nil || first != "a;b=1\n" || last != "end\n" {
				t.Errorf("%s: %q %q, %v", name, first, last, err)
			}
			res.Body.Close()
			s.Close()
		}
	})
}

// closing is a body that knows whether it was closed.
type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error {
	c.closed = true
	return nil
}

func TestPeerAddresses(t *testing.T) {
	s := &fastcgi.Server{Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		_, err := fmt.Fprint(w, r.Peer.Addr() == netip.MustParseAddr("127.0.0.1"), r.Local.Port() != 0)
		return err
	})}
	c := &fastcgi.Client{Addr: gatewaytest.Start(t, s)}
	var res gateway.Response
	if err := c.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/", nil), &res); err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); string(b) != "true true" {
		t.Errorf("%s", b)
	}
}
