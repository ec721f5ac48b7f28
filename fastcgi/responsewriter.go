package fastcgi

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/server"
)

// A responseWriter is what a handler holds of a request: the ResponseWriter, the Request, its
// readers and its context. It is never reused, so a handler that keeps it holds something empty,
// whose methods fail. The memory of the params and fields is reused.
//
// Any goroutine of the handler may call its methods. finish sets r to nil with the response locked
// and the connection's mu held, so a method that has locked either looks at r again.
type responseWriter struct {
	server.ResponseWriter

	c      atomic.Pointer[serverConn] // nil when r is nil: a slab keeps its objects while one is used, and they keep no connection
	r      atomic.Pointer[request]
	role   gateway.Role
	req    gateway.Request
	body   requestBody // STDIN
	data   requestBody // DATA
	source contextSource
}

var _ gateway.ResponseWriter = (*responseWriter)(nil)

// Acquire locks the response, unless the request is over.
func (w *responseWriter) Acquire() (*server.Response, error) {
	r := w.r.Load()
	if r == nil {
		return nil, server.ErrOver
	}
	r.response.Lock()
	if w.r.Load() != r {
		r.response.Unlock()
		return nil, server.ErrOver
	}
	return &r.response, nil
}

// BeforeOutput makes a Filter finish STDIN before its output begins, section 6.4.
func (w *responseWriter) BeforeOutput() error {
	if w.role != gateway.RoleFilter {
		return nil
	}
	_, err := io.Copy(io.Discard, &w.body)
	return err
}

// Stderr returns a writer to the web server's error log.
func (w *responseWriter) Stderr() io.Writer { return stderrWriter{w} }

type stderrWriter struct{ w *responseWriter }

// Write sends p as STDERR records at once, ahead of the STDOUT that was gathered.
func (e stderrWriter) Write(p []byte) (int, error) {
	response, err := e.w.Acquire()
	if err != nil {
		return 0, err
	}
	defer response.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	r := e.w.r.Load()
	var b []byte
	for rest := p; len(rest) > 0; {
		n := min(len(rest), maxStream)
		b, _ = AppendRecord(b, TypeStderr, r.id, rest[:n])
		rest = rest[n:]
	}
	r.usedStderr = true
	if err := r.c.control(b); err != nil {
		response.Fail(err)
		return 0, err
	}
	return len(p), nil
}

// SetReadDeadline sets the deadline for future reads of the request's body and data.
func (w *responseWriter) SetReadDeadline(t time.Time) error {
	return w.setDeadline(func(c *serverConn, r *request) {
		r.readDeadline = t
		if c.reading && c.inline == r {
			c.arm(c.readDeadline(inRecord))
		}
		c.changed.Broadcast()
	})
}

// SetWriteDeadline sets the deadline for future writes of the response. A zero time means
// WriteTimeout.
func (w *responseWriter) SetWriteDeadline(t time.Time) error {
	return w.setDeadline(func(c *serverConn, r *request) {
		r.writeDeadline = t
		if c.writer == r && !t.IsZero() {
			c.writeLimit = t
			c.c.SetWriteDeadline(t)
		}
	})
}

// setDeadline calls set with the connection locked, unless the request is over.
func (w *responseWriter) setDeadline(set func(c *serverConn, r *request)) error {
	c := w.c.Load()
	if c == nil {
		return server.ErrOver
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := w.r.Load()
	if r == nil {
		return server.ErrOver
	}
	set(c, r)
	return nil
}

// The methods below make a request the server.Framer of its response: output is the content of
// STDOUT records.

// Open begins a STDOUT record, unless one is open.
func (r *request) Open() int {
	out := &r.response.Out
	if r.open < 0 {
		r.open = len(out.B)
		out.B = appendHeader(out.B, RecordHeader{Type: TypeStdout, ID: r.id})
	}
	return r.open
}

// closeRecord sets the length of the open record. One without content would end the stream and is
// removed.
func (r *request) closeRecord() {
	out := &r.response.Out
	switch {
	case r.open < 0:
	case len(out.B) == r.open+headerSize:
		out.B = out.B[:r.open]
	default:
		setLength(out.B, r.open)
	}
	r.open = -1
}

// appendHead appends a head. It is one record, whatever its size: HAProxy 2.6 crashes on two.
func appendHead(dst []byte, head *gateway.Response) ([]byte, error) {
	b, err := gateway.AppendResponse(dst, head)
	if n := len(b) - len(dst); n > maxStream {
		return dst, fmt.Errorf("fastcgi: response head of %d bytes does not fit a record", n)
	}
	return b, err
}

// Check returns gateway.ErrAborted after an ABORT_REQUEST.
func (r *request) Check() error {
	if r.aborted.Load() {
		return fmt.Errorf("fastcgi: %w", gateway.ErrAborted)
	}
	return nil
}

// Send writes what was gathered, and p behind it, in as few records as possible.
func (r *request) Send(p []byte) (int, error) {
	if len(p) == 0 {
		r.closeRecord()
		return 0, r.send(nil)
	}
	total := len(p)
	for len(p) > 0 {
		start := r.Open()
		out := &r.response.Out
		gathered := len(out.B) - start - headerSize
		n := min(len(p), maxStream-gathered) // p continues the open record
		putLength(out.B[start:], gathered+n)
		r.open = -1
		if err := r.send(p[:n]); err != nil {
			return total - len(p), err
		}
		p = p[n:]
	}
	return total, nil
}

// send writes the buffer and p. wmu keeps the records of other requests and of control out of them.
func (r *request) send(p []byte) error {
	c := r.c
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.armWrite(r)
	err := r.response.Out.FlushWith(p, nil)
	c.wrote(err)
	return err
}

// Restart forgets the output. A panic leaves a line in the web server's log.
func (r *request) Restart(cause error) {
	r.open = -1
	if errors.Is(cause, server.ErrPanic) {
		out := &r.response.Out
		out.B, _ = AppendRecord(out.B, TypeStderr, r.id, []byte("handler panicked"))
		r.usedStderr = true
	}
}

// AppendEnd ends the streams that were used, and the request.
func (r *request) AppendEnd() {
	r.closeRecord()
	b := appendHeader(r.response.Out.B, RecordHeader{Type: TypeStdout, ID: r.id})
	if r.usedStderr {
		b = appendHeader(b, RecordHeader{Type: TypeStderr, ID: r.id})
	}
	r.response.Out.B, _ = AppendEnd(b, r.id, End{AppStatus: r.response.AppStatus})
}
