package conformance

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// sent tests items 1 to 54 at a client.
func sent(t *testing.T, p Protocol) {
	for _, c := range refusedParams {
		t.Run(c.id, func(t *testing.T) {
			if _, err := send(t, p, c.name, c.value); !errors.Is(err, gateway.ErrParam) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("what may be sent [003 047 044]", func(t *testing.T) { sentUnchanged(t, p) })
	t.Run("HTTP_PROXY [004 005 F1]", func(t *testing.T) { proxyNotSent(t, p) })
	t.Run("repeated fields [009 F46]", func(t *testing.T) { sentOnce(t, p) })
	t.Run("CONTENT_LENGTH follows ContentLength [012 F2 F43]", func(t *testing.T) { lengthSent(t, p) })
	t.Run("caps [043 F35 F47]", func(t *testing.T) { capsOfSent(t, p) })
	t.Run("a role that the protocol has not", func(t *testing.T) { unknownRoleNotSent(t, p) })
	t.Run("lengths [079 080 199 220 F2 F33]", func(t *testing.T) { lengthsSent(t, p) })
}

// refusedParams are params that no client sends.
var refusedParams = []struct{ id, name, value string }{
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
}

// send returns the params that p sends for a request with these.
func send(t *testing.T, p Protocol, nv ...string) (map[string]string, error) {
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

func sentUnchanged(t *testing.T, p Protocol) {
	got, err := send(t, p, "SSL_CLIENT_CERT", "-----BEGIN\nx", "PATH_INFO", "/a\nb", "HTTP_X", "caf\xc3\xa9\xff", "HTTP_EMPTY", "", "SERVER_PROTOCOL", "HTTP/3.0")
	if err != nil || got["SSL_CLIENT_CERT"] != "-----BEGIN\nx" || got["PATH_INFO"] != "/a\nb" || got["HTTP_X"] != "caf\xc3\xa9\xff" {
		t.Errorf("%q, %v", got, err)
	}
	if v, ok := got["HTTP_EMPTY"]; !ok || v != "" {
		t.Errorf("HTTP_EMPTY %q %v", v, ok)
	}
}

func proxyNotSent(t *testing.T, p Protocol) {
	got, err := send(t, p, "HTTP_PROXY", "http://evil", "HTTP_X", "1")
	if _, ok := got["HTTP_PROXY"]; ok || err != nil || got["HTTP_X"] != "1" {
		t.Errorf("%v, %v", got, err)
	}
}

func sentOnce(t *testing.T, p Protocol) {
	got, err := send(t, p, "HTTP_X", "1", "HTTP_COOKIE", "a=1", "HTTP_X", "2", "HTTP_COOKIE", "b=2", "REMOTE_ADDR", "::1", "REMOTE_ADDR", "::1")
	if err != nil || got["HTTP_X"] != "1, 2" || got["HTTP_COOKIE"] != "a=1; b=2" || got["REMOTE_ADDR"] != "::1" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := send(t, p, "SCRIPT_NAME", "/a", "SCRIPT_NAME", "/b"); !errors.Is(err, gateway.ErrParam) {
		t.Errorf("got %v", err)
	}
}

func lengthSent(t *testing.T, p Protocol) {
	for _, value := range []string{"99", "", "abc"} {
		if got, err := send(t, p, "CONTENT_LENGTH", value); err != nil || got["CONTENT_LENGTH"] != "0" {
			t.Errorf("%v, %v", got, err)
		}
	}
}

func capsOfSent(t *testing.T, p Protocol) {
	var nv []string
	for i := range gateway.MaxPairs + 1 {
		nv = append(nv, fmt.Sprintf("N%d", i), "")
	}
	// The client adds CONTENT_LENGTH, and a Reader would refuse one pair more than the limit.
	added := nv[:2*gateway.MaxPairs]
	for name, nv := range map[string][]string{"pairs": nv, "pairs with CONTENT_LENGTH": added, "name": {strings.Repeat("N", 8193), ""}, "value": {"V", strings.Repeat("v", 65537)}} {
		if _, err := send(t, p, nv...); !errors.Is(err, gateway.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func unknownRoleNotSent(t *testing.T, p Protocol) {
	r := get("/")
	r.Role = 2
	if _, err := p.Sent(t, r); p.Name != "fastcgi" && !errors.Is(err, gateway.ErrParam) {
		t.Errorf("got %v", err)
	}
}

func lengthsSent(t *testing.T, p Protocol) {
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
}
