package server

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/params"
)

// plain is a Framer and an Owner without frames.
type plain struct {
	Unframed
	r *Response
}

func (p *plain) Acquire() (*Response, error) { p.r.Lock(); return p.r, nil }

func (p *plain) Send(b []byte) (int, error) {
	if err := p.r.Out.Flush(); err != nil {
		return 0, err
	}
	p.r.Out.B = append(p.r.Out.B, b...)
	return len(b), p.r.Out.Flush()
}

// respond runs a handler and returns the bytes that were sent, and whether the response must be
// cut.
func respond(t *testing.T, method string, f func(w *ResponseWriter) error) (sent string, cut bool) {
	t.Helper()
	var dst bytes.Buffer
	p := &plain{r: new(Response)}
	w := &ResponseWriter{Owner: p}
	p.r.Out.Reset(&dst)
	p.r.Reset(&w.Head, p, &Common{
		SendInterim: true, AppendHead: gateway.AppendResponse,
		Logger: func() *slog.Logger { return slog.New(slog.DiscardHandler) },
	})
	var req gateway.Request
	req.Params.Set("REQUEST_METHOD", method)
	err := f(w)
	p.r.Lock()
	defer p.r.Unlock()
	if cut = p.r.Complete(&req, err); !cut {
		p.r.Out.Flush()
	}
	return dst.String(), cut
}

func TestResponse(t *testing.T) {
	failed := errors.New("failed")
	write := func(w *ResponseWriter, s string) error { _, err := w.WriteString(s); return err }
	for _, c := range []struct {
		name, method string
		handler      func(w *ResponseWriter) error
		sent         string
		cut          bool
	}{
		{"nothing is written [F38]", "GET", func(w *ResponseWriter) error { return nil }, "Status: 200 OK\r\n\r\n", false},
		{"a body", "GET", func(w *ResponseWriter) error { return write(w, "hello") }, "Status: 200 OK\r\n\r\nhello", false},
		{"an error before output", "GET", func(w *ResponseWriter) error { write(w, "lost"); return failed },
			"Status: 500 Internal Server Error\r\n\r\n", false},
		{"an error after output", "GET", func(w *ResponseWriter) error { write(w, "sent"); w.Flush(); return failed },
			"Status: 200 OK\r\n\r\nsent", true},
		{"a body shorter than Content-Length [268]", "GET", func(w *ResponseWriter) error {
			w.Header().Set("Content-Length", "9")
			return write(w, "short")
		}, "Status: 500 Internal Server Error\r\n\r\n", false},
		{"a body longer than Content-Length [268]", "GET", func(w *ResponseWriter) error {
			w.Header().Set("Content-Length", "1")
			if err := write(w, "long"); !errors.Is(err, params.ErrLongBody) {
				t.Errorf("Write: %v", err)
			}
			return nil
		}, "Status: 500 Internal Server Error\r\n\r\n", false},
		{"HEAD [271]", "HEAD", func(w *ResponseWriter) error {
			w.Header().Set("Content-Length", "9")
			return nil
		}, "Status: 200 OK\r\nContent-Length: 9\r\n\r\n", false},
		{"an interim response [269]", "GET", func(w *ResponseWriter) error { return w.WriteInterim(103, new(gateway.Header)) },
			"Status: 103 Early Hints\r\n\r\nStatus: 200 OK\r\n\r\n", false},
		{"an error after an interim response", "GET", func(w *ResponseWriter) error {
			w.WriteInterim(103, new(gateway.Header))
			return failed
		}, "Status: 103 Early Hints\r\n\r\nStatus: 500 Internal Server Error\r\n\r\n", false},
		{"a 1xx is not a final status [269 F30]", "GET", func(w *ResponseWriter) error { w.WriteHeader(100); return nil },
			"Status: 500 Internal Server Error\r\n\r\n", false},
		{"a field with a control byte [264 F18]", "GET", func(w *ResponseWriter) error {
			w.Header().Set("A", "b\nc")
			return write(w, "x")
		}, "Status: 500 Internal Server Error\r\n\r\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if sent, cut := respond(t, c.method, c.handler); sent != c.sent || cut != c.cut {
				t.Errorf("%q, cut: %v\nwant %q, cut: %v", sent, cut, c.sent, c.cut)
			}
		})
	}
}
