package gateway_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// received is a backend that keeps what it was sent.
type received struct {
	calls  int
	body   string
	length int64
}

func (b *received) RoundTrip(_ context.Context, r *gateway.Request, res *gateway.Response) error {
	b.calls++
	b.length = r.ContentLength
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		b.body = string(body)
	}
	res.Reset()
	res.Status, res.Body = 204, io.NopCloser(strings.NewReader(""))
	return nil
}

// post returns a request whose body is streamed.
func post(body string, length int64) *gateway.Request {
	r := new(gateway.Request)
	if err := r.SetTarget("POST", "/"); err != nil {
		panic(err)
	}
	r.Body, r.ContentLength = struct{ io.Reader }{strings.NewReader(body)}, length
	return r
}

func TestSpoolAll(t *testing.T) {
	large := strings.Repeat("b", 100<<10)
	for name, c := range map[string]struct {
		spool  gateway.Spool
		r      *gateway.Request
		length int64 // that the backend gets; -1 if it is not called
		err    error
	}{
		"a length that is known [450]":      {gateway.Spool{All: true}, post("hello", 5), 5, nil},
		"a large body [450]":                {gateway.Spool{All: true}, post(large, int64(len(large))), int64(len(large)), nil},
		"a length that is unknown [449]":    {gateway.Spool{All: true}, post("hello", -1), 5, nil},
		"no body":                           {gateway.Spool{All: true}, &gateway.Request{Body: gateway.NoBody}, 0, nil},
		"a length over the limit [453]":     {gateway.Spool{All: true, MaxBytes: 4}, post("hello", 5), -1, gateway.ErrBodyTooLarge},
		"a body shorter than its length":    {gateway.Spool{All: true}, post("hell", 5), -1, io.ErrUnexpectedEOF},
		"a large body shorter than that":    {gateway.Spool{All: true}, post(large, int64(len(large))+1), -1, io.ErrUnexpectedEOF},
		"without All it passes as it is":    {gateway.Spool{MaxBytes: 4}, post("hello", 5), 5, nil},
		"without All, of an unknown length": {gateway.Spool{MaxBytes: 4}, post("hello", -1), -1, gateway.ErrBodyTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			b := new(received)
			c.spool.Backend, c.spool.Dir = b, t.TempDir()
			var res gateway.Response
			err := c.spool.RoundTrip(t.Context(), c.r, &res)
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("got %v", err)
			}
			if c.length < 0 {
				if b.calls != 0 {
					t.Error("the backend was called")
				}
			} else if b.length != c.length || int64(len(b.body)) != c.length {
				t.Errorf("the backend got %d bytes, length %d", len(b.body), b.length)
			}
			if err == nil {
				res.Body.Close()
			}
			if left, _ := os.ReadDir(c.spool.Dir); len(left) > 0 {
				t.Errorf("%d files are left", len(left))
			}
		})
	}
}

// A Rewrite that puts a reader around an empty body does not make a body of it.
func TestProxyKeepsEmptyBody(t *testing.T) {
	b := &received{length: -2}
	p := &gateway.Proxy{
		Backend: b,
		Rewrite: func(r *gateway.Request) error {
			r.Body = struct{ io.Reader }{r.Body}
			return nil
		},
	}
	r := new(gateway.Request)
	if err := r.SetTarget("GET", "/"); err != nil {
		t.Fatal(err)
	}
	r.Body = gateway.NoBody
	var res gateway.Response
	if err := gateway.InProcess(p).RoundTrip(t.Context(), r, &res); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if b.length != 0 || b.body != "" {
		t.Errorf("the backend got length %d, body %q", b.length, b.body)
	}
}
