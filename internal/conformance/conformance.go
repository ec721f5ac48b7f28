// Package conformance is the suite that the four protocols run, so that they stay siblings. Rules
// that hold for all protocols are tested once, here; rules of one protocol are tested beside its
// code.
package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

// A Protocol is one of the four, as the suite uses it.
type Protocol struct {
	Name string

	// Serve starts a server with the named handler of Handlers and returns a client of it.
	Serve func(t testing.TB, handler string) gateway.RoundTripper

	// Respond returns a client of an application that reads a request, responds with those bytes, a
	// head and a body, and ends.
	Respond func(t testing.TB, response string) gateway.RoundTripper

	// Ask sends a server with the named handler a head of these params (name, value, name, value)
	// and body. It returns the response, with the head that a CGI program writes, or "" if there is
	// none.
	Ask func(t testing.TB, handler, body string, params ...string) string

	// Sent returns the params that a client sends for r, with no rule applied.
	Sent func(t testing.TB, r *gateway.Request) (*gateway.Params, error)

	Stderr        bool // STDERR and an exit status reach the client
	UnknownLength bool // a body of unknown length is received
	Refuses       bool // a request that violates a rule gets a response
}

// Limit is how long a test waits for an event that should take no time.
const Limit = 30 * time.Second

// An Outcome is the result of a client's request.
type Outcome struct {
	Res  gateway.Response
	Body string
	Err  error // of RoundTrip or of the body
}

// Ask sends r through c and reads the whole response.
func Ask(t testing.TB, c gateway.RoundTripper, r *gateway.Request) *Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Limit)
	defer cancel()
	o := new(Outcome)
	if o.Err = c.RoundTrip(ctx, r, &o.Res); o.Err != nil {
		return o
	}
	defer o.Res.Body.Close()
	b, err := io.ReadAll(o.Res.Body)
	o.Body, o.Err = string(b), err
	return o
}

func request(method, target, body string) *gateway.Request {
	return gatewaytest.NewRequest(method, target, []byte(body))
}

func get(target string) *gateway.Request { return request("GET", target, "") }

// Run runs the suite.
func Run(t *testing.T, p Protocol) {
	t.Run("sent", func(t *testing.T) { sent(t, p) })
	t.Run("received", func(t *testing.T) { received(t, p) })
	t.Run("bodies", func(t *testing.T) { bodies(t, p) })
	t.Run("heads", func(t *testing.T) { heads(t, p) })
	t.Run("handlers", func(t *testing.T) { handlers(t, p) })
	t.Run("ends", func(t *testing.T) { ends(t, p) })
}

