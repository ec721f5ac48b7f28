package gateway_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

// receive passes params through the wire of one protocol and back, as a server gets them.
func receive(t *testing.T, nv ...string) (*gateway.Request, error) {
	t.Helper()
	var content []byte
	for i := 0; i < len(nv); i += 2 {
		content = append(content, byte(len(nv[i])), byte(len(nv[i+1])))
		content = append(append(content, nv[i]...), nv[i+1]...)
	}
	b, err := fastcgi.AppendBegin(nil, 1, fastcgi.Begin{Role: gateway.RoleResponder})
	if err != nil {
		t.Fatal(err)
	}
	b, _ = fastcgi.AppendRecord(b, fastcgi.TypeParams, 1, content)
	b, _ = fastcgi.AppendRecord(b, fastcgi.TypeParams, 1, nil)
	r := new(gateway.Request)
	return r, fastcgi.NewReader(strings.NewReader(string(b))).ReadRequest(r)
}

// send passes params to a writer, and what it wrote to a reader that applies no rule.
func send(t *testing.T, nv ...string) (map[string]string, error) {
	t.Helper()
	r := new(gateway.Request)
	for i := 0; i < len(nv); i += 2 {
		r.Params.Add(nv[i], nv[i+1])
	}
	before := r.Params.Len()
	b, err := fastcgi.AppendRequest(nil, 1, false, r)
	if err != nil {
		return nil, err
	}
	if r.Params.Len() != before {
		t.Error("the caller's params were changed")
	}
	var p gateway.Params
	if _, _, _, err := fastcgi.ConsumeRequest(b, &p); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for name, value := range p.All() {
		if _, twice := got[string(name)]; twice {
			t.Errorf("%s is sent twice", name)
		}
		got[string(name)] = string(value)
	}
	return got, nil
}

func wantError(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("got error %v, want %v", err, target)
	}
}

