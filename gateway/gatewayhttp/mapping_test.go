package gatewayhttp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
)

// mapped returns the params of r under m.
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

func TestMappingParams(t *testing.T) {
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
	t.Run("Proxy does not become HTTP_PROXY [004 F1]", func(t *testing.T) {
		for _, name := range []string{"Proxy", "pRoXy", "PROXY"} {
			absent(t, params(t, wsgi, get("/", name, "http://evil")), "HTTP_PROXY")
		}
	})
	t.Run("names with bytes other than letters, digits and a hyphen [006 007 288 F10]", func(t *testing.T) {
		got := params(t, wsgi, get("/", "X_User", "spoof", "X-User", "real", "Remote.User", "spoof", "Remote_User", "spoof", "X User", "a", "X'User", "a", "X!User", "a"))
		if got["HTTP_X_USER"] != "real" {
			t.Errorf("%q", got["HTTP_X_USER"])
		}
		absent(t, got, "HTTP_REMOTE_USER", "REMOTE_USER", "HTTP_X'USER", "HTTP_X!USER")
	})
	t.Run("repeated fields are joined [009]", func(t *testing.T) {
		got := params(t, wsgi, get("/", "Accept", "a", "Accept", "b", "Cookie", "a=1", "Cookie", "b=2"))
		if got["HTTP_ACCEPT"] != "a, b" || got["HTTP_COOKIE"] != "a=1; b=2" {
			t.Errorf("%v", got)
		}
	})
	t.Run("fields only set HTTP_* params [012 013 F11 F12 F43]", func(t *testing.T) {
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
	t.Run("QUERY_STRING [032]", func(t *testing.T) {
		for _, target := range []string{"/x", "/x?"} {
			if v, ok := params(t, wsgi, get(target))["QUERY_STRING"]; !ok || v != "" {
				t.Errorf("%s: %q %v", target, v, ok)
			}
		}
	})
	t.Run("params that are always set [035]", func(t *testing.T) {
		got := params(t, wsgi, get("/"))
		for _, name := range []string{"GATEWAY_INTERFACE", "SERVER_SOFTWARE", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "REQUEST_METHOD", "SCRIPT_NAME", "REMOTE_ADDR", "QUERY_STRING"} {
			if _, ok := got[name]; !ok {
				t.Errorf("no %s", name)
			}
		}
	})
	t.Run("server names and ports [036 038]", func(t *testing.T) {
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
	t.Run("params that are set twice [011 F46]", func(t *testing.T) {
		if _, err := newRequest("REQUEST_METHOD", "GET", "REQUEST_METHOD", "DELETE"); !errors.Is(err, gateway.ErrParam) {
			t.Error(err)
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
	t.Run("REMOTE_ADDR is always set [035 037]", func(t *testing.T) {
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
}

func TestMappingScripts(t *testing.T) {
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
	t.Run("encoded slashes [030]", func(t *testing.T) {
		if got := params(t, wsgi, get("/a%2Fb?c=%2F")); got["REQUEST_URI"] != "/a%2Fb?c=%2F" || got["PATH_INFO"] != "/a/b" || got["QUERY_STRING"] != "c=%2F" {
			t.Errorf("%v", got)
		}
	})
	t.Run("SCRIPT_NAME, PATH_INFO and SCRIPT_FILENAME [033 034 F24]", func(t *testing.T) {
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
			if v, ok := got["PATH_TRANSLATED"]; ok {
				t.Errorf("%s: PATH_TRANSLATED %q", c.path, v)
			}
		}
	})
	t.Run("PATH_TRANSLATED is sent if it is asked for [034 F51]", func(t *testing.T) {
		m := &gatewayhttp.Mapping{Root: "/srv/www", PathTranslated: true}
		for path, want := range map[string]string{"/x.php/info": "/srv/www/info", "/x.php/": "/srv/www", "/x.php": "", "/x.php/private/y.php": "/srv/www/private/y.php"} {
			if got := params(t, m, get(path)); got["PATH_TRANSLATED"] != want {
				t.Errorf("%s: %q", path, got["PATH_TRANSLATED"])
			}
			if got := params(t, php, get(path)); got["PATH_TRANSLATED"] != "" {
				t.Errorf("%s: %q was not asked for", path, got["PATH_TRANSLATED"])
			}
		}
	})
	t.Run("a path that leaves the root [049 F40]", func(t *testing.T) {
		for _, path := range []string{"../x.php", "../../", "/../x.php", "/a/../../x.php", "/x.php/../../etc/passwd", "/../", "/a//../../x.php"} {
			r := get("/")
			r.URL.Path = path
			if got, err := mapped(php, r); !errors.Is(err, gateway.ErrParam) {
				t.Errorf("%q: %q", path, got["SCRIPT_FILENAME"])
			}
		}
	})
	t.Run("only ASCII letters are folded [050 F9]", func(t *testing.T) {
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
	t.Run("backslashes, an empty path, a missing prefix [010 049]", func(t *testing.T) {
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
	t.Run("a script that does not exist [054]", func(t *testing.T) {
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
	t.Run("WithScript, Params and WithParam", func(t *testing.T) {
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
	t.Run("SCRIPT_FILENAME is a path [117]", func(t *testing.T) {
		got, err := mapped(&gatewayhttp.Mapping{Root: "/srv/www"}, get("/a.php/b?c"))
		if err != nil || got["SCRIPT_FILENAME"] != "/srv/www/a.php" {
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

// SCRIPT_NAME begins with Prefix, whether Mapping or http.StripPrefix has removed it from the path.
func TestPrefixBehindStripPrefix(t *testing.T) {
	app := gateway.RoundTripperFunc(func(_ context.Context, r *gateway.Request, res *gateway.Response) error {
		res.Reset()
		res.Status, res.ContentLength = 200, -1
		res.Body = io.NopCloser(strings.NewReader(r.ScriptName() + "|" + r.PathInfo()))
		return nil
	})
	for _, c := range [][4]string{
		{"/app/", "/app/", "/app/x", "/app|/x"}, {"/app/", "/app", "/app/x", "/app|/x"}, {"/app/", "/app", "/app/", "/app|/"},
		{"/app", "/app", "/app/x", "/app|/x"}, {"/app", "/app", "http://h/app/x", "/app|/x"}, {"/app", "/app", "/app/app/x", "/app|/app/x"},
		{"", "/app", "/app/x", "/app|/x"}, {"", "/app", "/apple", "|/apple"}, {"/a", "/b", "/a/b/x", "/b|/x"},
	} {
		h := http.StripPrefix(c[0], &gatewayhttp.Proxy{Backend: app, Mapping: &gatewayhttp.Mapping{Prefix: c[1]}})
		if got := rawHTTP(t, h, "GET "+c[2]+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"); !strings.Contains(got, "\r\n"+c[3]+"\r\n") {
			t.Errorf("033 F24 strip %s, Prefix %s, %s: %q", c[0], c[1], c[2], got)
		}
	}
}

func TestMappingRequest(t *testing.T) {
	m := &gatewayhttp.Mapping{Root: "/srv/www", Files: fstest.MapFS{"index.php": {}}}
	req, err := m.Request(httptest.NewRequest("POST", "/index.php/x?q=1", strings.NewReader("body")))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(req.Body)
	if string(body) != "body" || err != nil || req.ContentLength != 4 || req.ScriptFilename() != "/srv/www/index.php" || req.PathInfo() != "/x" {
		t.Errorf("%q, %v, length %d, script %q, info %q", body, err, req.ContentLength, req.ScriptFilename(), req.PathInfo())
	}
	if _, err := m.Request(httptest.NewRequest("GET", "/missing.php", nil)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing script: %v", err)
	}
	m.Body = gatewayhttp.RefuseUnknownBody
	unknown := httptest.NewRequest("POST", "/index.php", struct{ io.Reader }{strings.NewReader("body")})
	if _, err := m.Request(unknown); !errors.Is(err, gateway.ErrLengthRequired) {
		t.Errorf("a body of unknown length: %v", err)
	}
}
