package gatewayhttp_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// An asking is a request through a Proxy whose body is sent piece by piece.
type asking struct {
	body   *io.PipeWriter
	called chan *gateway.Request // receives the request when the backend is called
	over   chan *httptest.ResponseRecorder
}

// ask sends a POST with a body of that length, -1 if it is unknown, to a backend that passes on
// what it reads to got.
func askPiecewise(ctx context.Context, m *gatewayhttp.Mapping, length int64, got chan<- string) *asking {
	pr, pw := io.Pipe()
	a := &asking{body: pw, called: make(chan *gateway.Request, 1), over: make(chan *httptest.ResponseRecorder, 1)}
	backend := gateway.RoundTripperFunc(func(_ context.Context, r *gateway.Request, res *gateway.Response) error {
		a.called <- r
		buf := make([]byte, 100)
		for r.Body != nil {
			n, err := r.Body.Read(buf)
			if n > 0 {
				got <- string(buf[:n])
			}
			if err != nil {
				break
			}
		}
		close(got)
		res.Reset()
		res.Status, res.Body = 200, http.NoBody
		return nil
	})
	r := httptest.NewRequest("POST", "/", pr).WithContext(ctx)
	r.ContentLength = length
	go func() {
		w := httptest.NewRecorder()
		(&gatewayhttp.Proxy{Backend: backend, Mapping: m}).ServeHTTP(w, r)
		a.over <- w
	}()
	return a
}

func (a *asking) notCalled(t *testing.T) {
	t.Helper()
	select {
	case <-a.called:
		t.Error("the backend was called")
	default:
	}
}

func TestBodyPolicies(t *testing.T) {
	whole := func(t *testing.T, policy gatewayhttp.BodyPolicy, length int64) {
		got := make(chan string, 10)
		a := askPiecewise(t.Context(), &gatewayhttp.Mapping{Body: policy}, length, got)
		for _, piece := range []string{"one", "two"} {
			io.WriteString(a.body, piece)
			a.notCalled(t)
		}
		a.body.Close()
		if r := <-a.called; r.ContentLength != 6 {
			t.Errorf("length %d", r.ContentLength)
		}
		var all strings.Builder
		for piece := range got {
			all.WriteString(piece)
		}
		if w := <-a.over; all.String() != "onetwo" || w.Code != 200 {
			t.Errorf("%q, %d", all.String(), w.Code)
		}
	}
	pieces := func(t *testing.T, policy gatewayhttp.BodyPolicy, length int64) {
		got := make(chan string)
		a := askPiecewise(t.Context(), &gatewayhttp.Mapping{Body: policy}, length, got)
		for _, piece := range []string{"one", "two"} {
			io.WriteString(a.body, piece)
			if arrived := <-got; arrived != piece {
				t.Errorf("%q arrived, %q was sent", arrived, piece)
			}
		}
		a.body.Close()
		<-a.over
	}
	t.Run("SpoolUnknownBody reads a body of unknown length first [449]", func(t *testing.T) { whole(t, gatewayhttp.SpoolUnknownBody, -1) })
	t.Run("SpoolUnknownBody passes one of known length on [449]", func(t *testing.T) { pieces(t, gatewayhttp.SpoolUnknownBody, 6) })
	t.Run("SpoolBody reads every body first [450]", func(t *testing.T) {
		whole(t, gatewayhttp.SpoolBody, 6)
		whole(t, gatewayhttp.SpoolBody, -1)
	})
	t.Run("StreamBody passes every body on [452]", func(t *testing.T) {
		pieces(t, gatewayhttp.StreamBody, 6)
		pieces(t, gatewayhttp.StreamBody, -1)
	})
	t.Run("RefuseUnknownBody [451]", func(t *testing.T) {
		a := askPiecewise(t.Context(), &gatewayhttp.Mapping{Body: gatewayhttp.RefuseUnknownBody}, -1, make(chan string))
		if w := <-a.over; w.Code != 411 {
			t.Errorf("status %d", w.Code)
		}
		a.notCalled(t)
		pieces(t, gatewayhttp.RefuseUnknownBody, 6)
	})
	t.Run("a length above Spool.MaxBytes [453]", func(t *testing.T) {
		m := &gatewayhttp.Mapping{Body: gatewayhttp.SpoolBody, Spool: gateway.Spool{MaxBytes: 5}}
		a := askPiecewise(t.Context(), m, 6, make(chan string)) // nothing is sent, so nothing can be read
		if w := <-a.over; w.Code != 413 {
			t.Errorf("status %d", w.Code)
		}
		a.notCalled(t)
	})
	t.Run("a client that leaves while its body is spooled [453]", func(t *testing.T) {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		m := &gatewayhttp.Mapping{Body: gatewayhttp.SpoolBody, Spool: gateway.Spool{Dir: dir, MaxMemory: 10}}
		a := askPiecewise(ctx, m, 1000, make(chan string))
		io.WriteString(a.body, strings.Repeat("x", 100))
		cancel()
		a.body.CloseWithError(context.Canceled)
		<-a.over
		a.notCalled(t)
		if files, err := os.ReadDir(dir); len(files) > 0 || err != nil {
			t.Errorf("%v is left, %v", files, err)
		}
	})
}

// TestStreamBodyOfUnknownLength checks what each protocol makes of it.
func TestStreamBodyOfUnknownLength(t *testing.T) {
	length := gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		body, err := io.ReadAll(r.Body)
		if _, sent := r.Params.Lookup("CONTENT_LENGTH"); sent {
			io.WriteString(w, "with a length: ")
		}
		w.Write(body)
		return err
	})
	chunked := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%v %d %s %v", r.TransferEncoding, r.ContentLength, body, err)
	}))
	defer chunked.Close()
	for name, c := range map[string]struct {
		backend gateway.RoundTripper
		status  int
		body    string
	}{
		"http":    {&gatewayhttp.Client{Addr: chunked.Listener.Addr().String()}, 200, "[chunked] -1 body <nil>"},
		"fastcgi": {&fastcgi.Client{Addr: gatewaytest.Start(t, &fastcgi.Server{Handler: length}), UnknownLength: true}, 200, "body"},
		"scgi":    {&scgi.Client{Addr: gatewaytest.Start(t, &scgi.Server{Handler: length})}, 411, "Length Required\n"},
		"uwsgi":   {&uwsgi.Client{Addr: gatewaytest.Start(t, &uwsgi.Server{Handler: length})}, 411, "Length Required\n"},
	} {
		t.Run(name+" [452]", func(t *testing.T) {
			r := httptest.NewRequest("POST", "/", struct{ io.Reader }{strings.NewReader("body")})
			w := httptest.NewRecorder()
			(&gatewayhttp.Proxy{Backend: c.backend, Mapping: &gatewayhttp.Mapping{Body: gatewayhttp.StreamBody}}).ServeHTTP(w, r)
			if w.Code != c.status || w.Body.String() != c.body {
				t.Errorf("%d %q", w.Code, w.Body)
			}
		})
	}
}
