package gatewayhttp_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
)

// sender is a Proxy with SendFile of a folder, before a backend that responds with these fields.
func sender(t *testing.T, status int, fields ...string) (p *gatewayhttp.Proxy, read, closed *atomic.Int64) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/a b.txt", []byte("0123456789"), 0o644); err != nil {
		t.Fatal(err)
	}
	read, closed = new(atomic.Int64), new(atomic.Int64)
	return &gatewayhttp.Proxy{
		Logger: quiet, SendFile: http.StripPrefix("/private", http.FileServerFS(os.DirFS(dir))),
		Backend: gateway.RoundTripperFunc(func(_ context.Context, _ *gateway.Request, res *gateway.Response) error {
			res.Reset()
			res.Status, res.ContentLength = status, 5
			for i := 0; i < len(fields); i += 2 {
				res.Header.Add(fields[i], fields[i+1])
			}
			res.Body = struct {
				io.Reader
				io.Closer
			}{io.TeeReader(strings.NewReader("small"), countWriter{read}), closerFunc(func() error { closed.Add(1); return nil })}
			return nil
		}),
	}, read, closed
}

type countWriter struct{ n *atomic.Int64 }

func (c countWriter) Write(p []byte) (int, error) { c.n.Add(int64(len(p))); return len(p), nil }

type closerFunc func() error

func (f closerFunc) Close() error { return f() }

func TestSendFile(t *testing.T) {
	application := []string{"Content-Type", "text/csv", "Content-Disposition", "attachment", "Set-Cookie", "a=1", "Cache-Control", "private",
		"Content-Length", "5", "Content-Encoding", "gzip", "ETag", `"x"`, "Last-Modified", "x", "Accept-Ranges", "none"}
	for name, field := range map[string][2]string{
		"X-Accel-Redirect [441 443]": {"X-Accel-Redirect", "/private/a%20b.txt?x=1"},
		"X-Sendfile [441 443]":       {"X-Sendfile", "/private/a b.txt"},
	} {
		t.Run(name, func(t *testing.T) {
			p, read, closed := sender(t, 200, append(application, field[0], field[1])...)
			w := fetchFrom(p, "GET", "/download")
			h := w.Header()
			if w.Code != 200 || w.Body.String() != "0123456789" || h.Get("Content-Type") != "text/csv" || h.Get("Content-Disposition") != "attachment" ||
				h.Get("Set-Cookie") != "a=1" || h.Get("Content-Length") != "10" || h.Get("Content-Encoding") != "" || h.Get("ETag") != "" || h.Get("Accept-Ranges") != "bytes" ||
				h.Get(field[0]) != "" {
				t.Errorf("%d %q %v", w.Code, w.Body, h)
			}
			if read.Load() != 5 || closed.Load() != 1 {
				t.Errorf("%d bytes of the application's body were read, closed %d times", read.Load(), closed.Load())
			}
			if w := fetchFrom(p, "GET", "/", "Range", "bytes=2-3"); w.Code != 206 || w.Body.String() != "23" {
				t.Errorf("%d %q", w.Code, w.Body)
			}
			if w := fetchFrom(p, "HEAD", "/"); w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Length") != "10" {
				t.Errorf("%d %q", w.Code, w.Body)
			}
			if w := fetchFrom(p, "POST", "/"); w.Code != 200 || w.Body.String() != "0123456789" {
				t.Errorf("%d %q", w.Code, w.Body)
			}
		})
	}
	t.Run("of a 302 [442 F63]", func(t *testing.T) {
		p, _, _ := sender(t, 302, "Location", "/x", "X-Accel-Redirect", "/private/a%20b.txt")
		if w := fetchFrom(p, "GET", "/"); w.Code != 302 || strings.Contains(w.Body.String(), "0123") || w.Header().Get("X-Accel-Redirect") != "" {
			t.Errorf("%d %q", w.Code, w.Body)
		}
	})
	t.Run("of a request [442]", func(t *testing.T) {
		p, _, _ := sender(t, 200)
		if w := fetchFrom(p, "GET", "/", "X-Accel-Redirect", "/private/a%20b.txt", "X-Sendfile", "/private/a b.txt"); w.Body.String() != "small" {
			t.Errorf("%d %q", w.Code, w.Body)
		}
	})
	t.Run("of the handler itself [442]", func(t *testing.T) {
		p, _, _ := sender(t, 200, "X-Sendfile", "/x")
		p.SendFile = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/x" || len(r.Header) != 0 || r.URL.RawQuery != "" {
				t.Errorf("%v %v", r.URL, r.Header)
			}
			w.Header().Set("X-Sendfile", "/private/a b.txt")
			io.WriteString(w, "its own")
		})
		if w := fetchFrom(p, "GET", "/?q", "Cookie", "a=1"); w.Body.String() != "its own" {
			t.Errorf("%d %q", w.Code, w.Body)
		}
	})
	t.Run("without SendFile [442]", func(t *testing.T) {
		p, _, _ := sender(t, 200, "X-Accel-Redirect", "/private/a%20b.txt")
		p.SendFile = nil
		if w := fetchFrom(p, "GET", "/"); w.Body.String() != "small" || w.Header().Get("X-Accel-Redirect") != "" {
			t.Errorf("%d %q", w.Code, w.Body)
		}
	})
	t.Run("no path", func(t *testing.T) {
		for _, value := range []string{"private/x", "%zz", ""} {
			p, _, _ := sender(t, 200, "X-Accel-Redirect", value)
			if w := fetchFrom(p, "GET", "/"); w.Code != 502 {
				t.Errorf("%q: %d %q", value, w.Code, w.Body)
			}
		}
	})
	t.Run("a file that is missing", func(t *testing.T) {
		p, _, _ := sender(t, 200, "X-Accel-Redirect", "/private/../../etc/passwd")
		if w := fetchFrom(p, "GET", "/"); w.Code < 400 {
			t.Errorf("%d %q", w.Code, w.Body)
		}
	})
}
