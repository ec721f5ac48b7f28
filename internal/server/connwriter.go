package server

import (
	"io"
	"log/slog"
	"math"
	"net"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// A connWriter is the gateway.ResponseWriter of a conn.
type connWriter struct {
	ResponseWriter
	c *conn
}

var _ gateway.ResponseWriter = (*connWriter)(nil)

// ReadFrom copies src: in the kernel if that is possible, or else through a pooled buffer. io.Copy
// uses it.
func (w *connWriter) ReadFrom(src io.Reader) (int64, error) {
	if _, tcp := w.c.c.(*net.TCPConn); tcp {
		from := &io.LimitedReader{R: src, N: math.MaxInt64}
		if l, ok := src.(*io.LimitedReader); ok {
			from = l
		}
		if stream.RegularFile(from.R) {
			return w.sendFile(from)
		}
	}
	return w.ResponseWriter.ReadFrom(src)
}

// sendFile has the kernel move a file to the connection, a piece at a time, so that each piece has
// the time of a write. A source that may wait must not come here: its wait would be a part of that
// time.
func (w *connWriter) sendFile(src *io.LimitedReader) (total int64, err error) {
	r, err := w.c.Acquire()
	if err != nil {
		return 0, err
	}
	defer r.Unlock()
	if err := r.flush(); err != nil {
		return 0, err
	}
	const piece = 1 << 20
	for {
		most := min(int64(piece), src.N)
		if promised := r.head.ContentLength; promised >= 0 {
			most = min(most, promised-r.written)
		}
		switch {
		case src.N <= 0:
			return total, nil
		case most == 0:
			return total, r.Out.Probe(src)
		}
		w.c.armWrite()
		n, err := w.c.c.(*net.TCPConn).ReadFrom(io.LimitReader(src.R, most))
		src.N -= n
		r.Out.Moved(n, nil)
		r.written += n
		total += n
		if err != nil {
			r.failed = err
			return total, err
		}
		if n < most {
			return total, nil
		}
	}
}

// Stderr returns a writer to the server's log: SCGI and uwsgi have no way to that of the web
// server.
func (w *connWriter) Stderr() io.Writer { return stderr{w.c} }

type stderr struct{ c *conn }

func (e stderr) Write(p []byte) (int, error) {
	r, err := e.c.Acquire()
	if err != nil {
		return 0, err
	}
	defer r.Unlock()
	e.c.lines.Write(p, e.c.logLine)
	return len(p), nil
}

func (c *conn) logLine(line []byte) {
	LogRequest(c.s.Logger(), slog.LevelWarn, "application", &c.req, slog.String("stderr", string(line)))
}

// SetReadDeadline sets the deadline for future reads of the request's body.
func (w *connWriter) SetReadDeadline(t time.Time) error {
	c := w.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return ErrOver
	}
	c.readDeadline = t
	if c.reading {
		c.c.SetReadDeadline(t)
	}
	c.changed.Broadcast()
	return nil
}

// SetWriteDeadline sets the deadline for future writes of the response. A zero time means
// WriteTimeout.
func (w *connWriter) SetWriteDeadline(t time.Time) error {
	c := w.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return ErrOver
	}
	c.writeDeadline = t
	c.armWriteLocked()
	return nil
}

// Send writes what was buffered, and p behind it.
func (c *conn) Send(p []byte) (int, error) {
	c.armWrite()
	return c.response.Out.Write(p)
}

func (c *conn) armWrite() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armWriteLocked()
}

func (c *conn) armWriteLocked() {
	t := c.writeDeadline
	if t.IsZero() {
		t = c.s.writeDeadline()
	}
	c.c.SetWriteDeadline(t)
}
