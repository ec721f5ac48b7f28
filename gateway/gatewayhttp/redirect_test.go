package gatewayhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
)

// TestLocalRedirect is items 228 and 229.
func TestLocalRedirect(t *testing.T) {
	loops := 0
	app := gateway.RoundTripperFunc(func(_ context.Context, r *gateway.Request, res *gateway.Response) error {
		head, body := "", ""
		switch r.PathInfo() {
		case "/local":
			head = "Location: /target?q=1\r\n\r\n"
		case "/fields":
			head = "Location: /target\r\nX: 1\r\n\r\n"
		case "/status":
			head = "Status: 302 Found\r\nLocation: /target\r\n\r\n"
		case "/body":
			head, body = "Location: /target\r\n\r\n", "a body"
		case "/loop":
			loops++
			head = "Location: /loop\r\n\r\n"
		case "/away":
			head = "Location: //host/x\r\n\r\n"
		case "/unclean":
			head = "Location: /a/../b\r\n\r\n"
		default:
			head, body = "Status: 200\r\n\r\n", fmt.Sprintf("%s %s %s %d %v", r.Method(), r.PathInfo(), r.Query(), r.ContentLength, r.Body != nil)
		}
		_, err := gateway.ConsumeResponse([]byte(head), res)
		res.Body = io.NopCloser(strings.NewReader(body))
		return err
	})
	p := &gatewayhttp.Proxy{Backend: app, Logger: quiet}
	ask := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader("sent")))
		return w
	}
	if w := ask("POST", "/local"); w.Code != 302 || w.Header().Get("Location") != "/target?q=1" {
		t.Errorf("228 off: %d %v", w.Code, w.Header())
	}
	p.LocalRedirect = p
	for path, want := range map[string]string{
		"/local": "200 GET /target q=1 0 false", "/fields": "302 ", "/status": "302 ", "/body": "302 a body",
		"/loop": "500 Internal Server Error\n", "/away": "502 Bad Gateway\n", "/unclean": "502 Bad Gateway\n",
	} {
		t.Run(path+" [228 229 F27]", func(t *testing.T) {
			if w := ask("POST", path); fmt.Sprint(w.Code, " ", w.Body.String()) != want {
				t.Errorf("%d %q", w.Code, w.Body.String())
			}
			if path == "/loop" && loops != 11 {
				t.Errorf("asked %d times", loops)
			}
		})
	}
}

// once is a Body that returns its error once, and then io.EOF.
type once struct {
	text string
	err  error
}

func (o *once) Read(p []byte) (int, error) {
	n := copy(p, o.text)
	o.text = o.text[n:]
	if n > 0 {
		return n, nil
	}
	err := o.err
	o.err = io.EOF
	return 0, err
}

func (o *once) Close() error { return nil }

// TestRedirectWithTruncatedBody checks that an error of a body that was read ahead is not lost.
func TestRedirectWithTruncatedBody(t *testing.T) {
	backend := gateway.RoundTripperFunc(func(_ context.Context, _ *gateway.Request, res *gateway.Response) error {
		res.Status, res.ContentLength, res.LocalRedirect = 302, -1, true
		res.Header.Set("Location", "/next")
		res.Body = &once{"half", errors.New("broken")}
		return nil
	})
	srv := httptest.NewServer(&gatewayhttp.Proxy{
		Backend: backend, LocalRedirect: http.NotFoundHandler(), Logger: slog.New(slog.DiscardHandler),
	})
	defer srv.Close()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("%q passes as a complete response", b)
	}
}
