package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

// The tests here hold single lines: each was written because the line could be taken out and
// nothing failed.

// spooled are the temporary files that this process has open, with a name or without.
func spooled(t *testing.T) (n int) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc/self/fd")
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if name, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name())); err == nil && strings.Contains(name, "gatehouse-body-") {
			n++
		}
	}
	return n
}

// closer is a body that tells when it is closed.
type closer struct {
	io.Reader
	closed int
}

func (c *closer) Close() error { c.closed++; return nil }

// backend responds with res and body, whatever it is asked.
func backend(status int, body io.ReadCloser, fields ...string) gateway.RoundTripper {
	return gateway.RoundTripperFunc(func(_ context.Context, _ *gateway.Request, res *gateway.Response) error {
		res.Reset()
		res.Status, res.ContentLength, res.Body = status, -1, body
		for i := 0; i < len(fields); i += 2 {
			res.Header.Add(fields[i], fields[i+1])
		}
		return nil
	})
}

func TestSpoolLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	open := func(s *gateway.Spool, body io.Reader) error {
		s.Dir, s.MaxMemory = dir, 4
		r := gatewaytest.NewRequest("POST", "/", nil)
		r.Body, r.ContentLength = body, -1
		return s.RoundTrip(t.Context(), r, new(gateway.Response))
	}
	long := func() io.Reader { return strings.NewReader("longer than memory") }
	fails := gateway.RoundTripperFunc(func(context.Context, *gateway.Request, *gateway.Response) error { return io.ErrClosedPipe })
	for name, f := range map[string]func() error{
		"a backend that fails": func() error { return open(&gateway.Spool{Backend: fails}, long()) },
		"a body that fails": func() error {
			return open(&gateway.Spool{Backend: fails}, io.MultiReader(long(), iotest.ErrReader(io.ErrNoProgress)))
		},
		"a body too large": func() error { return open(&gateway.Spool{Backend: fails, MaxBytes: 10}, long()) },
	} {
		if err := f(); err == nil || spooled(t) > 0 {
			t.Errorf("%s: %v, %d files open", name, err, spooled(t))
		}
	}
	body := &closer{Reader: strings.NewReader("response")}
	named := 0
	b := gateway.RoundTripperFunc(func(_ context.Context, r *gateway.Request, res *gateway.Response) error {
		files, _ := os.ReadDir(dir)
		named = len(files)
		res.Status, res.Body = 200, body
		for range 2 {
			if b, err := io.ReadAll(r.Body); string(b) != "longer than memory" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
			r.Body, _ = r.GetBody()
		}
		return nil
	})
	var res gateway.Response
	s := &gateway.Spool{Backend: b, Dir: dir, MaxMemory: 4}
	r := gatewaytest.NewRequest("POST", "/", nil)
	r.Body, r.ContentLength = long(), -1
	if err := s.RoundTrip(t.Context(), r, &res); err != nil {
		t.Fatal(err)
	}
	if named > 0 || spooled(t) != 1 {
		t.Errorf("%d files with a name, %d open", named, spooled(t))
	}
	if res.Body.Close(); spooled(t) > 0 || body.closed != 1 {
		t.Errorf("%d files open, the response's body closed %d times", spooled(t), body.closed)
	}
}

// echoing responds with the ContentLength and the body.
var echoing = gateway.InProcess(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%d %s", r.ContentLength, b)
	return nil
}))

func TestSpool(t *testing.T) {
	for _, n := range []int{0, 9, 10, 11, 100, 101} {
		dir := t.TempDir()
		s := &gateway.Spool{Backend: echoing, MaxMemory: 10, MaxBytes: 100, Dir: dir}
		r := gatewaytest.NewRequest("POST", "/", nil)
		r.Body, r.ContentLength = iotest.HalfReader(strings.NewReader(strings.Repeat("b", n))), -1
		var res gateway.Response
		err := s.RoundTrip(t.Context(), r, &res)
		if n > 100 {
			wantError(t, err, gateway.ErrBodyTooLarge)
		} else if err != nil {
			t.Fatal(err)
		} else {
			b, err := io.ReadAll(res.Body)
			if want := fmt.Sprintf("%d %s", n, strings.Repeat("b", n)); err != nil || string(b) != want {
				t.Errorf("%d: %q, %v", n, b, err)
			}
			res.Body.Close()
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%d: %v is left", n, left)
		}
	}
	// A body that fails, a backend that fails, a context that ends: no file is left.
	dir := t.TempDir()
	failing := gateway.RoundTripperFunc(func(context.Context, *gateway.Request, *gateway.Response) error {
		return &gateway.Error{Phase: gateway.PhaseDial, Err: io.EOF}
	})
	s := &gateway.Spool{Backend: failing, MaxMemory: 1, Dir: dir}
	for _, body := range []io.Reader{strings.NewReader("long enough"), io.MultiReader(strings.NewReader("long"), iotest.ErrReader(io.ErrClosedPipe))} {
		r := gatewaytest.NewRequest("POST", "/", nil)
		r.Body, r.ContentLength = body, -1
		var res gateway.Response
		if err := s.RoundTrip(t.Context(), r, &res); err == nil {
			t.Error("no error")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := gatewaytest.NewRequest("POST", "/", nil)
	r.Body, r.ContentLength = strings.NewReader("x"), -1
	wantError(t, s.RoundTrip(ctx, r, new(gateway.Response)), context.Canceled)
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// received is a backend that keeps the request.
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
