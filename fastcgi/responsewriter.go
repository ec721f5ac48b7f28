package fastcgi

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/server"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// responseWriter is what a handler gets: the request, the writer, and under other names the body, the data, STDERR and the
// context. Each request has one of its own, so that a handler that keeps one after it returned holds something dead or
// empty, whatever has become of the request. The memory of its params and fields moves on to the next.
//
// What becomes of r when the request is over is not the handle's to see: r is looked at under c.mu, or under its own wmu,
// and only while the pointer still holds it.
type responseWriter struct {
	gateway.WriterBase
	c   atomic.Pointer[serverConn] // nil when r is: a slab keeps its handles for as long as one is used, and they no connection
	r   atomic.Pointer[request]
	req gateway.Request
	res gateway.Response
}

type (
	bodyHandle    responseWriter
	dataHandle    responseWriter
	stderrHandle  responseWriter
	contextSource responseWriter
)

// live locks r for its writer; h may have been dead for long.
func (h *responseWriter) live() (*request, error) {
	r := h.r.Load()
	if r == nil {
		return nil, server.ErrOver
	}
	r.wmu.Lock()
	if h.r.Load() != r {
		r.wmu.Unlock()
		return nil, server.ErrOver
	}
	return r, nil
}

// Header is what WriteHeader will send.
func (h *responseWriter) Header() *gateway.Header { return &h.res.Header }

func (h *responseWriter) WriteHeader(status int) {
	r, err := h.live()
	if err != nil {
		return
	}
	defer r.wmu.Unlock()
	if !r.ans.Committed {
		r.commit(status)
	}
}

// commit puts the head into the buffer, once. It is one record, whatever its size: HAProxy 2.6 dies of two.
func (r *request) commit(status int) error {
	if r.ans.Committed {
		return r.ans.Failed
	}
	r.openRecord()
	at := len(r.out.B)
	b, err := r.ans.Commit(r.out.B, status, gateway.AppendResponse)
	if err != nil {
		return err
	}
	r.out.B = b
	if n := len(b) - at; n > maxStream {
		r.ans.Failed = fmt.Errorf("fastcgi: answer's head of %d bytes", n)
	} else {
		server.WarnLarge(n, &r.c.s.warned, r.c.s.logger)
	}
	return r.ans.Failed
}

func (r *request) openRecord() {
	if r.open < 0 {
		r.open = len(r.out.B)
		r.out.B = appendHeader(r.out.B, RecordHeader{Type: TypeStdout, ID: r.id})
	}
}

// closeRecord sets the length of the open record; one without content would end the stream and is taken back.
func (r *request) closeRecord() {
	switch {
	case r.open < 0:
	case len(r.out.B) == r.open+headerSize:
		r.out.B = r.out.B[:r.open]
	default:
		setLength(r.out.B, r.open)
	}
	r.open = -1
}

// mayWrite prepares the answer for n bytes of body.
func (r *request) mayWrite(n int) error {
	if r.aborted.Load() {
		return fmt.Errorf("fastcgi: %w", gateway.ErrAborted)
	}
	if err := r.commit(200); err != nil {
		return err
	}
	return r.ans.Add(n)
}

func (h *responseWriter) Write(p []byte) (int, error) { return write(h, p) }

func (h *responseWriter) WriteString(s string) (int, error) { return write(h, s) }

func write[S ~string | ~[]byte](h *responseWriter, p S) (int, error) {
	if err := h.filterFirst(); err != nil {
		return 0, err
	}
	r, err := h.live()
	if err != nil {
		return 0, err
	}
	defer r.wmu.Unlock()
	if err := r.mayWrite(len(p)); err != nil {
		return 0, err
	}
	r.openRecord()
	if len(r.out.B)-r.open+len(p) <= stream.SmallBody {
		r.out.B = append(r.out.B, p...)
		return len(p), nil
	}
	return r.writeLarge([]byte(p))
}

// writeLarge sends p with what was gathered, as few records as can be.
func (r *request) writeLarge(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		r.openRecord()
		room := maxStream - (len(r.out.B) - r.open - headerSize)
		n := min(len(p), room)
		r.out.B[r.open+4], r.out.B[r.open+5] = byte((maxStream-room+n)>>8), byte(maxStream-room+n)
		r.open = -1
		if err := r.send(p[:n]); err != nil {
			return total - len(p), err
		}
		p = p[n:]
	}
	return total, nil
}