// TestParamsConformance is those of items 1 to 54 that the model holds; gatewayhttp holds the others.
func TestParamsConformance(t *testing.T) {
	t.Run("an empty name [001]", func(t *testing.T) {
		_, err := receive(t, "", "v")
		wantError(t, err, gateway.ErrMalformed)
		_, err = send(t, "", "v")
		wantError(t, err, gateway.ErrParam)
	})
	t.Run("NUL [002 F26]", func(t *testing.T) {
		for _, nv := range [][]string{{"A\x00B", "v"}, {"A", "v\x00w"}, {"PATH_INFO", "/a.jpg\x00.php"}} {
			_, err := receive(t, nv...)
			wantError(t, err, gateway.ErrParam)
			_, err = send(t, nv...)
			wantError(t, err, gateway.ErrParam)
		}
	})
	t.Run("CR and LF [003 F8 F18]", func(t *testing.T) {
		for _, name := range []string{"HTTP_X", "REQUEST_METHOD", "SERVER_PROTOCOL", "REQUEST_URI", "QUERY_STRING", "CONTENT_TYPE", "CONTENT_LENGTH"} {
			for _, value := range []string{"a\rb", "a\nb", "\r\n"} {
				_, err := receive(t, name, value)
				wantError(t, err, gateway.ErrParam)
				_, err = send(t, name, value)
				wantError(t, err, gateway.ErrParam)
			}
		}
		for _, nv := range [][]string{{"SSL_CLIENT_CERT", "-----BEGIN\nx\n"}, {"PATH_INFO", "/a\nb"}} {
			if r, err := receive(t, nv...); err != nil || r.Params.Get(nv[0]) != nv[1] {
				t.Errorf("%q: %v", nv, err)
			}
			if got, err := send(t, nv...); err != nil || got[nv[0]] != nv[1] {
				t.Errorf("%q: %v", nv, err)
			}
		}
		_, err := receive(t, "A\nB", "v")
		wantError(t, err, gateway.ErrParam)
	})
	t.Run("HTTP_PROXY [005 004 F1]", func(t *testing.T) {
		r, err := receive(t, "HTTP_PROXY", "http://evil", "HTTP_ACCEPT", "a", "HTTP_PROXY", "http://other")
		if err != nil || r.Params.Len() != 1 {
			t.Errorf("%d params, %v", r.Params.Len(), err)
		}
		got, err := send(t, "HTTP_PROXY", "http://evil")
		if _, passed := got["HTTP_PROXY"]; passed || err != nil {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("case [008 045]", func(t *testing.T) {
		r, err := receive(t, "HTTP_X_Y", "1", "HTTP_x_Y", "2", "http_x_y", "3")
		if err != nil || r.Params.Get("HTTP_X_Y") != "1" || r.Params.Len() != 3 {
			t.Errorf("%v", err)
		}
	})
	t.Run("repeated HTTP params [009 010 F46]", func(t *testing.T) {
		in := []string{"HTTP_COOKIE", "a=1", "HTTP_X", "1", "A", "same", "HTTP_COOKIE", "b=2", "HTTP_X", "", "HTTP_X", "3", "A", "same"}
		r, err := receive(t, in...)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for name, value := range r.Params.All() {
			got = append(got, string(name)+"="+string(value))
		}
		expect := []string{"HTTP_COOKIE=a=1; b=2", "HTTP_X=1, , 3", "A=same"}
		if diff := cmp.Diff(expect, got); diff != "" {
			t.Error(diff)
		}
		out, err := send(t, in...)
		if err != nil || out["HTTP_COOKIE"] != "a=1; b=2" || out["HTTP_X"] != "1, , 3" || out["A"] != "same" {
			t.Errorf("%v, %v", out, err)
		}
	})
	t.Run("params that differ [011 F46]", func(t *testing.T) {
		for _, name := range []string{"CONTENT_LENGTH", "REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "REQUEST_URI", "SERVER_PROTOCOL", "HTTPS", "REMOTE_ADDR", "ANY"} {
			_, err := receive(t, name, "1", name, "2")
			wantError(t, err, gateway.ErrParam)
			if err != nil && strings.Contains(err.Error(), "2") {
				t.Errorf("a value in %v", err)
			}
		}
		_, err := send(t, "HTTPS", "on", "HTTPS", "off")
		wantError(t, err, gateway.ErrParam)
	})
	t.Run("a field beats a param [012 F43]", func(t *testing.T) {
		r := new(gateway.Request)
		r.Params.Add("CONTENT_LENGTH", "99")
		r.SetBody([]byte("four"))
		b, err := fastcgi.AppendRequest(nil, 1, false, r)
		if err != nil || strings.Count(string(b), "CONTENT_LENGTH") != 1 || !strings.Contains(string(b), "\x0e\x01CONTENT_LENGTH4") {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("HTTP_CONTENT_LENGTH is not the length [015]", func(t *testing.T) {
		r, err := receive(t, "HTTP_CONTENT_LENGTH", "7")
		if err != nil || r.ContentLength != -1 {
			t.Errorf("%d, %v", r.ContentLength, err)
		}
		r, err = receive(t, "HTTP_CONTENT_LENGTH", "7", "CONTENT_LENGTH", "5")
		if err != nil || r.ContentLength != 5 {
			t.Errorf("%d, %v", r.ContentLength, err)
		}
	})
	t.Run("CONTENT_LENGTH is a number [018 F2]", func(t *testing.T) {
		for _, v := range []string{"+5", "-5", " 5", "5 ", "5x", "5, 5", "0x5", "9223372036854775808", "00000000000000000001", "١"} {
			_, err := receive(t, "CONTENT_LENGTH", v)
			wantError(t, err, gateway.ErrParam)
		}
		for v, n := range map[string]int64{"0": 0, "9223372036854775807": 1<<63 - 1, "007": 7} {
			if r, err := receive(t, "CONTENT_LENGTH", v); err != nil || r.ContentLength != n {
				t.Errorf("%q: %d, %v", v, r.ContentLength, err)
			}
		}
	})
	t.Run("an unknown length [019 020]", func(t *testing.T) {
		for _, nv := range [][]string{nil, {"CONTENT_LENGTH", ""}, {"CONTENT_LENGTH", "-1"}} {
			if r, err := receive(t, nv...); err != nil || r.ContentLength != -1 {
				t.Errorf("%v: %d, %v", nv, r.ContentLength, err)
			}
		}
	})
	t.Run("the method [021]", func(t *testing.T) {
		for _, method := range []string{"", "G T", "GET/", "\x7f"} {
			_, err := send(t, "REQUEST_METHOD", method)
			wantError(t, err, gateway.ErrParam)
		}
		if got, err := send(t, "REQUEST_METHOD", "pRopFind"); err != nil || got["REQUEST_METHOD"] != "pRopFind" {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("SERVER_PROTOCOL that is sent [022 F13]", func(t *testing.T) {
		for _, p := range []string{"HTTP/1.0", "HTTP/1.1", "HTTP/2.0", "HTTP/3.0", "INCLUDED"} {
			if _, err := send(t, "SERVER_PROTOCOL", p); err != nil {
				t.Errorf("%s: %v", p, err)
			}
		}
		for _, p := range []string{"", "HTTP/2", "HTTP/1.1 200 X", "http/1.1", "HTTP/1.1\r\nInj: y", "SPDY/3"} {
			_, err := send(t, "SERVER_PROTOCOL", p)
			wantError(t, err, gateway.ErrParam)
		}
	})
	t.Run("SERVER_PROTOCOL that is received [023]", func(t *testing.T) {
		for p, expect := range map[string][2]int{"": {1, 0}, "INCLUDED": {1, 0}, "HTTP/2": {2, 0}, "HTTP/2.0": {2, 0}, "HTTP/3.0": {3, 0}, "HTTP/1.1": {1, 1}} {
			r, err := receive(t, "SERVER_PROTOCOL", p)
			major, minor, ok := r.Protocol()
			if err != nil || !ok || [2]int{major, minor} != expect {
				t.Errorf("%q: %d.%d %v, %v", p, major, minor, ok, err)
			}
		}
		for _, p := range []string{"HTTP", "HTTP/", "HTTP/x", "HTTP/1.1x", "HTTP/11", "HTTPS/1.1"} {
			r, err := receive(t, "SERVER_PROTOCOL", p)
			if _, _, ok := r.Protocol(); ok || err != nil {
				t.Errorf("%q was taken, %v", p, err)
			}
		}
	})
	t.Run("paths [026 027 028 F24]", func(t *testing.T) {
		for _, c := range []struct {
			nv        []string
			uri, path string
			agrees    bool
		}{
			{[]string{"REQUEST_URI", "/a%2Fb?q", "SCRIPT_NAME", "/a", "PATH_INFO", "/b"}, "/a%2Fb?q", "/a/b", true},
			{[]string{"REQUEST_URI", "http://host/x?q", "PATH_INFO", "/x"}, "http://host/x?q", "/x", true},
			{[]string{"REQUEST_URI", "*"}, "*", "", true},
			{[]string{"REQUEST_URI", "host:443"}, "host:443", "", true},
			{[]string{"SCRIPT_NAME", "/a b", "PATH_INFO", "/ü?", "QUERY_STRING", "x=1"}, "/a%20b/%C3%BC%3F?x=1", "/a b/ü?", true},
			{[]string{"DOCUMENT_URI", "/doc"}, "/doc", "/doc", true},
			{[]string{"REQUEST_URI", "/other", "PATH_INFO", "/x"}, "/other", "/x", false},
			{[]string{"REQUEST_URI", "http://host", "PATH_INFO", "/"}, "http://host", "/", true},
			{nil, "/", "", true},
			{[]string{"PATH_INFO", "//x"}, "//x", "//x", true},
		} {
			r, err := receive(t, c.nv...)
			if err != nil || r.URI() != c.uri || r.Path() != c.path || r.PathAgrees() != c.agrees {
				t.Errorf("%v: %q %q %v, %v", c.nv, r.URI(), r.Path(), r.PathAgrees(), err)
			}
		}
	})
	t.Run("PATH_INFO is not decoded again [031]", func(t *testing.T) {
		if r, err := receive(t, "PATH_INFO", "/%2541"); err != nil || r.PathInfo() != "/%2541" {
			t.Errorf("%q, %v", r.PathInfo(), err)
		}
	})
	t.Run("SetTarget [033 035]", func(t *testing.T) {
		var r gateway.Request
		if err := r.SetTarget("GET", "/a%20b?c=%20d"); err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{
			"GATEWAY_INTERFACE": "CGI/1.1", "SERVER_SOFTWARE": "gatehouse", "SERVER_NAME": "localhost", "SERVER_PORT": "80",
			"SERVER_PROTOCOL": "HTTP/1.1", "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/a b", "REMOTE_ADDR": "127.0.0.1",
			"QUERY_STRING": "c=%20d", "REQUEST_URI": "/a%20b?c=%20d",
		} {
			if got, ok := r.Params.Lookup(name); !ok || string(got) != value {
				t.Errorf("%s is %q", name, got)
			}
		}
		if r.Method() != "GET" || r.Query() != "c=%20d" || r.ScriptName() != "" || r.RemoteAddr() != "127.0.0.1" || r.ContentType() != "" {
			t.Error("accessors")
		}
		for _, bad := range [][2]string{{"", "/"}, {"GET", ""}, {"GET", "x"}, {"GET", "/a b"}, {"GET", "/%zz"}, {"GET", "/%00"}, {"GET", "/\r\n"}} {
			wantError(t, r.SetTarget(bad[0], bad[1]), gateway.ErrParam)
			if r.Params.Len() != 0 {
				t.Error("params are left")
			}
		}
		if err := r.SetTarget("OPTIONS", "*"); err != nil {
			t.Error(err)
		}
	})
	t.Run("hosts [036]", func(t *testing.T) {
		for expect, nv := range map[string][]string{
			"a:81":    {"HTTP_HOST", "a:81", "SERVER_NAME", "b"},
			"b":       {"SERVER_NAME", "b", "SERVER_PORT", "80"},
			"b:8080":  {"SERVER_NAME", "b", "SERVER_PORT", "8080"},
			"c":       {"SERVER_NAME", "c", "SERVER_PORT", "443", "HTTPS", "on"},
			"h:8081":  {"SERVER_NAME", "h:8081", "SERVER_PORT", "8081"}, // HAProxy
			"[::1]:9": {"SERVER_NAME", "[::1]", "SERVER_PORT", "9"},
		} {
			if r, err := receive(t, nv...); err != nil || r.Host() != expect {
				t.Errorf("%v: %q, %v", nv, r.Host(), err)
			}
		}
	})
	t.Run("TLS [039 040 F37]", func(t *testing.T) {
		for _, nv := range [][]string{{"HTTPS", "on"}, {"HTTPS", "ON"}, {"HTTPS", "1"}, {"HTTPS", "true"}, {"REQUEST_SCHEME", "https"}, {"UWSGI_SCHEME", "https"}} {
			if r, err := receive(t, nv...); err != nil || !r.TLS() {
				t.Errorf("%v is not TLS, %v", nv, err)
			}
		}
		for _, nv := range [][]string{nil, {"HTTPS", "off"}, {"HTTPS", "0"}, {"HTTPS", ""}, {"REQUEST_SCHEME", "http"}, {"HTTP_X_FORWARDED_PROTO", "https"}, {"HTTP_X_FORWARDED_SSL", "on"}, {"https", "on"}} {
			if r, err := receive(t, nv...); err != nil || r.TLS() {
				t.Errorf("%v is TLS, %v", nv, err)
			}
		}
	})
	t.Run("caps [043 F35 F47]", func(t *testing.T) {
		r := new(gateway.Request)
		for range 1001 {
			r.Params.Add("A", "1")
		}
		_, err := fastcgi.AppendRequest(nil, 1, false, r)
		wantError(t, err, gateway.ErrTooLarge)
		_, err = send(t, strings.Repeat("N", 8<<10+1), "v")
		wantError(t, err, gateway.ErrTooLarge)
		_, err = send(t, "A", strings.Repeat("v", 64<<10+1))
		wantError(t, err, gateway.ErrTooLarge)
	})
	t.Run("empty values [044]", func(t *testing.T) {
		r, err := receive(t, "HTTP_X_EMPTY", "", "REMOTE_USER", "")
		if v, ok := r.Params.Lookup("HTTP_X_EMPTY"); err != nil || !ok || len(v) != 0 {
			t.Errorf("%q %v, %v", v, ok, err)
		}
	})
	t.Run("bytes [047]", func(t *testing.T) {
		var all []byte
		for c := 0x80; c <= 0xff; c++ {
			all = append(all, byte(c))
		}
		all = all[:100]
		if r, err := receive(t, "HTTP_X", string(all)); err != nil || r.Params.Get("HTTP_X") != string(all) {
			t.Errorf("%v", err)
		}
	})
	t.Run("SCRIPT_FILENAME [156]", func(t *testing.T) {
		for in, expect := range map[string]string{
			"/srv/x.php": "/srv/x.php", "proxy:fcgi://h:9000/x.php": "/x.php", "proxy:balancer://b/x?q": "/x", "proxy:scgi://h/x": "/x",
			"proxy:uwsgi://h/x": "/x", "proxy:fcgi://h": "", "proxy:other://h/x": "proxy:other://h/x",
		} {
			if r, err := receive(t, "SCRIPT_FILENAME", in); err != nil || r.ScriptFilename() != expect {
				t.Errorf("%q: %q, %v", in, r.ScriptFilename(), err)
			}
		}
	})
}

// consume reads a head.
func consume(b string) (*gateway.Response, int, error) {
	r := new(gateway.Response)
	n, err := gateway.ConsumeResponse([]byte(b), r)
	return r, n, err
}

func fields(h *gateway.Header) (all []string) {
	for name, value := range h.All() {
		all = append(all, string(name)+": "+string(value))
	}
	return all
}

// TestResponseConformance is items 169 to 171 and 238 to 275 as far as the head goes.
func TestResponseConformance(t *testing.T) {
	bad := func(t *testing.T, heads ...string) {
		t.Helper()
		for _, b := range heads {
			r, n, err := consume(b)
			if !errors.Is(err, gateway.ErrMalformed) || n != -1 || r.Header.Len() != 0 || r.Status != 0 {
				t.Errorf("%q: status %d, n %d, %v", b, r.Status, n, err)
			}
		}
	}
	t.Run("a status line or fields [169 170 171 214 F20]", func(t *testing.T) {
		for b, status := range map[string]int{
			"HTTP/1.1 202 Accepted\r\nA: 1\r\n\r\n": 202, "HTTP/1.0 404 \r\n\r\n": 404, "HTTP/2 200\r\n\r\n": 200, "HTTP/3.0 599 Odd\n\n": 599,
			"Status: 201 Created\r\n\r\n": 201, "HTTP/1.1 404 X\r\nStatus: 404\r\n\r\n": 404,
		} {
			if r, n, err := consume(b); err != nil || n != len(b) || r.Status != status {
				t.Errorf("%q: %d, %d, %v", b, r.Status, n, err)
			}
			for cut := range len(b) {
				if _, n, err := consume(b[:cut]); n != 0 || err != nil {
					t.Errorf("%q: %d, %v", b[:cut], n, err)
				}
			}
		}
		bad(t, "HTTP/1.1x 200\r\n\r\n", "HTTPS/1 200\r\n\r\n", "HTTP/1.1 20\r\n\r\n", "HTTP/1.1 2000 x\r\n\r\n", "HTTP/1.1  200 x\r\n\r\n", "HTTP/1.1 200\r\nStatus: 404\r\n\r\n")
		if r, _, err := consume("HT: v\r\n\r\n"); err != nil || r.Status != 200 || r.Header.Get("ht") != "v" {
			t.Error(err)
		}
	})
	t.Run("line ends [238 258]", func(t *testing.T) {
		for _, b := range []string{"A: 1\r\nB: 2\r\n\r\n", "A: 1\nB: 2\n\n", "A: 1\r\nB: 2\n\r\n", "A: 1\nB: 2\r\n\n"} {
			r, n, err := consume(b + "body\r\n\r\n")
			if diff := cmp.Diff([]string{"A: 1", "B: 2"}, fields(&r.Header)); err != nil || n != len(b) || diff != "" {
				t.Errorf("%q: %d, %v %s", b, n, err, diff)
			}
		}
	})
	t.Run("a bare CR [239 F18]", func(t *testing.T) {
		bad(t, "A: 1\rB: 2\r\n\r\n", "Status: 200 OK\rX-Inj: 1\r\n\r\n", "A: 1\r\r\n\r\n", "\rA: 1\r\n\r\n")
	})
	t.Run("control bytes [240 F22]", func(t *testing.T) {
		bad(t, "A: a\x00b\r\n\r\n", "A: a\x01\r\n\r\n", "A: \x7f\r\n\r\n", "A\x00: b\r\n\r\n")
		if r, _, err := consume("A: a\tb \xe9\r\n\r\n"); err != nil || r.Header.Get("A") != "a\tb \xe9" {
			t.Error(err)
		}
	})
	t.Run("names [241]", func(t *testing.T) {
		bad(t, "X A: 1\r\n\r\n", "X-A : 1\r\n\r\n", ": v\r\n\r\n", "no colon\r\n\r\n", "X(A): 1\r\n\r\n", "<html>\n\n")
	})
	t.Run("folded lines [242 243]", func(t *testing.T) {
		bad(t, "A: 1\r\n B: 2\r\n\r\n", "A: 1\r\n\tfolded\r\n\r\n", " A: 1\r\n\r\n")
	})
	t.Run("Status [244 245]", func(t *testing.T) {
		for v, status := range map[string]int{"404": 404, "404 Not Found": 404, " 404 ": 404, "999 Odd": 999, "404 ": 404, "100": 100} {
			if r, _, err := consume("Status:" + v + "\r\n\r\n"); err != nil || r.Status != status {
				t.Errorf("%q: %d, %v", v, r.Status, err)
			}
		}
		for _, v := range []string{"42", "2000", "abc", "-200", "200OK", "099", "+20", ""} {
			bad(t, "Status: "+v+"\r\n\r\n")
		}
	})
	t.Run("two Statuses [246]", func(t *testing.T) {
		bad(t, "Status: 200\r\nStatus: 404\r\n\r\n")
		if r, _, err := consume("Status: 404 A\r\nstatus: 404 B\r\n\r\n"); err != nil || r.Status != 404 {
			t.Error(err)
		}
	})
	t.Run("Status is no field [247]", func(t *testing.T) {
		if r, _, err := consume("sTaTus: 404\r\nA: 1\r\n\r\n"); err != nil || r.Header.Len() != 1 {
			t.Errorf("%v, %v", fields(&r.Header), err)
		}
	})
	t.Run("no Status [248 229 230]", func(t *testing.T) {
		for b, status := range map[string]int{"A: 1\r\n\r\n": 200, "Location: /x\r\n\r\n": 302, "Location: http://h/\r\nStatus: 307\r\n\r\n": 307} {
			if r, _, err := consume(b); err != nil || r.Status != status {
				t.Errorf("%q: %d, %v", b, r.Status, err)
			}
		}
	})
	t.Run("Content-Length [251 F19]", func(t *testing.T) {
		for _, v := range []string{"5, 5", "+5", "-5", "5x", "", "9223372036854775808"} {
			bad(t, "Content-Length: "+v+"\r\n\r\n")
		}
		bad(t, "Content-Length: 5\r\nContent-Length: 3\r\n\r\n")
		r, _, err := consume("Content-Length: 5\r\ncontent-length: 5\r\n\r\n")
		if err != nil || r.ContentLength != 5 || r.Header.Len() != 1 {
			t.Errorf("%d %v, %v", r.ContentLength, fields(&r.Header), err)
		}
		if r, _, _ := consume("A: 1\r\n\r\n"); r.ContentLength != -1 {
			t.Errorf("%d", r.ContentLength)
		}
	})
	t.Run("Transfer-Encoding [253 F19]", func(t *testing.T) {
		bad(t, "Transfer-Encoding: chunked\r\n\r\n", "transfer-encoding: identity\r\n\r\n")
	})
	t.Run("fields that repeat [256 272]", func(t *testing.T) {
		r, _, err := consume("Set-Cookie: a\r\nX: 1\r\nSet-Cookie: b\r\nX: 2\r\n\r\n")
		if diff := cmp.Diff([]string{"Set-Cookie: a", "X: 1", "Set-Cookie: b", "X: 2"}, fields(&r.Header)); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
		b, err := gateway.AppendResponse(nil, r)
		if err != nil || string(b) != "Status: 200 OK\r\nSet-Cookie: a\r\nX: 1\r\nSet-Cookie: b\r\nX: 2\r\n\r\n" {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("caps [257]", func(t *testing.T) {
		_, n, err := consume(strings.Repeat("A: 1\r\n", 1001) + "\r\n")
		if !errors.Is(err, gateway.ErrTooLarge) || n != -1 {
			t.Errorf("%d, %v", n, err)
		}
		_, _, err = consume("A: " + strings.Repeat("v", 64<<10+1) + "\r\n\r\n")
		wantError(t, err, gateway.ErrTooLarge)
	})
	t.Run("an empty head [259]", func(t *testing.T) {
		for _, b := range []string{"\r\n", "\n"} {
			if r, n, err := consume(b + "body"); err != nil || n != len(b) || r.Status != 200 || r.Header.Len() != 0 {
				t.Errorf("%d %d, %v", r.Status, n, err)
			}
		}
	})
	t.Run("Date and Server [262]", func(t *testing.T) {
		if r, _, err := consume("Date: x\r\nServer: y\r\n\r\n"); err != nil || r.Header.Len() != 2 {
			t.Error(err)
		}
	})
	t.Run("writing [263 265 266]", func(t *testing.T) {
		r := &gateway.Response{Status: 302, ContentLength: -1}
		r.Header.Add("Status", "200 Forged")
		r.Header.Add("Location", "/x")
		b, err := gateway.AppendResponse([]byte("dst"), r)
		if err != nil || string(b) != "dstStatus: 302 Found\r\nLocation: /x\r\n\r\n" {
			t.Errorf("%q, %v", b, err)
		}
		r.ContentLength = 3
		if b, err = gateway.AppendHTTPResponse(nil, r); err != nil || string(b) != "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 3\r\n\r\n" {
			t.Errorf("%q, %v", b, err)
		}
		for status, line := range map[int]string{200: "Status: 200 OK", 599: "Status: 599 Status 599", 999: "Status: 999 Status 999"} {
			if b, err := gateway.AppendResponse(nil, &gateway.Response{Status: status, ContentLength: -1}); err != nil || string(b) != line+"\r\n\r\n" {
				t.Errorf("%q, %v", b, err)
			}
		}
		if b, err := gateway.AppendResponse(nil, &gateway.Response{Status: 204}); err != nil || strings.Contains(string(b), "Length") {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("what cannot be written [264 270 F18]", func(t *testing.T) {
		for _, nv := range [][2]string{{"", "v"}, {"A B", "v"}, {"A:", "v"}, {"A", "v\r\nB: 1"}, {"A", "v\n"}, {"A", "\x00"}, {"A\r\n", "v"}} {
			r := &gateway.Response{Status: 200}
			r.Header.Add(nv[0], nv[1])
			b, err := gateway.AppendResponse([]byte("dst"), r)
			if wantError(t, err, gateway.ErrMalformed); string(b) != "dst" {
				t.Errorf("%q", b)
			}
		}
		for _, status := range []int{0, 99, 1000, -200} {
			_, err := gateway.AppendResponse(nil, &gateway.Response{Status: status})
			wantError(t, err, gateway.ErrMalformed)
		}
	})
}

// TestProxyPasses is the list of what changes on the way through a Proxy, F29 among it.
func TestProxyPasses(t *testing.T) {
	var got []string
	var length int64
	backend := gateway.InProcess(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		for name, value := range r.Params.All() {
			got = append(got, string(name)+"="+string(value))
		}
		length = r.ContentLength
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		w.Header().Add("X-B", "1")
		w.Header().Add("Set-Cookie", "a")
		w.Header().Add("Set-Cookie", "b")
		w.WriteHeader(207)
		w.SetAppStatus(5)
		io.WriteString(w.Stderr(), "err")
		_, err = w.Write(body)
		return err
	}))
	in := new(gateway.Request)
	for _, nv := range [][2]string{
		{"Z", "1"}, {"HTTP_PROXY", "x"}, {"HTTP_CONTENT_TYPE", "x"}, {"HTTP_CONTENT_LENGTH", "x"}, {"HTTP_TRANSFER_ENCODING", "chunked"},
		{"HTTP_TE", "x"}, {"HTTP_TRAILER", "x"}, {"HTTP_KEEP_ALIVE", "x"}, {"HTTP_CONNECTION", "x"}, {"HTTP_UPGRADE", "x"}, {"SCGI", "1"},
		{"SERVER_PROTOCOL", "HTTP/2"}, {"lower-case", "kept"}, {"HTTP_X", "b"}, {"UWSGI_ROUTER", "http"}, {"HTTP_X", "a"}, {"PATH_INFO", "/\xff\n"}, {"A", ""},
	} {
		in.Params.Add(nv[0], nv[1])
	}
	in.SetBody([]byte("body"))
	var w gatewaytest.Recorder
	if err := (&gateway.Proxy{Backend: backend}).ServeGateway(&w, in); err != nil {
		t.Fatal(err)
	}
	expect := []string{"Z=1", "SERVER_PROTOCOL=HTTP/2.0", "lower-case=kept", "HTTP_X=b, a", "UWSGI_ROUTER=http", "PATH_INFO=/\xff\n", "A="}
	if diff := cmp.Diff(expect, got); diff != "" {
		t.Error(diff)
	}
	if w.Body.String() != "body" || length != 4 || w.Status != 207 || w.AppStatus != 5 || w.Errors.String() != "err" {
		t.Errorf("%q %d %d %d %q", w.Body.String(), length, w.Status, w.AppStatus, w.Errors.String())
	}
	if diff := cmp.Diff([]string{"X-B: 1", "Set-Cookie: a", "Set-Cookie: b"}, fields(w.Header())); diff != "" {
		t.Error(diff)
	}
}
