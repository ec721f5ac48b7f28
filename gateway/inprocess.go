package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/internal/grammar"
	"github.com/gatehouse-go/gatehouse/internal/params"
)

// InProcess returns a RoundTripper that calls h in this process. It is the inverse of Proxy, for
// tests and for programs that choose between handlers and backends.
//
// h runs in its own goroutine, on a copy of the request to which the rules of a received head were
// applied. The context of the copy is done when ctx is done, or when the Body of the response has
// ended or is closed. After that, reads of the request's body fail and writes to Stderr are
// dropped. A request body shorter than its length is io.ErrUnexpectedEOF, and a shorter response
// body is ErrTruncated; bytes beyond a length are dropped. If h returns an error or panics before
// the head, RoundTrip fails; after that, Body does. Nothing is logged. Interim responses and
// upgrades are not supported.
func InProcess(h Handler) RoundTripper { return inProcess{h} }

type inProcess struct{ h Handler }

func (d inProcess) RoundTrip(ctx context.Context, r *Request, res *Response) error {
	res.Reset()
	if ctx.Err() != nil {
		return &Error{Phase: PhaseWait, Err: context.Cause(ctx)}
	}
	w, err := newInProcessWriter(ctx, r)
	if err != nil {
		return &Error{Phase: PhaseRequest, Err: err}
	}
	go w.run(d.h)
	select {
	case <-w.committed:
	case <-w.ctx.Done():
		w.end()
		return &Error{Phase: PhaseHead, Sent: true, Err: context.Cause(ctx)}
	}
	if w.early != nil {
		w.end()
		return &Error{Phase: PhaseHead, Sent: true, Err: w.early}
	}
	res.Status, res.ContentLength = w.sent.Status, w.sent.ContentLength
	res.Header.CopyFrom(&w.sent.Header)
	b := &inProcessBody{w: w, res: res, left: res.ContentLength}
	if r.Method() == "HEAD" || res.Status == 204 || res.Status == 304 {
		b.left, b.bodyless = -1, true
	}
	b.stop = context.AfterFunc(ctx, func() { w.pw.CloseWithError(context.Cause(ctx)) })
	res.Body = b
	return nil
}

// An inProcessWriter is a ResponseWriter whose response is read in the same process.
type inProcessWriter struct {
	WriterBase
	ctx       context.Context
	cancel    context.CancelFunc
	req       Request
	over      atomic.Bool // the request's body and STDERR are no longer the handler's
	input     sync.Mutex  // held by a Read of the body
	pr        *io.PipeReader
	pw        *io.PipeWriter
	sent      Response // the head; its Status is 0 until there is one
	appStatus uint32
	early     error         // why the handler failed before the head
	committed chan struct{} // closed when sent and early are settled
}

func newInProcessWriter(ctx context.Context, r *Request) (*inProcessWriter, error) {
	if _, err := params.Send(r.Params.list()); err != nil {
		return nil, err
	}
	w := &inProcessWriter{committed: make(chan struct{})}
	w.req.CopyFrom(r)
	if err := params.Normalize(w.req.Params.list()); err != nil {
		return nil, err
	}
	body, length := r.body()
	w.req.Body, w.req.ContentLength = NoBody, max(length, 0)
	if body != nil {
		w.req.Body, w.req.ContentLength = &inProcessInput{w: w, r: body, left: length}, length
	}
	if r.Data != nil {
		w.req.Data = &inProcessInput{w: w, r: r.Data, left: -1}
	}
	w.ctx, w.cancel = context.WithCancel(ctx)
	w.pr, w.pw = io.Pipe()
	w.req.context = w
	return w, nil
}

// An inProcessInput is the caller's body until the exchange is over. left is the number of bytes to
// come, or negative if it is unknown.
type inProcessInput struct {
	w    *inProcessWriter
	r    io.Reader
	left int64
}

