package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// bodies sends bodies of every size to a handler and back.
func bodies(t *testing.T, p Protocol) {
	c, body := p.Serve(t, "echo"), longBody()
	for _, size := range []int{0, 1, 1000, 16 << 10, 16<<10 + 1, 65535, 65536, 131072, len(body)} {
		t.Run(fmt.Sprintf("%d bytes [057 183 210 F3]", size), func(t *testing.T) { echoed(t, c, body[:size]) })
	}
	t.Run("requests without a body", func(t *testing.T) { noBodies(t, c) })
	t.Run("bodies whose length is not set", func(t *testing.T) { lengthsNotSet(t, c) })
	t.Run("a body that is not read [145 222]", func(t *testing.T) { unreadBody(t, p) })
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

// longBody returns a body that is longer than any buffer. It is no variable, since programs of this
// package are started for each request of CGI.
func longBody() []byte { return bytes.Repeat([]byte("0123456789abcdef"), 1<<16+1) }

// echoed sends body from memory and as a stream, and compares what comes back.
func echoed(t *testing.T, c gateway.RoundTripper, body []byte) {
	for name, src := range map[string]io.Reader{
		"in memory": bytes.NewReader(body), "streamed": struct{ io.Reader }{bytes.NewReader(body)},
	} {
		if len(body) == 0 && name == "streamed" {
			continue // its length is unknown
		}
		r := request("POST", "/", "")
		r.Body, r.ContentLength, r.GetBody = src, int64(len(body)), nil
		if o := Ask(t, c, r); o.Err != nil || o.Body != string(body) || o.Res.Header.Get("X-Length") != fmt.Sprint(len(body)) {
			t.Errorf("%s: %d bytes, X-Length %s, %v", name, len(o.Body), o.Res.Header.Get("X-Length"), o.Err)
		}
	}
}

func noBodies(t *testing.T, c gateway.RoundTripper) {
	for name, none := range map[string]io.Reader{
		"nil": nil, "NoBody": gateway.NoBody, "empty in memory": new(bytes.Buffer),
	} {
		r := request("GET", "/", "")
		r.Body, r.ContentLength, r.GetBody = none, 0, nil
		if o := Ask(t, c, r); o.Err != nil || o.Body != "" || o.Res.Header.Get("X-Length") != "0" {
			t.Errorf("%s: %q, X-Length %s, %v", name, o.Body, o.Res.Header.Get("X-Length"), o.Err)
		}
	}
}

func lengthsNotSet(t *testing.T, c gateway.RoundTripper) {
	body := make([]byte, 1000)
	for name, src := range map[string]io.Reader{
		"bytes.Reader": bytes.NewReader(body), "bytes.Buffer": bytes.NewBuffer(slices.Clone(body)),
		"strings.Reader": strings.NewReader(string(body)),
	} {
		r := request("POST", "/", "")
		r.Body, r.ContentLength, r.GetBody = src, 0, nil
		if o := Ask(t, c, r); o.Err != nil || o.Body != string(body) || o.Res.Header.Get("X-Length") != "1000" {
			t.Errorf("%s: %d bytes, X-Length %s, %v", name, len(o.Body), o.Res.Header.Get("X-Length"), o.Err)
		}
	}
	r := request("POST", "/", "")
	r.Body, r.ContentLength, r.GetBody = struct{ io.Reader }{bytes.NewReader(body)}, 0, nil
	if o := Ask(t, c, r); !errors.Is(o.Err, gateway.ErrLengthRequired) {
		t.Errorf("another reader: %v", o.Err)
	}
}

func unreadBody(t *testing.T, p Protocol) {
	c := p.Serve(t, "responses")
	for _, size := range []int{200_000, 8 << 20} {
		for range 10 {
			r := request("POST", "/unread", "")
			r.Body, r.ContentLength, r.GetBody = struct{ io.Reader }{bytes.NewReader(make([]byte, size))}, int64(size), nil
			if o := Ask(t, c, r); o.Err != nil || o.Body != "not read" {
				t.Errorf("%d bytes: %q, %v", size, o.Body, o.Err)
			}
		}
	}
}
