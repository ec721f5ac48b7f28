// Package reply is an answer as a handler makes it, whatever the protocol: a head that is settled once, and a body that
// keeps what the head promised.
package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync/atomic"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/grammar"
)

// Errors of a handler, or of what it left behind.
var (
	ErrOver  = errors.New("gateway: used after the handler returned")
	ErrGone  = errors.New("gateway: handler ended its goroutine") // runtime.Goexit
	ErrPanic = errors.New("gateway: handler panicked")
	ErrLong  = errors.New("gateway: body longer than the Content-Length of its head")
	ErrShort = fmt.Errorf("gateway: body shorter than the Content-Length of its head: %w", io.ErrUnexpectedEOF)
)

// Response is an answer that is being made.
type Response struct {
	Res       *gateway.Response // the head
	Committed bool              // the head is settled
	Written   int64             // bytes of the body
	Failed    error             // why the answer cannot go on
}

// AppendHead writes a head: gateway.AppendResponse or AppendHTTPResponse.
type AppendHead func(dst []byte, res *gateway.Response) ([]byte, error)

// Commit settles the head and appends it to dst. It must not be called twice.
func (a *Response) Commit(dst []byte, status int, head AppendHead) ([]byte, error) {
	a.Committed = true
	if status < 200 || status > 999 {
		a.Failed = fmt.Errorf("gateway: WriteHeader(%d)", status)
		return dst, a.Failed
	}
	a.Res.Status = status
	a.Res.ContentLength, a.Failed = contentLength(&a.Res.Header)
	if a.Failed != nil {
		return dst, a.Failed
	}
	b, err := head(dst, a.Res)
	if err != nil {
		a.Failed = fmt.Errorf("gateway: answer: %v", err) // the handler's fault, a 500: no peer sent what is malformed
	}
	return b, a.Failed
}

// contentLength is what the handler promised; -1 if nothing.
func contentLength(h *gateway.Header) (int64, error) {
	v, ok := h.Lookup("Content-Length")
	if !ok {
		return -1, nil
	}
	n, ok := grammar.Decimal(v)
	if !ok {
		return -1, errors.New("gateway: the handler's Content-Length is no number")
	}
	return n, nil
}

// Add counts n bytes of body, if the head allows them.
func (a *Response) Add(n int) error {
	if a.Res.ContentLength >= 0 && a.Written+int64(n) > a.Res.ContentLength {
		return ErrLong
	}
	a.Written += int64(n)
	return nil
}

// Short reports whether the body of the answer to r lacks bytes that its head promised.
func (a *Response) Short(r *gateway.Request) bool {
	if a.Res.ContentLength < 0 || a.Written == a.Res.ContentLength || a.Res.Status == 304 || a.Res.Status == 204 {
		return false
	}
	method, _ := r.Params.Lookup("REQUEST_METHOD")
	return string(method) != "HEAD"
}

// Replace takes back what has not left, so that the head can be settled again, with the status for err.
func (a *Response) Replace(err error) (status int) {
	a.Committed, a.Failed = false, nil
	a.Res.Header.Reset()
	return gateway.ErrorStatus(err)
}

// Reset makes a ready for the answer that res will hold.
func (a *Response) Reset(res *gateway.Response) { *a = Response{Res: res} }

// CallHandler calls h; a panic becomes ErrPanic.
func CallHandler(h gateway.Handler, w gateway.ResponseWriter, r *gateway.Request, logger func() *slog.Logger) (err error) {
	defer func() {
		if v := recover(); v != nil {
			logger().Error("handler panicked", "panic", v, "stack", string(debug.Stack()))
			err = ErrPanic
		}
	}()
	return h.ServeGateway(w, r)
}

// WarnLarge says once that a head is larger than nginx takes by default.
func WarnLarge(n int, warned *atomic.Bool, logger func() *slog.Logger) {
	if n > 4096 && warned.CompareAndSwap(false, true) {
		logger().Warn("an answer's head is larger than nginx takes by default (4096 bytes)", "bytes", n)
	}
}
