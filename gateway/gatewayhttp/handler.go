package gatewayhttp

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// Handler returns a gateway.Handler that calls h. A nil h means http.DefaultServeMux. The requests
// are those of NewRequest; Params returns their params.
//
// The ResponseWriter is an http.Flusher and supports http.ResponseController (Flush and deadlines).
// A response without a Content-Type gets that of http.DetectContentType, unless it is empty or has
// a Content-Encoding. A response to HEAD, or of status 204 or 304, has no body. A name that is not
// a token, or a value with a control byte, makes the response a 500. WriteHeader of a 1xx sends it
// if the server's SendInterim allows that.
//
// The fields Connection, Keep-Alive, Proxy-Connection, TE, Trailer, Transfer-Encoding, Upgrade and
// Status are not sent, since they belong to the web server. X-Accel-Redirect, X-Sendfile,
// X-Sendfile2, X-LIGHTTPD-send-file and X-Reproxy-URL are not sent either: a handler that echoes
// what it received would make them the client's orders. A gateway.Handler can send them.
//
// The ResponseWriter is an http.Hijacker for requests that ask for a WebSocket, if the server can
// hand over its connection (scgi and uwsgi). The handler must first write the head of an HTTP
// response to the connection, a 101 or a refusal, before it returns.
//
// A panic with http.ErrAbortHandler aborts the response; it is not logged.
func Handler(h http.Handler) gateway.Handler {
	if h == nil {
		h = http.DefaultServeMux
	}
	return handler{h}
}

type handler struct{ h http.Handler }

func (h handler) ServeGateway(w gateway.ResponseWriter, r *gateway.Request) error {
	in := new(incoming)
	hr, err := in.request(r.Context(), r)
	if err != nil {
		return err
	}
	defer in.ctx.params.end()
	in.writer = responseWriter{w: w, r: r, header: make(http.Header), head: hr.Method == http.MethodHead, length: -1}
	if err := in.writer.serve(h.h, hr); err != nil {
		return err
	}
	return in.writer.finish()
}

var errAbort = fmt.Errorf("gatewayhttp: handler aborted: %w", gateway.ErrAborted)

// A responseWriter is an http.ResponseWriter over a gateway.ResponseWriter.
type responseWriter struct {
	w       gateway.ResponseWriter
	r       *gateway.Request
	taken   *hijacked // by Hijack; nil if it was not called
	header  http.Header
	status  int   // 0 before WriteHeader
	typed   bool  // the handler set a Content-Type, or removed it
	sent    bool  // the head was passed to w
	head    bool  // the request is a HEAD
	length  int64 // the handler's Content-Length, or -1
	written int64
}

func (w *responseWriter) serve(h http.Handler, r *http.Request) (err error) {
	defer func() {
		if v := recover(); v == http.ErrAbortHandler {
			err = errAbort
		} else if v != nil {
			panic(v) // the server logs it
		}
	}()
	h.ServeHTTP(w, r)
	return nil
}

func (w *responseWriter) Header() http.Header { return w.header }

// WriteHeader takes the status and the header. A missing Content-Type is detected when the first
// bytes of the body are written.
func (w *responseWriter) WriteHeader(status int) {
	if status < 100 || status > 999 {
		panic(fmt.Sprintf("gatewayhttp: invalid WriteHeader code %d", status))
	}
	if w.status != 0 {
		return
	}
	if status < 200 {
		w.interim(status)
		return
	}
	w.status = status
	_, w.typed = w.header["Content-Type"]
	w.length = -1
	if v := w.header["Content-Length"]; len(v) > 0 {
		if n, err := strconv.ParseUint(v[0], 10, 63); err == nil {
			w.length = int64(n)
		} else {
			delete(w.header, "Content-Length") // as net/http does
		}
	}
	copyFields(w.w.Header(), w.header)
}

// interim sends a 1xx. The web server sends 100 itself, and 101 is sent by Hijack.
func (w *responseWriter) interim(status int) {
	if status == http.StatusContinue || status == http.StatusSwitchingProtocols {
		return
	}
	var h gateway.Header
	copyFields(&h, w.header)
	w.w.WriteInterim(status, &h)
}

func copyFields(dst *gateway.Header, src http.Header) {
	for name, values := range src {
		if notSent(http.CanonicalHeaderKey(name)) || strings.HasPrefix(name, http.TrailerPrefix) {
			continue
		}
		for _, v := range values {
			dst.Add(name, v)
		}
	}
}

// notSent reports whether a field of a handler is not sent.
func notSent(name string) bool {
	switch name {
	case "Status", "X-Accel-Redirect", "X-Sendfile", "X-Sendfile2", "X-Lighttpd-Send-File", "X-Reproxy-Url":
		return true
	case "Proxy-Authenticate":
		return false
	}
	return hopByHop(name)
}

// commit passes the head to the gateway's writer. p is the beginning of the body, nil if there is
// none.
func (w *responseWriter) commit(p []byte) {
	if w.sent {
		return
	}
	w.WriteHeader(http.StatusOK)
	w.sent = true
	h := w.w.Header()
	_, coded := h.Lookup("Content-Encoding")
	if len(p) > 0 && !w.typed && !coded && bodyAllowed(w.status) {
		h.Set("Content-Type", http.DetectContentType(p)) // rule F25
	}
	w.w.WriteHeader(w.status)
}

// admit decides whether n bytes of body may be written.
func (w *responseWriter) admit(n int) error {
	if w.taken != nil {
		return http.ErrHijacked
	}
	w.WriteHeader(http.StatusOK)
	if !bodyAllowed(w.status) {
		return http.ErrBodyNotAllowed
	}
	if w.length >= 0 && w.written+int64(n) > w.length {
		return http.ErrContentLength
	}
	w.written += int64(n)
	return nil
}

func (w *responseWriter) Write(p []byte) (int, error) {
	if err := w.admit(len(p)); err != nil {
		return 0, err
	}
	w.commit(p)
	if w.head {
		return len(p), nil
	}
	return w.w.Write(p)
}

func (w *responseWriter) WriteString(s string) (int, error) {
	if !w.sent {
		return w.Write([]byte(s)) // its beginning determines the type
	}
	if err := w.admit(len(s)); err != nil {
		return 0, err
	}
	if w.head {
		return len(s), nil
	}
	return io.WriteString(w.w, s)
}

// Flush sends the buffered data, and the head if it was not sent.
func (w *responseWriter) Flush() { w.FlushError() }

func (w *responseWriter) FlushError() error {
	if w.taken != nil {
		return http.ErrHijacked
	}
	w.commit(nil)
	return w.w.Flush()
}

func (w *responseWriter) SetReadDeadline(t time.Time) error  { return w.w.SetReadDeadline(t) }
func (w *responseWriter) SetWriteDeadline(t time.Time) error { return w.w.SetWriteDeadline(t) }

// EnableFullDuplex does nothing: reading the request and writing the response are independent.
func (w *responseWriter) EnableFullDuplex() error { return nil }

// finish ends the response. A body that is shorter than its Content-Length cuts it.
func (w *responseWriter) finish() error {
	if w.taken != nil {
		return w.taken.finish()
	}
	w.commit(nil)
	if w.length > w.written && !w.head && bodyAllowed(w.status) {
		return errors.New("gatewayhttp: body shorter than its Content-Length")
	}
	return nil
}