// send writes the buffer, and p behind it.
func (r *request) send(p []byte) error {
	c := r.c
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.armWrite(r)
	err := r.out.FlushWith(p, nil)
	c.wrote(err)
	if err != nil {
		r.ans.Failed = err
	}
	return err
}

// ReadFrom copies src through a buffer that is kept for that; io.Copy uses it.
func (h *responseWriter) ReadFrom(src io.Reader) (total int64, err error) {
	if b, ok := src.(io.WriterTo); ok && stream.InMemory(src) {
		return b.WriteTo(writeOnly{h})
	}
	buf := copyBuffers.Get().(*[stream.ChunkSize]byte)
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(writeOnly{h}, readOnly{src}, buf[:])
}

// writeOnly and readOnly hide the methods that io.Copy would come back to.
type writeOnly struct{ io.Writer }

type readOnly struct{ io.Reader }

var copyBuffers = sync.Pool{New: func() any { return new([stream.ChunkSize]byte) }}

func (h *responseWriter) Flush() error {
	if err := h.filterFirst(); err != nil {
		return err
	}
	r, err := h.live()
	if err != nil {
		return err
	}
	defer r.wmu.Unlock()
	if err := r.mayWrite(0); err != nil {
		return err
	}
	r.closeRecord()
	return r.send(nil)
}

// filterFirst makes a Filter finish STDIN before its output begins, section 6.4.
func (h *responseWriter) filterFirst() error {
	r, err := h.live()
	if err != nil {
		return err
	}
	filter := r.begin.Role == Filter
	r.wmu.Unlock()
	if filter {
		_, err = io.Copy(io.Discard, (*bodyHandle)(h))
	}
	return err
}

func (h *responseWriter) WriteInterim(status int, header *gateway.Header) error {
	r, err := h.live()
	if err != nil {
		return err
	}
	defer r.wmu.Unlock()
	switch {
	case !r.c.s.Interim:
		return errors.ErrUnsupported
	case status < 100 || status > 199 || status == 101 || r.ans.Committed:
		return fmt.Errorf("fastcgi: interim status %d: %w", status, gateway.ErrMalformed)
	}
	res := gateway.Response{Status: status, ContentLength: -1}
	res.Header.CopyFrom(header)
	r.openRecord()
	b, err := gateway.AppendResponse(r.out.B, &res)
	if err != nil {
		return err
	}
	r.out.B = b
	r.closeRecord()
	if err := r.send(nil); err != nil {
		return err
	}
	r.out.Sent.Store(false) // of the answer that counts nothing has left
	return nil
}

func (h *responseWriter) Stderr() io.Writer { return (*stderrHandle)(h) }

// Write sends p as STDERR records at once, behind what was gathered of STDOUT.
func (w *stderrHandle) Write(p []byte) (int, error) {
	r, err := (*responseWriter)(w).live()
	if err != nil {
		return 0, err
	}
	defer r.wmu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	// The open STDOUT record stays open: it is not on the wire yet.
	var b []byte
	for rest := p; len(rest) > 0; {
		n := min(len(rest), maxStream)
		b, _ = AppendRecord(b, TypeStderr, r.id, rest[:n])
		rest = rest[n:]
	}
	r.usedStderr = true
	if err := r.c.control(b); err != nil {
		r.ans.Failed, r.out.Failed = err, err
		return 0, err
	}
	return len(p), nil
}

func (h *responseWriter) SetAppStatus(status uint32) {
	if r, err := h.live(); err == nil {
		r.appStatus = status
		r.wmu.Unlock()
	}
}

func (h *responseWriter) SetReadDeadline(t time.Time) error {
	c := h.c.Load()
	if c == nil {
		return server.ErrOver
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := h.r.Load()
	if r == nil {
		return server.ErrOver
	}
	r.readDeadline = t
	if c.reading && c.inline == r {
		c.arm(c.readDeadline(inRecord))
	}
	c.changed.Broadcast()
	return nil
}

func (h *responseWriter) SetWriteDeadline(t time.Time) error {
	c := h.c.Load()
	if c == nil {
		return server.ErrOver
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := h.r.Load()
	if r == nil {
		return server.ErrOver
	}
	r.writeDeadline = t
	if c.writer == r && !t.IsZero() {
		c.writeLimit = t
		c.c.SetWriteDeadline(t)
	}
	return nil
}

var _ gateway.ResponseWriter = (*responseWriter)(nil)
