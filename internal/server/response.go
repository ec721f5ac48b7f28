package server

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/grammar"
	"github.com/gatehouse-go/gatehouse/internal/params"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// usualHead is the number of bytes of a response head that nginx accepts by default.
const usualHead = 4096

// A Response is the response to one request as its handler makes it: a head, which is settled once,
// and a body of the length that the head states. The embedded mutex guards all of it.
type Response struct {
	sync.Mutex

	Out       stream.Output // what has not been sent yet
	AppStatus uint32        // of SetAppStatus

	head      *gateway.Response
	framer    Framer
	common    *Common
	committed bool  // the head is settled
	written   int64 // bytes of the body
	failed    error // why the response cannot go on
	reason    error // why it is not what the handler made; set by Complete
}

// A Framer encodes a response for its protocol. Its methods are called with the response locked.
// They write to the response's Out.
type Framer interface {
	// Open makes Out ready for output and returns the offset at which the open piece of output
	// begins.
	Open() int

	// Check returns an error if the web server no longer wants output.
	Check() error

	// Send writes Out, and p behind it. It returns how many bytes of p were written.
	Send(p []byte) (int, error)

	// Restart forgets the output in Out, none of which has been sent. cause is why.
	Restart(cause error)

	// AppendEnd appends the end of the response to Out.
	AppendEnd()
}

// Unframed is the part of a Framer and of an Owner that does nothing in a protocol whose output has
// no frames, and whose input and output are independent.
type Unframed struct{}

func (Unframed) BeforeOutput() error { return nil }
func (Unframed) Open() int           { return 0 }
func (Unframed) Check() error        { return nil }
func (Unframed) Restart(error)       {}
func (Unframed) AppendEnd()          {}

// Common is what the responses of one server have in common.
type Common struct {
	SendInterim bool                // the web server understands 1xx responses
	Logger      func() *slog.Logger // for what the handlers do wrong
	AppendHead  func(dst []byte, head *gateway.Response) ([]byte, error)

	warned atomic.Bool // a large head has been logged
}

// Reset makes r the response whose head is head. Out is not changed.
func (r *Response) Reset(head *gateway.Response, framer Framer, common *Common) {
	r.head, r.framer, r.common = head, framer, common
	r.committed, r.written, r.failed, r.reason, r.AppStatus = false, 0, nil, nil, 0
}

// Fail makes err the reason why the response cannot go on.
func (r *Response) Fail(err error) { r.failed, r.Out.Failed = err, err }

// commit settles the head and puts it into Out, once.
func (r *Response) commit(status int) error {
	if r.committed {
		return r.failed
	}
	r.committed = true
	r.failed = r.appendHead(status)
	return r.failed
}

func (r *Response) appendHead(status int) (err error) {
	if status < 200 || status > 999 {
		return fmt.Errorf("gateway: WriteHeader(%d): not a final status", status)
	}
	r.head.Status = status
	if r.head.ContentLength, err = contentLength(&r.head.Header); err != nil {
		return err
	}
	r.framer.Open()
	b, err := r.common.AppendHead(r.Out.B, r.head)
	if err != nil {
		return fmt.Errorf("gateway: response: %v", err) // the handler's fault, a 500: no peer sent something malformed
	}
	if n := len(b) - len(r.Out.B); n > usualHead && r.common.warned.CompareAndSwap(false, true) {
		r.common.Logger().Warn("response head larger than nginx accepts by default ("+strconv.Itoa(usualHead)+" bytes)", "bytes", n)
	}
	r.Out.B = b
	return nil
}

// contentLength returns the length that the handler promised, or -1.
func contentLength(h *gateway.Header) (int64, error) {
	v, ok := h.Lookup("Content-Length")
	if !ok {
		return -1, nil
	}
	n, ok := grammar.Decimal(v)
	if !ok {
		return -1, errors.New("gateway: the handler's Content-Length is not a number")
	}
	return n, nil
}

