package gatewayhttp_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
)

// A slowClient is a ResponseWriter whose Writes wait until it is released.
type slowClient struct {
	*httptest.ResponseRecorder
	release chan struct{}
}

func (s *slowClient) Write(p []byte) (int, error) {
	<-s.release
	return s.ResponseRecorder.Write(p)
}

// A watchedBody counts what is read and notes its Close.
type watchedBody struct {
	io.Reader
	read   atomic.Int64
	closed atomic.Int64 // calls of Close
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.read.Add(int64(n))
	return n, err
}

func (b *watchedBody) Close() error { b.closed.Add(1); return nil }

func responding(body io.ReadCloser, length int64) gateway.RoundTripper {
	return gateway.RoundTripperFunc(func(_ context.Context, _ *gateway.Request, res *gateway.Response) error {
		res.Reset()
		res.Status, res.ContentLength, res.Body = 200, length, body
		return nil
	})
}

func TestReadAhead(t *testing.T) {
	content := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{1}).Read(content)
	// ahead passes body to a client that takes nothing until the backend has got as far as it can.
	ahead := func(t *testing.T, p *gatewayhttp.Proxy, body *watchedBody, stuck func()) *slowClient {
		w := &slowClient{httptest.NewRecorder(), make(chan struct{})}
		synctest.Test(t, func(t *testing.T) {
			p.Backend = responding(body, -1)
			w.release = make(chan struct{})
			over := make(chan any, 1)
			go func() {
				defer func() { over <- recover() }()
				p.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			}()
			synctest.Wait()
			stuck()
			close(w.release)
			if v := <-over; v != nil && v != http.ErrAbortHandler {
				panic(v)
			}
		})
		return w
	}
	t.Run("the backend is free when it has written", func(t *testing.T) {
		for _, size := range []int{1, 1000, 64 << 10, 64<<10 + 1, len(content)} {
			dir := t.TempDir()
			body := &watchedBody{Reader: bytes.NewReader(content[:size])}
			p := &gatewayhttp.Proxy{ReadAhead: 4 << 20, Mapping: &gatewayhttp.Mapping{Spool: gateway.Spool{Dir: dir}}}
			w := ahead(t, p, body, func() {
				if body.closed.Load() == 0 {
					t.Errorf("%d bytes: the body is still open", size)
				}
			})
			if n := body.closed.Load(); n != 1 {
				t.Errorf("%d bytes: closed %d times", size, n)
			}
			if sha256.Sum256(w.Body.Bytes()) != sha256.Sum256(content[:size]) {
				t.Errorf("%d bytes: the client received %d others", size, w.Body.Len())
			}
			if files, err := os.ReadDir(dir); len(files) > 0 || err != nil {
				t.Errorf("%v, %v is left", files, err)
			}
		}
	})
	t.Run("no more than the bound is read ahead", func(t *testing.T) {
		for _, most := range []int64{1000, 64 << 10, 100_000, 1 << 20} {
			body := &watchedBody{Reader: bytes.NewReader(content)}
			w := ahead(t, &gatewayhttp.Proxy{ReadAhead: most}, body, func() {
				// Besides what is buffered, one piece is on its way to the client.
				if read := body.read.Load(); read > most+32<<10 || read < most {
					t.Errorf("%d bytes were read ahead, the bound is %d", read, most)
				}
			})
			if !bytes.Equal(w.Body.Bytes(), content) {
				t.Errorf("bound %d: the client received %d other bytes", most, w.Body.Len())
			}
		}
	})
	t.Run("nothing is read ahead by default", func(t *testing.T) {
		body := &watchedBody{Reader: bytes.NewReader(content)}
		ahead(t, &gatewayhttp.Proxy{}, body, func() {
			if read := body.read.Load(); read > 32<<10 {
				t.Errorf("%d bytes were read", read)
			}
		})
	})
	t.Run("a file that cannot be written makes the backend wait", func(t *testing.T) {
		body := &watchedBody{Reader: bytes.NewReader(content)}
		p := &gatewayhttp.Proxy{ReadAhead: 4 << 20, Mapping: &gatewayhttp.Mapping{Spool: gateway.Spool{Dir: t.TempDir() + "/missing"}}}
		w := ahead(t, p, body, func() {
			if read := body.read.Load(); read > 160<<10 {
				t.Errorf("%d bytes were read", read)
			}
		})
		if !bytes.Equal(w.Body.Bytes(), content) {
			t.Errorf("the client received %d other bytes", w.Body.Len())
		}
	})
	t.Run("a truncated response is cut after what has arrived", func(t *testing.T) {
		broken := errors.New("broken")
		body := &watchedBody{Reader: io.MultiReader(bytes.NewReader(content[:100_000]), iotest.ErrReader(broken))}
		w := ahead(t, &gatewayhttp.Proxy{ReadAhead: 1 << 20}, body, func() {})
		if !bytes.Equal(w.Body.Bytes(), content[:100_000]) {
			t.Errorf("%d bytes", w.Body.Len())
		}
	})
	t.Run("a client that leaves ends the reading", func(t *testing.T) {
		pr, pw := io.Pipe()
		closed := make(chan struct{})
		once := sync.OnceFunc(func() { close(closed) })
		body := struct {
			io.Reader
			io.Closer
		}{pr, closer(func() error { pr.Close(); once(); return nil })}
		p := &gatewayhttp.Proxy{Backend: responding(body, -1), ReadAhead: 1 << 20}
		web := httptest.NewServer(p)
		defer web.Close()
		ctx, cancel := context.WithCancel(t.Context())
		go pw.Write([]byte("piece"))
		r, _ := http.NewRequestWithContext(ctx, "GET", web.URL, nil)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if b := make([]byte, 5); true {
			if _, err := io.ReadFull(res.Body, b); string(b) != "piece" {
				t.Errorf("%q, %v", b, err) // it was sent on at once
			}
		}
		cancel()
		res.Body.Close()
		for range 1000 { // until a write to the client fails
			if _, err := pw.Write([]byte(strings.Repeat("x", 64<<10))); err != nil {
				break
			}
		}
		<-closed
	})
}

type closer func() error

func (c closer) Close() error { return c() }

// TestReadAheadPanics checks that a panic of the backend, in the goroutine that reads ahead, cuts
// the response and does not end the process.
func TestReadAheadPanics(t *testing.T) {
	p := &gatewayhttp.Proxy{Logger: quiet, ReadAhead: 1 << 20, Backend: responding(io.NopCloser(readerFunc(func([]byte) (int, error) { panic("of the backend") })), -1)}
	defer func() {
		if v := recover(); v != http.ErrAbortHandler {
			t.Errorf("recovered %v", v)
		}
	}()
	p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