func (i *inProcessInput) Read(p []byte) (int, error) {
	i.w.input.Lock()
	defer i.w.input.Unlock()
	if i.w.over.Load() {
		return 0, ErrAborted
	}
	if i.left < 0 {
		return i.r.Read(p)
	}
	if i.left == 0 {
		return 0, io.EOF
	}
	n, err := i.r.Read(p[:min(int64(len(p)), i.left)])
	i.left -= int64(n)
	if err == io.EOF && i.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// RequestContext returns the context of the handler's request.
func (w *inProcessWriter) RequestContext() context.Context { return w.ctx }

// end takes the caller's readers and writers from the handler.
func (w *inProcessWriter) end() {
	w.over.Store(true)
	w.cancel()
	w.pr.Close()
}

func (w *inProcessWriter) run(h Handler) {
	err := errors.New("gateway: handler ended its goroutine")
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("gateway: handler panicked: %v", v)
		}
		w.settle(err)
	}()
	err = h.ServeGateway(w, &w.req)
}

// settle ends the response.
func (w *inProcessWriter) settle(err error) {
	if err == nil {
		err = w.commit(200)
	}
	switch {
	case err == nil:
		w.pw.Close()
	case w.sent.Status != 0:
		w.pw.CloseWithError(bodyError(err))
	case w.early == nil:
		w.early = err
		close(w.committed)
	}
}

func (w *inProcessWriter) WriteHeader(status int) { w.commit(status) }

// commit settles the head, once, by the rules of a head that is written and read.
func (w *inProcessWriter) commit(status int) error {
	if w.sent.Status != 0 || w.early != nil {
		return w.early
	}
	var res Response
	res.Status, res.ContentLength = max(status, 0), -1
	res.Header.CopyFrom(w.Header())
	b, err := AppendResponse(nil, &res)
	if v, ok := w.Header().Lookup("Content-Length"); ok && err == nil {
		if res.ContentLength, ok = grammar.Decimal(v); !ok {
			err = fmt.Errorf("gateway: Content-Length: %w", ErrMalformed)
		} else {
			b, err = AppendResponse(nil, &res)
		}
	}
	if err == nil && status >= 200 {
		_, err = ConsumeResponse(b, &w.sent)
	}
	if err == nil && w.sent.Status == 0 {
		err = fmt.Errorf("gateway: WriteHeader(%d): %w", status, ErrMalformed)
	}
	if err != nil {
		w.sent.Reset()
		w.early = err
	}
	close(w.committed)
	return err
}

func (w *inProcessWriter) Write(p []byte) (int, error) {
	if err := w.commit(200); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := w.pw.Write(p)
	if err == io.ErrClosedPipe { // the response is no longer read
		err = ErrAborted
	}
	return n, err
}

func (w *inProcessWriter) Flush() error { return w.commit(200) }

func (w *inProcessWriter) Stderr() io.Writer { return inProcessStderr{w} }

type inProcessStderr struct{ w *inProcessWriter }

func (s inProcessStderr) Write(p []byte) (int, error) {
	if s.w.req.Stderr == nil || s.w.over.Load() {
		return len(p), nil
	}
	return s.w.req.Stderr.Write(p)
}

func (w *inProcessWriter) SetAppStatus(status uint32) { w.appStatus = status }

// An inProcessBody is the Body of the response.
type inProcessBody struct {
	w    *inProcessWriter
	res  *Response
	left int64 // of the promised length; -1 if there is none
	stop func() bool

	bodyless bool // the response is to HEAD, or a 204 or 304
}

func (b *inProcessBody) Read(p []byte) (int, error) {
	n, err := b.w.pr.Read(p)
	if b.left >= 0 {
		n = int(min(int64(n), b.left)) // a longer body is cut
		b.left -= int64(n)
	}
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF && b.left > 0:
		err = bodyError(ErrTruncated)
	case err == io.EOF:
		b.res.AppStatus = b.w.appStatus
	default:
		err = bodyError(err)
	}
	b.stop()
	b.w.over.Store(true)
	b.w.cancel()
	return n, err
}

// bodyError returns err as an *Error.
func bodyError(err error) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return &Error{Phase: PhaseBody, Sent: true, Received: true, Err: err}
}

// Close ends the handler's context. If the response has no body, the handler may finish first.
func (b *inProcessBody) Close() error {
	if !b.stop() || !b.bodyless {
		b.w.end()
		return nil
	}
	b.w.over.Store(true)
	go func() {
		defer time.AfterFunc(finishTime, b.w.end).Stop()
		io.CopyN(io.Discard, b.w.pr, maxUnwanted)
		b.w.end()
	}()
	return nil
}

// Limits of what a handler may do after a response without a body was closed.
const (
	finishTime  = 5 * time.Second
	maxUnwanted = 256 << 10
)
