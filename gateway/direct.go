package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// directWriter is a ResponseWriter whose answer is read in the same process.
type directWriter struct {
	WriterBase
	ctx       context.Context
	cancel    context.CancelFunc
	req       Request
	pr        *io.PipeReader
	pw        *io.PipeWriter
	status    int
	sent      Header
	appStatus uint32
	early     error         // the handler failed before the head
	committed chan struct{} // closed when status, sent and early are settled
}

func newDirectWriter(ctx context.Context, r *Request) (*directWriter, error) {
	if _, err := send(r); err != nil {
		return nil, err
	}
	w := &directWriter{committed: make(chan struct{})}
	w.req.CopyFrom(r)
	if err := normalize(&w.req.Params.list); err != nil {
		return nil, err
	}
	w.ctx, w.cancel = context.WithCancel(ctx)
	w.pr, w.pw = io.Pipe()
	w.req.context = w
	return w, nil
}

// RequestContext is the context that the handler's request has.
func (w *directWriter) RequestContext() context.Context { return w.ctx }

func (w *directWriter) run(h Handler) {
	err := w.serve(h)
	switch {
	case err == nil:
		w.WriteHeader(200)
		w.pw.Close()
	case w.status != 0:
		w.pw.CloseWithError(&Error{Phase: PhaseBody, Sent: true, Received: true, Err: err})
	default:
		w.early = err
		close(w.committed)
	}
}

func (w *directWriter) serve(h Handler) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("gateway: handler panicked: %v", v)
		}
	}()
	return h.ServeGateway(w, &w.req)
}

func (w *directWriter) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	if status < 200 || status > 999 {
		status = 500
	}
	w.status = status
	w.sent.CopyFrom(w.Header())
	close(w.committed)
}

func (w *directWriter) Write(p []byte) (int, error) {
	w.WriteHeader(200)
	if len(p) == 0 {
		return 0, nil
	}
	return w.pw.Write(p)
}

func (w *directWriter) Flush() error {
	w.WriteHeader(200)
	return nil
}

func (w *directWriter) Stderr() io.Writer {
	if w.req.Stderr == nil {
		return io.Discard
	}
	return w.req.Stderr
}

func (w *directWriter) SetAppStatus(status uint32) { w.appStatus = status }

// directBody is the answer's Body.
type directBody struct {
	w   *directWriter
	res *Response
}

func (b *directBody) Read(p []byte) (int, error) {
	n, err := b.w.pr.Read(p)
	if err == io.EOF {
		b.res.AppStatus = b.w.appStatus
		b.w.cancel()
	}
	if errors.Is(err, io.ErrClosedPipe) {
		err = &Error{Phase: PhaseBody, Sent: true, Received: true, Err: err}
	}
	return n, err
}

func (b *directBody) Close() error {
	b.w.cancel()
	return b.w.pr.Close()
}
