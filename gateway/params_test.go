package gateway_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

func TestParamRules(t *testing.T) {
	t.Run("an empty name [001]", func(t *testing.T) {
		_, err := receive(t, "", "v")
		wantError(t, err, gateway.ErrMalformed)
		_, err = send(t, "", "v")
		wantError(t, err, gateway.ErrParam)
	})
	t.Run("NUL in a name or a value [002 F26]", func(t *testing.T) {
		for _, nv := range [][]string{{"A\x00B", "v"}, {"A", "v\x00w"}, {"PATH_INFO", "/a.jpg\x00.php"}} {
			_, err := receive(t, nv...)
			wantError(t, err, gateway.ErrParam)
			_, err = send(t, nv...)
			wantError(t, err, gateway.ErrParam)
		}
	})
	t.Run("CR and LF in values of a single line [003 F8 F18]", func(t *testing.T) {
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
	t.Run("CR and LF in names [003 F18]", func(t *testing.T) {
		for _, name := range []string{"A\rB", "A\nB", "A\x00B"} {
			_, err := receive(t, name, "v")
			wantError(t, err, gateway.ErrParam)
			_, err = send(t, name, "v")
			wantError(t, err, gateway.ErrParam)
		}
	})
	t.Run("HTTP_PROXY is removed [005 004 F1]", func(t *testing.T) {
		r, err := receive(t, "HTTP_PROXY", "http://evil", "HTTP_ACCEPT", "a", "HTTP_PROXY", "http://other")
		if err != nil || r.Params.Len() != 1 {
			t.Errorf("%d params, %v", r.Params.Len(), err)
		}
		got, err := send(t, "HTTP_PROXY", "http://evil")
		if _, passed := got["HTTP_PROXY"]; passed || err != nil {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("names are compared exactly [008 045]", func(t *testing.T) {
		r, err := receive(t, "HTTP_X_Y", "1", "HTTP_x_Y", "2", "http_x_y", "3")
		if err != nil || r.Params.Get("HTTP_X_Y") != "1" || r.Params.Len() != 3 {
			t.Errorf("%v", err)
		}
	})
	t.Run("HTTP params that repeat are joined [009 010 F46]", func(t *testing.T) {
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
	t.Run("params that repeat with different values [011 F46]", func(t *testing.T) {
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
	t.Run("a field of the Request replaces its param [012 F43]", func(t *testing.T) {
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
	t.Run("CONTENT_LENGTH must be a number [018 F2]", func(t *testing.T) {
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
	t.Run("SERVER_PROTOCOL as it is sent [022 F13]", func(t *testing.T) {
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
	t.Run("SERVER_PROTOCOL as it is received [023]", func(t *testing.T) {
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
	t.Run("spellings of SERVER_PROTOCOL [023]", func(t *testing.T) {
		for _, v := range []string{"HTTP/1x1", "HTTP/1.x", "HTTP/11", "HTTP/1.1.", "HTTP/"} {
			r := new(gateway.Request)
			r.Params.Add("SERVER_PROTOCOL", v)
			if _, _, ok := r.Protocol(); ok {
				t.Errorf("%q is a protocol", v)
			}
		}
	})
	t.Run("limits of names and values [043 F35 F47]", func(t *testing.T) {
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
	t.Run("limits of received params [043 F35]", func(t *testing.T) {
		whole := func(n int) error {
			l := make([]byte, 0, n+100)
			l = append(l, 6, byte(1<<7|n>>24), byte(n>>16), byte(n>>8), byte(n))
			l = append(l, "HTTP_X"...)
			l = append(l, strings.Repeat("v", n)...)
			b, _ := fastcgi.AppendBegin(nil, 1, fastcgi.Begin{Role: gateway.RoleResponder})
			b, _ = fastcgi.AppendRecord(b, fastcgi.TypeParams, 1, l)
			b, _ = fastcgi.AppendRecord(b, fastcgi.TypeParams, 1, nil)
			return fastcgi.NewReader(bytes.NewReader(b)).ReadRequest(new(gateway.Request))
		}
		if err := whole(64 << 10); err != nil {
			t.Error(err)
		}
		wantError(t, whole(64<<10+1), gateway.ErrTooLarge)
		var nv []string
		for i := range gateway.MaxPairs {
			nv = append(nv, fmt.Sprintf("N%d", i), "")
		}
		b, _ := fastcgi.AppendBegin(nil, 1, fastcgi.Begin{Role: gateway.RoleResponder})
		var content []byte
		for i := 0; i < len(nv); i += 2 {
			content, _ = fastcgi.AppendParam(content, nv[i], nv[i+1])
		}
		b, _ = fastcgi.AppendRecord(b, fastcgi.TypeParams, 1, content)
		b, _ = fastcgi.AppendRecord(b, fastcgi.TypeParams, 1, nil)
		r := new(gateway.Request)
		if err := fastcgi.NewReader(bytes.NewReader(b)).ReadRequest(r); err != nil || r.Params.Len() != gateway.MaxPairs {
			t.Errorf("%d params, %v", r.Params.Len(), err)
		}
	})
	t.Run("empty values [044]", func(t *testing.T) {
		r, err := receive(t, "HTTP_X_EMPTY", "", "REMOTE_USER", "")
		if v, ok := r.Params.Lookup("HTTP_X_EMPTY"); err != nil || !ok || len(v) != 0 {
			t.Errorf("%q %v, %v", v, ok, err)
		}
	})
	t.Run("values of any bytes [047]", func(t *testing.T) {
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

// send passes params to a writer, and its output to a reader that applies no rule.
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

func TestParams(t *testing.T) {
	var p gateway.Params
	p.Add("A", "1")
	p.AddBytes([]byte("B"), []byte("2"))
	p.Add("A", "3")
	p.Set("A", "4")
	p.Set("C", "5")
	var copied gateway.Params
	copied.CopyFrom(&p)
	p.Del("B")
	p.Set("A", "changed")
	var got strings.Builder
	for name, value := range copied.All() {
		fmt.Fprintf(&got, "%s=%s ", name, value)
	}
	if got.String() != "A=4 B=2 C=5 " || p.Len() != 2 || p.Get("A") != "changed" || p.Get("B") != "" {
		t.Errorf("%s, %d", got.String(), p.Len())
	}
	if _, ok := p.Lookup("a"); ok {
		t.Error("names match without case")
	}
	p.Reset()
	if p.Len() != 0 {
		t.Error("not empty")
	}
	var none *gateway.Params
	if none.Len() != 0 || none.Get("A") != "" || len(slices.Collect(seqNames(none))) != 0 {
		t.Error("nil is not empty")
	}
	copied.CopyFrom(none)
	if copied.Len() != 0 {
		t.Error("a copy of nil is not empty")
	}
}

func seqNames(p *gateway.Params) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name := range p.All() {
			if !yield(string(name)) {
				return
			}
		}
	}
}

// TestLinearJoin checks that repeated params cost time in proportion to their bytes, and not to the
// square.
func TestLinearJoin(t *testing.T) {
	var b []byte
	for i := range 998 {
		b, _ = appendParam(b, fmt.Sprintf("HTTP_X%d", i%20), strings.Repeat("v", 1000))
	}
	var in []byte
	in = append(in, "\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00"...)
	for len(b) > 0 {
		n := min(len(b), 60000)
		in = append(in, 1, 4, 0, 1, byte(n>>8), byte(n), 0, 0)
		in = append(in, b[:n]...)
		b = b[n:]
	}
	in = append(in, 1, 4, 0, 1, 0, 0, 0, 0)
	result := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			r, err := readRequest(bytes.NewReader(in))
			if err != nil || len(r.Params.Get("HTTP_X0")) < 49000 {
				b.Fatal(err)
			}
		}
	})
	if got := result.AllocedBytesPerOp(); got > 16<<20 {
		t.Errorf("%d bytes allocated for %d", got, len(in))
	}
}

func appendParam(dst []byte, name, value string) ([]byte, error) {
	return fastcgi.AppendParam(dst, name, value)
}

func readRequest(src io.Reader) (*gateway.Request, error) {
	r := new(gateway.Request)
	return r, fastcgi.NewReader(src).ReadRequest(r)
}
