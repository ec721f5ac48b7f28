package server

import (
	"io"
	"sync"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// A ResponseWriter is the part of a gateway.ResponseWriter that is the same in every protocol. A
// type that embeds it adds Stderr, the deadlines, and Hijack where there is one.
type ResponseWriter struct {
	gateway.WriterBase

	Owner Owner
	Head  gateway.Response // what WriteHeader will send
}

// An Owner gives a ResponseWriter access to the Response, for as long as the handler runs.
type Owner interface {
	// Acquire locks the response. It returns an error if the request is over.
	Acquire() (*Response, error)

	// BeforeOutput is called before the body is written, with the response unlocked.
	BeforeOutput() error
}

// Header returns the fields that WriteHeader will send.
func (w *ResponseWriter) Header() *gateway.Header { return &w.Head.Header }

// WriteHeader settles the head.
func (w *ResponseWriter) WriteHeader(status int) {
	if r, err := w.Owner.Acquire(); err == nil {
		defer r.Unlock()
		r.commit(status)
	}
}

// WriteInterim sends a 1xx response.
func (w *ResponseWriter) WriteInterim(status int, h *gateway.Header) error {
	r, err := w.Owner.Acquire()
	if err != nil {
		return err
	}
	defer r.Unlock()
	return r.interim(status, h)
}

// output locks the response for output.
func (w *ResponseWriter) output() (*Response, error) {
	if err := w.Owner.BeforeOutput(); err != nil {
		return nil, err
	}
	return w.Owner.Acquire()
}

// Write gathers p, or sends it if it is large.
func (w *ResponseWriter) Write(p []byte) (int, error) {
	r, err := w.output()
	if err != nil {
		return 0, err
	}
	defer r.Unlock()
	return write(r, p)
}

// WriteString is Write of a string; io.WriteString uses it.
func (w *ResponseWriter) WriteString(s string) (int, error) {
	r, err := w.output()
	if err != nil {
		return 0, err
	}
	defer r.Unlock()
	return write(r, s)
}

// Flush sends what was gathered.
func (w *ResponseWriter) Flush() error {
	r, err := w.output()
	if err != nil {
		return err
	}
	defer r.Unlock()
	return r.flush()
}

// ReadFrom copies src through a pooled buffer; io.Copy uses it.
func (w *ResponseWriter) ReadFrom(src io.Reader) (int64, error) {
	if b, ok := src.(io.WriterTo); ok && stream.InMemory(src) {
		return b.WriteTo(writeOnly{w})
	}
	buf := copyBuffers.Get().(*[stream.ChunkSize]byte)
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(writeOnly{w}, readOnly{src}, buf[:])
}

// writeOnly and readOnly hide the methods with which io.Copy would call ReadFrom again.
type (
	writeOnly struct{ io.Writer }
	readOnly  struct{ io.Reader }
)

var copyBuffers = sync.Pool{New: func() any { return new([stream.ChunkSize]byte) }}

// SetAppStatus sets FastCGI's appStatus, or the exit status of a CGI program.
func (w *ResponseWriter) SetAppStatus(status uint32) {
	if r, err := w.Owner.Acquire(); err == nil {
		defer r.Unlock()
		r.AppStatus = status
	}
}