// sent tests items 1 to 54 at a client.
func sent(t *testing.T, p Protocol) {
	send := func(t *testing.T, nv ...string) (map[string]string, error) {
		t.Helper()
		r := new(gateway.Request)
		for i := 0; i < len(nv); i += 2 {
			r.Params.Add(nv[i], nv[i+1])
		}
		before := r.Params.Len()
		params, err := p.Sent(t, r)
		if r.Params.Len() != before {
			t.Error("the caller's params were changed")
		}
		if err != nil {
			return nil, err
		}
		got := make(map[string]string)
		for name, value := range params.All() {
			if _, twice := got[string(name)]; twice {
				t.Errorf("012 %s is sent twice", name)
			}
			got[string(name)] = string(value)
		}
		return got, nil
	}
	for _, c := range []struct{ id, name, value string }{
		{"an empty name [001]", "", "v"},
		{"NUL in a name [002]", "A\x00B", "v"},
		{"NUL in a value [002]", "A", "v\x00w"},
		{"CR in a name [003]", "A\rB", "v"},
		{"LF in a field [003 F18]", "HTTP_X", "a\nb"},
		{"CR in REQUEST_URI [003]", "REQUEST_URI", "/\r"},
		{"LF in QUERY_STRING [003]", "QUERY_STRING", "a\nb"},
		{"LF in CONTENT_TYPE [003]", "CONTENT_TYPE", "a\nb"},
		{"a method that is no token [021]", "REQUEST_METHOD", "GE T"},
		{"an empty method [021]", "REQUEST_METHOD", ""},
		{"a protocol that is none [022 F13]", "SERVER_PROTOCOL", "HTTP/1.1 200 X\r\nInj: y"},
		{"a protocol without a minor version [022 F13]", "SERVER_PROTOCOL", "HTTP/2"},
	} {
		t.Run(c.id, func(t *testing.T) {
			if _, err := send(t, c.name, c.value); !errors.Is(err, gateway.ErrParam) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("what may be sent [003 047 044]", func(t *testing.T) {
		got, err := send(t, "SSL_CLIENT_CERT", "-----BEGIN\nx", "PATH_INFO", "/a\nb", "HTTP_X", "caf\xc3\xa9\xff", "HTTP_EMPTY", "", "SERVER_PROTOCOL", "HTTP/3.0")
		if err != nil || got["SSL_CLIENT_CERT"] != "-----BEGIN\nx" || got["PATH_INFO"] != "/a\nb" || got["HTTP_X"] != "caf\xc3\xa9\xff" {
			t.Errorf("%q, %v", got, err)
		}
		if v, ok := got["HTTP_EMPTY"]; !ok || v != "" {
			t.Errorf("HTTP_EMPTY %q %v", v, ok)
		}
	})
	t.Run("HTTP_PROXY [004 005 F1]", func(t *testing.T) {
		got, err := send(t, "HTTP_PROXY", "http://evil", "HTTP_X", "1")
		if _, ok := got["HTTP_PROXY"]; ok || err != nil || got["HTTP_X"] != "1" {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("repeated fields [009 F46]", func(t *testing.T) {
		got, err := send(t, "HTTP_X", "1", "HTTP_COOKIE", "a=1", "HTTP_X", "2", "HTTP_COOKIE", "b=2", "REMOTE_ADDR", "::1", "REMOTE_ADDR", "::1")
		if err != nil || got["HTTP_X"] != "1, 2" || got["HTTP_COOKIE"] != "a=1; b=2" || got["REMOTE_ADDR"] != "::1" {
			t.Errorf("%v, %v", got, err)
		}
		if _, err := send(t, "SCRIPT_NAME", "/a", "SCRIPT_NAME", "/b"); !errors.Is(err, gateway.ErrParam) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("CONTENT_LENGTH follows ContentLength [012 F2 F43]", func(t *testing.T) {
		for _, value := range []string{"99", "", "abc"} {
			if got, err := send(t, "CONTENT_LENGTH", value); err != nil || got["CONTENT_LENGTH"] != "0" {
				t.Errorf("%v, %v", got, err)
			}
		}
	})
	t.Run("caps [043 F35 F47]", func(t *testing.T) {
		var nv []string
		for i := range gateway.MaxPairs + 1 {
			nv = append(nv, fmt.Sprintf("N%d", i), "")
		}
		for name, nv := range map[string][]string{"pairs": nv, "name": {strings.Repeat("N", 8193), ""}, "value": {"V", strings.Repeat("v", 65537)}} {
			if _, err := send(t, nv...); !errors.Is(err, gateway.ErrTooLarge) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("a role that the protocol has not", func(t *testing.T) {
		r := get("/")
		r.Role = 2
		if _, err := p.Sent(t, r); p.Name != "fastcgi" && !errors.Is(err, gateway.ErrParam) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("lengths [079 080 199 220 F2 F33]", func(t *testing.T) {
		c := p.Serve(t, "echo")
		for _, b := range []struct {
			body   io.Reader
			length int64
			want   error
		}{
			{strings.NewReader("hell"), 5, io.ErrUnexpectedEOF},
			{struct{ io.Reader }{strings.NewReader("hell")}, 5, io.ErrUnexpectedEOF},
			{struct{ io.Reader }{strings.NewReader(strings.Repeat("b", 40000))}, 40001, io.ErrUnexpectedEOF},
			{nil, 5, io.ErrUnexpectedEOF},
			{strings.NewReader("hello!"), 5, nil},
			{struct{ io.Reader }{strings.NewReader("hello!")}, 5, nil},
			{struct{ io.Reader }{strings.NewReader(strings.Repeat("b", 40000))}, 39999, nil},
			{strings.NewReader("hello"), -1, gateway.ErrLengthRequired},
		} {
			r := request("POST", "/", "")
			r.Body, r.ContentLength, r.GetBody = b.body, b.length, nil
			o := Ask(t, c, r)
			if _, memory := b.body.(*strings.Reader); !memory && o.Err == nil && b.want == nil && int64(len(o.Body)) == b.length {
				continue // the application had the promised bytes, and no more, before the excess was found
			}
			if o.Err == nil || b.want != nil && !errors.Is(o.Err, b.want) {
				t.Errorf("length %d: %q, %v", b.length, o.Body, o.Err)
			}
		}
		// Behind a Spool a body needs no length.
		r := request("POST", "/", "")
		r.Body, r.ContentLength, r.GetBody = struct{ io.Reader }{strings.NewReader(strings.Repeat("s", 100000))}, -1, nil
		if o := Ask(t, &gateway.Spool{Backend: c}, r); o.Err != nil || o.Res.Header.Get("X-Length") != "100000" || len(o.Body) != 100000 {
			t.Errorf("%d bytes, %v", len(o.Body), o.Err)
		}
	})
}

// received tests items 1 to 54 at a server.
func received(t *testing.T, p Protocol) {
	type pairs = []string
	refused := func(t *testing.T, status string, nv ...string) {
		t.Helper()
		got := p.Ask(t, "params", "", append(pairs{"REQUEST_METHOD", "GET"}, nv...)...)
		if !p.Refuses {
			status = ""
		}
		if line, _, _ := strings.Cut(got, "\r\n"); line != status {
			t.Errorf("%q: responded %.60q, want %q", nv, got, status)
		}
	}
	const bad = "Status: 400 Bad Request"
	for _, c := range []struct {
		id string
		nv pairs
	}{
		{"CR in a field [003 F8]", pairs{"HTTP_X", "a\rb"}},
		{"LF in REQUEST_URI [003]", pairs{"REQUEST_URI", "/\n"}},
		{"two of another value [011 F46]", pairs{"SCRIPT_NAME", "/a", "SCRIPT_NAME", "/b"}},
		{"two HTTPS [011 F46]", pairs{"HTTPS", "on", "HTTPS", "off"}},
		{"a length with a sign [018 F2]", pairs{"CONTENT_LENGTH", "+5"}},
		{"a length below nothing [018]", pairs{"CONTENT_LENGTH", "-5"}},
		{"a length with a space [018]", pairs{"CONTENT_LENGTH", " 5"}},
		{"two lengths in one [018]", pairs{"CONTENT_LENGTH", "5, 5"}},
		{"a length that fits nothing [018]", pairs{"CONTENT_LENGTH", strings.Repeat("9", 20)}},
	} {
		if p.Name == "cgi" && len(c.nv) > 2 {
			continue // an environment has each name once
		}
		t.Run(c.id, func(t *testing.T) { refused(t, bad, c.nv...) })
	}
	t.Run("a value over the cap [043 F35]", func(t *testing.T) {
		if p.Name == "uwsgi" || p.Name == "cgi" {
			return // a packet holds no such value, and no system passes one
		}
		refused(t, "Status: 431 Request Header Fields Too Large", "HTTP_X", strings.Repeat("v", 65537))
	})
	ask := func(t *testing.T, nv ...string) string {
		t.Helper()
		got := p.Ask(t, "params", "", nv...)
		if !strings.HasPrefix(got, "Status: 200 OK\r\n") {
			t.Fatalf("%q: responded %.60q", nv, got)
		}
		return got
	}
	contains := func(t *testing.T, got string, all ...string) {
		t.Helper()
		for _, want := range all {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in %q", want, got)
			}
		}
	}
	t.Run("HTTP_PROXY [005 F1]", func(t *testing.T) {
		if got := ask(t, "HTTP_PROXY", "http://evil", "HTTP_X", "1"); strings.Contains(got, "evil") || !strings.Contains(got, `HTTP_X="1"`) {
			t.Errorf("%q", got)
		}
	})
	t.Run("what is received as it is [010 044 045 047]", func(t *testing.T) {
		got := ask(t, "REQUEST_METHOD", "get", "HTTP_EMPTY", "", "http_x", "low", "HTTP_X", "\xff\xc3\xa9", "PATH_INFO", "/a\nb%2F")
		contains(t, got, `method "get"`, `HTTP_EMPTY=""`, `http_x="low"`, `HTTP_X="\xffé"`, `path "/a\nb%2F"`)
	})
	t.Run("repeated fields [010 F46]", func(t *testing.T) {
		if p.Name == "cgi" {
			return // an environment has each name once
		}
		got := ask(t, "HTTP_COOKIE", "a=1", "HTTP_X", "1", "HTTP_COOKIE", "b=2", "HTTP_X", "2", "HTTPS", "on", "HTTPS", "on")
		contains(t, got, `HTTP_COOKIE="a=1; b=2"`, `HTTP_X="1, 2"`, `HTTPS="on"`)
		if strings.Count(got, "HTTPS=") != 1 {
			t.Errorf("%q", got)
		}
	})
	t.Run("HTTP_CONTENT_LENGTH is not the length [015]", func(t *testing.T) {
		contains(t, ask(t, "HTTP_CONTENT_LENGTH", "5"), "length 0,")
	})
	t.Run("no length [019]", func(t *testing.T) {
		contains(t, ask(t, "REQUEST_METHOD", "GET"), "length 0,")
		if p.Name != "scgi" { // its specification requires digits
			contains(t, ask(t, "CONTENT_LENGTH", ""), "length 0,")
		}
	})
	t.Run("a length of -1 [020]", func(t *testing.T) {
		if p.UnknownLength {
			contains(t, ask(t, "CONTENT_LENGTH", "-1"), "length 0,") // nothing was sent
			return
		}
		refused(t, bad, "CONTENT_LENGTH", "-1")
	})
	t.Run("no path but the URI's [188 027]", func(t *testing.T) {
		contains(t, ask(t, "REQUEST_METHOD", "GET", "REQUEST_URI", "/caf%C3%A9?q"), `path "/café"`)
	})
}

// bodies sends bodies of every size to a handler and back.
func bodies(t *testing.T, p Protocol) {
	c := p.Serve(t, "echo")
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<16+1)
	for _, size := range []int{0, 1, 1000, 16 << 10, 16<<10 + 1, 65535, 65536, 131072, len(body)} {
		t.Run(fmt.Sprintf("%d bytes [057 183 210 F3]", size), func(t *testing.T) {
			for name, src := range map[string]io.Reader{
				"in memory": bytes.NewReader(body[:size]), "streamed": struct{ io.Reader }{bytes.NewReader(body[:size])},
			} {
				if size == 0 && name == "streamed" {
					continue // its length is unknown
				}
				r := request("POST", "/", "")
				r.Body, r.ContentLength, r.GetBody = src, int64(size), nil
				if o := Ask(t, c, r); o.Err != nil || o.Body != string(body[:size]) || o.Res.Header.Get("X-Length") != fmt.Sprint(size) {
					t.Errorf("%s: %d bytes, X-Length %s, %v", name, len(o.Body), o.Res.Header.Get("X-Length"), o.Err)
				}
			}
		})
	}
	t.Run("requests without a body", func(t *testing.T) {
		for name, none := range map[string]io.Reader{
			"nil": nil, "NoBody": gateway.NoBody, "empty in memory": new(bytes.Buffer),
		} {
			r := request("GET", "/", "")
			r.Body, r.ContentLength, r.GetBody = none, 0, nil
			if o := Ask(t, c, r); o.Err != nil || o.Body != "" || o.Res.Header.Get("X-Length") != "0" {
				t.Errorf("%s: %q, X-Length %s, %v", name, o.Body, o.Res.Header.Get("X-Length"), o.Err)
			}
		}
	})
	t.Run("bodies whose length is not set", func(t *testing.T) {
		for name, src := range map[string]io.Reader{
			"bytes.Reader": bytes.NewReader(body[:1000]), "bytes.Buffer": bytes.NewBuffer(body[:1000:1000]),
			"strings.Reader": strings.NewReader(string(body[:1000])),
		} {
			r := request("POST", "/", "")
			r.Body, r.ContentLength, r.GetBody = src, 0, nil
			if o := Ask(t, c, r); o.Err != nil || o.Body != string(body[:1000]) || o.Res.Header.Get("X-Length") != "1000" {
				t.Errorf("%s: %d bytes, X-Length %s, %v", name, len(o.Body), o.Res.Header.Get("X-Length"), o.Err)
			}
		}
		r := request("POST", "/", "")
		r.Body, r.ContentLength, r.GetBody = struct{ io.Reader }{bytes.NewReader(body[:1000])}, 0, nil
		if o := Ask(t, c, r); !errors.Is(o.Err, gateway.ErrLengthRequired) {
			t.Errorf("another reader: %v", o.Err)
		}
	})
	t.Run("a body that is not read [145 222]", func(t *testing.T) {
		c := p.Serve(t, "responses")
		for range 3 {
			if o := Ask(t, c, request("POST", "/unread", string(body[:200000]))); o.Err != nil || o.Body != "not read" {
				t.Errorf("%q, %v", o.Body, o.Err)
			}
		}
	})
	t.Run("a body that is cut [146 211]", func(t *testing.T) {
		if got := p.Ask(t, "echo", "hel", "CONTENT_LENGTH", "5"); !strings.HasPrefix(got, "Status: 500") {
			t.Errorf("responded %q", got)
		}
	})
	t.Run("bytes beyond the length [183 210 235]", func(t *testing.T) {
		if got := p.Ask(t, "echo", "hello, and more", "CONTENT_LENGTH", "5"); !strings.HasSuffix(got, "\r\n\r\nhello") {
			t.Errorf("responded %q", got)
		}
	})
}

// heads tests items 238 to 262: the response heads that a client accepts.
func heads(t *testing.T, p Protocol) {
	malformed, cut := gateway.ErrMalformed, gateway.ErrTruncated
	alone := cut
	if p.Name == "fastcgi" {
		alone = malformed // END_REQUEST says that no more follows
	}
	for _, c := range []struct {
		id, response string
		status       int
		body         string
		err          error
	}{
		{"CRLF [238]", "Status: 404 Not Found\r\nX: 1\r\n\r\nb", 404, "b", nil},
		{"LF [238]", "Status: 404 Not Found\nX: 1\n\nb", 404, "b", nil},
		{"both [238]", "Status: 404 Not Found\r\nX: 1\r\n\nb", 404, "b", nil},
		{"a bare CR [239 F18]", "X: a\rb\r\n\r\n", 0, "", malformed},
		{"NUL [240 F22]", "X: a\x00b\r\n\r\n", 0, "", malformed},
		{"a control byte [240]", "X: \x01\r\n\r\n", 0, "", malformed},
		{"a space in a name [241]", "X Y: 1\r\n\r\n", 0, "", malformed},
		{"a space before the colon [241]", "X : 1\r\n\r\n", 0, "", malformed},
		{"no name [241]", ": 1\r\n\r\n", 0, "", malformed},
		{"no colon [241]", "X\r\n\r\n", 0, "", malformed},
		{"a folded line [242]", "X: 1\r\n 2\r\n\r\n", 0, "", malformed},
		{"a space first [243]", " X: 1\r\n\r\n", 0, "", malformed},
		{"two digits [244]", "Status: 42\r\n\r\n", 0, "", malformed},
		{"four digits [244]", "Status: 2000\r\n\r\n", 0, "", malformed},
		{"letters [244]", "Status: abc\r\n\r\n", 0, "", malformed},
		{"no space [244]", "Status: 200OK\r\n\r\n", 0, "", malformed},
		{"999 [244]", "Status: 999 Odd\r\n\r\n", 999, "", nil},
		{"no reason [245]", "Status: 404\r\n\r\n", 404, "", nil},
		{"two that differ [246]", "Status: 200\r\nStatus: 404\r\n\r\n", 0, "", malformed},
		{"two alike [246]", "Status: 404\r\nStatus: 404 x\r\n\r\n", 404, "", nil},
		{"no Status [248]", "X: 1\r\n\r\nb", 200, "b", nil},
		{"a Location [248 230]", "Location: http://h/\r\n\r\n", 302, "", nil},
		{"a Location and more [229]", "Location: /x\r\nX: 1\r\n\r\n", 302, "", nil},
		{"a Location and a Status [230]", "Status: 307 Temporary Redirect\r\nLocation: /x\r\n\r\n", 307, "", nil},
		{"an interim response first [249 F30]", "Status: 103 Early Hints\r\n\r\nStatus: 200 OK\r\n\r\nb", 200, "b", nil},
		{"an interim response alone [249 F30]", "Status: 100 Continue\r\n\r\n", 0, "", alone},
		{"a 101 that was not asked for [250 175 F31]", "Status: 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", 0, "", malformed},
		{"a 101 without a token [250 F31]", "Status: 101 Switching Protocols\r\n\r\n", 0, "", malformed},
		{"a length with a sign [251 F19]", "Content-Length: +5\r\n\r\nhello", 0, "", malformed},
		{"two lengths [251 F19]", "Content-Length: 5\r\nContent-Length: 3\r\n\r\nhello", 0, "", malformed},
		{"two lengths in one [251]", "Content-Length: 5, 5\r\n\r\nhello", 0, "", malformed},
		{"two alike [251]", "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", nil},
		{"a body that is longer [252 172]", "Content-Length: 3\r\n\r\nhello", 200, "hel", nil},
		{"a body where none is to be [252 172]", "Content-Length: 0\r\n\r\nhello", 200, "", nil},
		{"a body that is shorter [252 172]", "Content-Length: 10\r\n\r\nhello", 200, "hello", cut},
		{"Transfer-Encoding [253 173 F19]", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, "", malformed},
		{"an empty head [259]", "\r\nbody", 200, "body", nil},
		{"nothing [260 088]", "", 0, "", gateway.ErrNoResponse},
		{"text without a head [232]", "just text", 0, "", cut},
		{"an end inside the head [087]", "Status: 200 OK\r\n", 0, "", cut},
	} {
		t.Run(c.id, func(t *testing.T) {
			o := Ask(t, p.Respond(t, c.response), get("/"))
			failed := c.status == 0
			if (o.Err != nil) != (failed || c.err != nil) || c.err != nil && !errors.Is(o.Err, c.err) {
				t.Fatalf("%d %q, %v", o.Res.Status, o.Body, o.Err)
			}
			if !failed && (o.Res.Status != c.status || o.Body != c.body) {
				t.Errorf("%d %q", o.Res.Status, o.Body)
			}
			if failed && (o.Res.Status != 0 || o.Res.Header.Len() > 0) {
				t.Errorf("the response is not empty: %d", o.Res.Status)
			}
			if e, ok := errors.AsType[*gateway.Error](o.Err); o.Err != nil && (!ok || gateway.ErrorStatus(e) != 502) {
				t.Errorf("%v is a %d", o.Err, gateway.ErrorStatus(o.Err))
			}
		})
	}
	t.Run("the limit of 64 KiB [257 258 F17]", func(t *testing.T) {
		fields := func(n int) string { return strings.Repeat("X: 012345678901\r\n", n) + "\r\n" } // 17 bytes each
		if o := Ask(t, p.Respond(t, fields(900)), get("/")); o.Err != nil || o.Res.Header.Len() != 900 {
			t.Errorf("%d fields, %v", o.Res.Header.Len(), o.Err)
		}
		exact := strings.Repeat("X: "+strings.Repeat("v", 1019)+"\r\n", 63)
		exact += "Y: " + strings.Repeat("v", 64<<10-len(exact)-7) + "\r\n\r\n"
		if o := Ask(t, p.Respond(t, exact), get("/")); len(exact) != 64<<10 || o.Err != nil || o.Res.Header.Len() != 64 {
			t.Errorf("of %d bytes: %d fields, %v", len(exact), o.Res.Header.Len(), o.Err)
		}
		if o := Ask(t, p.Respond(t, "Z"+exact), get("/")); !errors.Is(o.Err, gateway.ErrTooLarge) {
			t.Errorf("one more: %v", o.Err)
		}
		for name, head := range map[string]string{
			"fields": fields(1001), "bytes": strings.Repeat("X: "+strings.Repeat("v", 1000)+"\r\n", 70) + "\r\n", "no end": strings.Repeat("v", 70000),
		} {
			if o := Ask(t, p.Respond(t, head), get("/")); !errors.Is(o.Err, gateway.ErrTooLarge) {
				t.Errorf("%s: %v", name, o.Err)
			}
		}
	})
	t.Run("fields [247 256 262]", func(t *testing.T) {
		o := Ask(t, p.Respond(t, "Status: 200\r\nDate: d\r\nSet-Cookie: a\r\nX: 1\r\nset-cookie: b\r\nX: 2\r\n\r\n"), get("/"))
		var got []string
		for name, value := range o.Res.Header.All() {
			got = append(got, string(name)+"="+string(value))
		}
		if fmt.Sprint(got) != "[Date=d Set-Cookie=a X=1 set-cookie=b X=2]" || o.Err != nil {
			t.Errorf("%v, %v", got, o.Err)
		}
	})
	t.Run("lengths of bodies that do not come [118 119 261]", func(t *testing.T) {
		for _, c := range []struct{ method, status string }{{"HEAD", "200 OK"}, {"GET", "304 Not Modified"}, {"GET", "204 No Content"}} {
			if o := Ask(t, p.Respond(t, "Status: "+c.status+"\r\nContent-Length: 5\r\n\r\n"), request(c.method, "/", "")); o.Err != nil || o.Res.ContentLength != 5 {
				t.Errorf("%s %s: %d, %v", c.method, c.status, o.Res.ContentLength, o.Err)
			}
		}
	})
	t.Run("interim responses that are wanted [249]", func(t *testing.T) {
		r := get("/")
		var got []int
		r.Interim = func(status int, h *gateway.Header) error {
			got = append(got, status)
			return nil
		}
		if o := Ask(t, p.Respond(t, "Status: 103\r\nLink: a\r\n\r\nStatus: 103\r\n\r\nStatus: 200\r\n\r\n"), r); o.Err != nil || fmt.Sprint(got) != "[103 103]" {
			t.Errorf("%v, %v", got, o.Err)
		}
		refused := errors.New("refused")
		r.Interim = func(int, *gateway.Header) error { return refused }
		if o := Ask(t, p.Respond(t, "Status: 103\r\n\r\nStatus: 200\r\n\r\n"), r); !errors.Is(o.Err, refused) {
			t.Errorf("one that the caller refuses: %v", o.Err)
		}
	})
	t.Run("as many interim responses as anybody needs [249 F30]", func(t *testing.T) {
		const most = 16
		for n, want := range map[int]error{most: nil, most + 1: gateway.ErrMalformed} {
			response := strings.Repeat("Status: 103\r\n\r\n", n) + "Status: 200\r\n\r\n"
			if o := Ask(t, p.Respond(t, response), get("/")); !errors.Is(o.Err, want) {
				t.Errorf("%d: %v", n, o.Err)
			}
		}
	})
}

// handlers tests items 263 to 276: the responses that a server sends for a handler.
func handlers(t *testing.T, p Protocol) {
	c := p.Serve(t, "responses")
	for _, h := range []struct {
		id, path string
		status   int
		body     string
	}{
		{"a status [263]", "/404", 404, "not here"},
		{"any status [263]", "/fields", 207, ""},
		{"a name that is none [264 F18]", "/bad-name", 500, ""},
		{"a value with a line in it [264 F18]", "/bad-value", 500, ""},
		{"a status that is none [270]", "/bad-status", 500, ""},
		{"a 1xx as the status [269 F30]", "/interim-status", 500, ""},
		{"two statuses [270]", "/twice", 201, ""},
		{"a length that is none [268]", "/bad-length", 500, ""},
		{"a body that is longer [268]", "/long", 200, "abc"},
		{"a Status field [266]", "/own-status", 200, "own"},
		{"Flush alone [275]", "/flush", 202, ""},
		{"an error [157]", "/error", 500, ""},
		{"an error with a status [157]", "/param", 400, ""},
		{"a panic [157 276]", "/panic", 500, ""},
		{"a megabyte at once [141]", "/large-write", 200, strings.Repeat("\x00", 1<<20)},
		{"204", "/204", 204, ""},
		{"with a length [304]", "/304", 304, ""},
		{"a large head [273]", "/large", 200, "large"},
		{"an interim response to who takes none [269]", "/interim", 200, "none"},
		{"Hijack without an upgrade [187 F31]", "/hijack", 200, "none"},
	} {
		t.Run(h.id, func(t *testing.T) {
			o := Ask(t, c, get(h.path))
			if o.Err != nil || o.Res.Status != h.status || o.Body != h.body {
				t.Errorf("%d, %d bytes %.40q, %v", o.Res.Status, len(o.Body), o.Body, o.Err)
			}
			if _, ok := o.Res.Header.Lookup("Injected"); ok {
				t.Error("a field was injected")
			}
		})
	}
	t.Run("fields as they are [264 272]", func(t *testing.T) {
		o := Ask(t, c, get("/fields"))
		var got []string
		for name, value := range o.Res.Header.All() {
			got = append(got, fmt.Sprintf("%s=%q", name, value))
		}
		if fmt.Sprint(got) != `[Set-Cookie="a=1" X-First="1" Set-Cookie="b=2" X-Bytes="café \xff" X-Empty=""]` {
			t.Errorf("%v", got)
		}
	})
	t.Run("HEAD [271]", func(t *testing.T) {
		if o := Ask(t, c, request("HEAD", "/head", "")); o.Err != nil || o.Res.ContentLength != 10 || o.Body != "" {
			t.Errorf("%d %q, %v", o.Res.ContentLength, o.Body, o.Err)
		}
	})
	for _, path := range []string{"/short", "/late"} {
		t.Run(path[1:]+" [268 276]", func(t *testing.T) {
			if o := Ask(t, c, get(path)); !errors.Is(o.Err, gateway.ErrTruncated) {
				t.Errorf("%q, %v", o.Body, o.Err)
			}
		})
	}
	t.Run("a response in pieces [142]", func(t *testing.T) {
		var res gateway.Response
		if err := c.RoundTrip(t.Context(), get("/pieces"), &res); err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b := make([]byte, 100)
		if n, err := res.Body.Read(b); string(b[:n]) != "piece 0\n" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
		if rest, err := io.ReadAll(res.Body); string(rest) != "piece 1\npiece 2\n" || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
	})
	t.Run("STDERR and the exit status [096 099 158 226]", func(t *testing.T) {
		r := get("/stderr")
		var errs bytes.Buffer
		r.Stderr = &errs
		o := Ask(t, c, r)
		if o.Err != nil || o.Body != "said" {
			t.Fatalf("%q, %v", o.Body, o.Err)
		}
		if p.Stderr && (errs.String() != "a word\n" || o.Res.AppStatus != 7) {
			t.Errorf("STDERR %q, status %d", errs.String(), o.Res.AppStatus)
		}
	})
}

// connections returns how many connections or processes the requests of c have used.
func connections(c gateway.RoundTripper) uint64 {
	s, ok := c.(interface{ Stats() gateway.Stats })
	if !ok {
		return 0
	}
	stats := s.Stats()
	return stats.Dialed + stats.Reused
}

func ends(t *testing.T, p Protocol) {
	c := p.Serve(t, "responses")
	inFlight := func(t *testing.T) {
		t.Helper()
		s, ok := c.(interface{ Stats() gateway.Stats })
		for i := 0; ok && s.Stats().InFlight > 0; i++ {
			if time.Sleep(time.Millisecond); i == 1000 {
				t.Fatalf("%+v", s.Stats())
			}
		}
	}
	t.Run("a context that ends in the body [102 225 292]", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var res gateway.Response
		if err := c.RoundTrip(ctx, get("/wait"), &res); err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		io.ReadFull(res.Body, make([]byte, 5))
		time.AfterFunc(20*time.Millisecond, cancel)
		_, err := io.ReadAll(res.Body)
		if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Phase != gateway.PhaseBody || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		inFlight(t)
	})
	t.Run("a context that has ended [102 292]", func(t *testing.T) {
		Ask(t, c, get("/404")) // where connections are kept, there is one now
		before := connections(c)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 20 {
			var res gateway.Response
			err := c.RoundTrip(ctx, request("POST", "/404", "body"), &res)
			if e, ok := errors.AsType[*gateway.Error](err); !ok || !errors.Is(err, context.Canceled) || e.Sent || res.Status != 0 {
				t.Fatalf("%d, %v", res.Status, err)
			}
		}
		if used := connections(c) - before; used != 0 {
			t.Errorf("%d connections or processes were used", used)
		}
		inFlight(t)
	})
	t.Run("a body that is closed early", func(t *testing.T) {
		for _, path := range []string{"/wait", "/large-write", "/404"} {
			var res gateway.Response
			if err := c.RoundTrip(t.Context(), get(path), &res); err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			res.Body.Close()
			if n, err := res.Body.Read(make([]byte, 1)); n > 0 || err == nil || err == io.EOF {
				t.Errorf("%s: read %d, %v after Close", path, n, err)
			}
		}
		inFlight(t)
	})
	t.Run("a Close while a Read waits", func(t *testing.T) {
		var res gateway.Response
		if err := c.RoundTrip(t.Context(), get("/wait"), &res); err != nil {
			t.Fatal(err)
		}
		io.ReadFull(res.Body, make([]byte, 5))
		body := res.Body
		read := make(chan error, 1)
		go func() {
			_, err := body.Read(make([]byte, 1))
			read <- err
		}()
		time.Sleep(20 * time.Millisecond)
		body.Close()
		if err := <-read; err == nil || err == io.EOF {
			t.Errorf("the Read gave %v", err)
		}
		inFlight(t)
	})
}

// Play sends input to a server over c, closes that direction, and returns everything that the
// server sends.
func Play(t testing.TB, c Conn, input string) string {
	t.Helper()
	response, err := play(t, c, input)
	if err != nil {
		t.Errorf("reading the response to %.200q: %v", input, err)
	}
	return response
}

// PlayReset is Play for a response that may be cut by a reset.
func PlayReset(t testing.TB, c Conn, input string) string {
	t.Helper()
	response, err := play(t, c, input)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reading the response: %v", err)
	}
	return response
}

func play(t testing.TB, c Conn, input string) (string, error) {
	t.Helper()
	defer c.Close()
	c.SetDeadline(time.Now().Add(Limit))
	go func() {
		io.WriteString(c, input)
		c.CloseWrite()
	}()
	b, err := io.ReadAll(c)
	return string(b), err
}

// A Conn is a connection one of whose directions can end.
type Conn interface {
	io.ReadWriteCloser
	CloseWrite() error
	SetDeadline(t time.Time) error
}