// mayWrite settles the head and counts n bytes of body, if the head allows them.
func (r *Response) mayWrite(n int) error {
	if err := r.framer.Check(); err != nil {
		return err
	}
	if err := r.commit(200); err != nil {
		return err
	}
	if promised := r.head.ContentLength; promised >= 0 && r.written+int64(n) > promised {
		return params.ErrLongBody
	}
	r.written += int64(n)
	return nil
}

// write gathers p, or sends it if it is large.
func write[S ~string | ~[]byte](r *Response, p S) (int, error) {
	if err := r.mayWrite(len(p)); err != nil {
		return 0, err
	}
	start := r.framer.Open()
	if len(r.Out.B)-start+len(p) <= stream.SmallBody {
		r.Out.B = append(r.Out.B, p...)
		return len(p), nil
	}
	return r.send([]byte(p))
}

func (r *Response) send(p []byte) (int, error) {
	n, err := r.framer.Send(p)
	if err != nil {
		r.failed = err
	}
	return n, err
}

func (r *Response) flush() error {
	if err := r.mayWrite(0); err != nil {
		return err
	}
	_, err := r.send(nil)
	return err
}

func (r *Response) interim(status int, header *gateway.Header) error {
	switch {
	case !r.common.SendInterim:
		return errors.ErrUnsupported
	case status < 100 || status > 199 || status == 101 || r.committed:
		return fmt.Errorf("gateway: interim status %d: %w", status, gateway.ErrMalformed)
	}
	head := gateway.Response{Status: status, ContentLength: -1}
	head.Header.CopyFrom(header)
	r.framer.Open()
	b, err := r.common.AppendHead(r.Out.B, &head)
	if err != nil {
		return err
	}
	r.Out.B = b
	if _, err := r.send(nil); err != nil {
		return err
	}
	r.Out.Sent.Store(false) // an interim response does not count as sent
	return nil
}

// Complete puts the end of the response to req into Out; err is what the handler returned. It
// returns true if the response must be cut instead, because output that was sent cannot be taken
// back.
func (r *Response) Complete(req *gateway.Request, err error) (cut bool) {
	if err == nil {
		err = r.failed
	}
	if err == nil {
		err = r.commit(200) // rule F38
	}
	if err == nil && r.short(req) {
		err = params.ErrShortBody
	}
	r.reason = err
	switch sent := r.Out.Sent.Load(); {
	case err == nil:
	case r.Out.Failed != nil, sent && r.framer.Check() == nil:
		LogRequest(r.common.Logger(), slog.LevelDebug, "response cut", req, slog.Any("error", err))
		return true
	case !sent:
		r.replace(req, err)
	}
	r.framer.AppendEnd()
	return false
}

// Outcome returns how the response ended. It is called after Complete, before the head is reset.
func (r *Response) Outcome() Outcome {
	out := Outcome{AppStatus: r.AppStatus, Sent: r.written, First: r.Out.First, Err: r.reason}
	if r.committed {
		out.Status = r.head.Status
	}
	return out
}

// short reports whether the body lacks bytes that the head promised.
func (r *Response) short(req *gateway.Request) bool {
	if r.head.ContentLength < 0 || r.written == r.head.ContentLength || r.head.Status == 304 || r.head.Status == 204 {
		return false
	}
	method, _ := req.Params.Lookup("REQUEST_METHOD")
	return string(method) != "HEAD"
}

// replace discards the response, of which nothing has been sent, and starts one with the status for
// err.
func (r *Response) replace(req *gateway.Request, err error) {
	status := gateway.ErrorStatus(err)
	if !errors.Is(err, gateway.ErrAborted) && !errors.Is(err, ErrPanic) { // a panic has its own record
		LogRequest(r.common.Logger(), LevelOf(status), "handler failed", req, slog.Int("status", status), slog.Any("error", err))
	}
	r.Out.B = r.Out.B[:0]
	r.framer.Restart(err)
	r.committed, r.failed = false, nil
	r.head.Header.Reset()
	r.commit(status)
}
