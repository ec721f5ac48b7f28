package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/stream"
	"github.com/gatehouse-go/gatehouse/internal/upgrade"
)

var _ gateway.ResponseWriter = (*conn)(nil)

// Header is what WriteHeader will send.
func (c *conn) Header() *gateway.Header { return &c.res.Header }

// live locks the answer.
func (c *conn) live() error {
	c.wmu.Lock()
	c.mu.Lock()
	over := c.over
	c.mu.Unlock()
	switch {
	case over:
		c.wmu.Unlock()
		return ErrOver
	case c.hijacked:
		c.wmu.Unlock()
		return errHijacked
	}
	return nil
}

var errHijacked = errors.New("gateway: the connection was taken over by Hijack")

func (c *conn) WriteHeader(status int) {
	if c.live() != nil {
		return
	}
	defer c.wmu.Unlock()
	if !c.ans.Committed {
		c.commit(status)
	}
}

// commit puts the head into the buffer, once.
func (c *conn) commit(status int) error {
	if c.ans.Committed {
		return c.ans.Failed
	}
	at := len(c.out.B)
	b, err := c.ans.Commit(c.out.B, status, c.s.AppendHead)
	if err != nil {
		return err
	}
	c.out.B = b
	WarnLarge(len(b)-at, &c.s.warned, c.s.Logger)
	return nil
}

// mayWrite prepares the answer for n bytes of body.
func (c *conn) mayWrite(n int) error {
	if err := c.commit(200); err != nil {
		return err
	}
	return c.ans.Add(n)
}

func (c *conn) Write(p []byte) (int, error) { return write(c, p) }

func (c *conn) WriteString(s string) (int, error) { return write(c, s) }

func write[S ~string | ~[]byte](c *conn, p S) (int, error) {
	if err := c.live(); err != nil {
		return 0, err
	}
	defer c.wmu.Unlock()
	if err := c.mayWrite(len(p)); err != nil {
		return 0, err
	}
	if len(c.out.B)+len(p) <= stream.SmallBody {
		c.out.B = append(c.out.B, p...)
		return len(p), nil
	}
	if err := c.send([]byte(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// send writes the buffer, and p behind it.
func (c *conn) send(p []byte) error {
	c.armWrite()
	err := c.out.FlushWith(p, nil)
	if err != nil {
		c.ans.Failed = err
	}
	return err
}

func (c *conn) armWrite() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armWriteLocked()
}

func (c *conn) armWriteLocked() {
	t := c.writeDeadline
	if t.IsZero() {
		t = time.Now().Add(or(c.s.WriteTimeout, time.Minute))
	}
	c.c.SetWriteDeadline(t)
}

// ReadFrom copies src: by the kernel where that can be, else through a buffer that is kept for it; io.Copy uses it.
func (c *conn) ReadFrom(src io.Reader) (total int64, err error) {
	if _, tcp := c.c.(*net.TCPConn); tcp {
		from := &io.LimitedReader{R: src, N: math.MaxInt64}
		if l, ok := src.(*io.LimitedReader); ok {
			from = l
		}
		if stream.RegularFile(from.R) {
			return c.splice(from)
		}
	}
	if b, ok := src.(io.WriterTo); ok && stream.InMemory(src) {
		return b.WriteTo(writeOnly{c})
	}
	buf := copyBuffers.Get().(*[stream.ChunkSize]byte)
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(writeOnly{c}, readOnly{src}, buf[:])
}

// writeOnly and readOnly hide the methods that io.Copy would come back to.
type writeOnly struct{ io.Writer }
type readOnly struct{ io.Reader }

var copyBuffers = sync.Pool{New: func() any { return new([stream.ChunkSize]byte) }}

// splice has the kernel move a file to the connection, a piece at a time so that each has the time of a write. A source
// that keeps it waiting must not come here: the wait would be a part of that time.
func (c *conn) splice(src *io.LimitedReader) (total int64, err error) {
	if err := c.live(); err != nil {
		return 0, err
	}
	defer c.wmu.Unlock()
	if err := c.mayWrite(0); err != nil {
		return 0, err
	}
	if err := c.send(nil); err != nil {
		return 0, err
	}
	const piece = 1 << 20
	for {
		most := min(int64(piece), src.N)
		if promised := c.res.ContentLength; promised >= 0 {
			most = min(most, promised-c.ans.Written)
		}
		switch {
		case src.N <= 0:
			return total, nil
		case most == 0:
			return total, c.out.Probe(src)
		}
		c.armWrite()
		n, err := c.c.(*net.TCPConn).ReadFrom(io.LimitReader(src.R, most))
		src.N -= n
		c.out.Moved(n, nil)
		c.ans.Written += n
		total += n
		if err != nil {
			c.ans.Failed = err
			return total, err
		}
		if n < most {
			return total, nil
		}
	}
}

func (c *conn) Flush() error {
	if err := c.live(); err != nil {
		return err
	}
	defer c.wmu.Unlock()
	if err := c.mayWrite(0); err != nil {
		return err
	}
	return c.send(nil)
}

func (c *conn) WriteInterim(status int, header *gateway.Header) error {
	if err := c.live(); err != nil {
		return err
	}
	defer c.wmu.Unlock()
	switch {
	case !c.s.Interim:
		return errors.ErrUnsupported
	case status < 100 || status > 199 || status == 101 || c.ans.Committed:
		return fmt.Errorf("gateway: interim status %d: %w", status, gateway.ErrMalformed)
	}
	res := gateway.Response{Status: status, ContentLength: -1}
	res.Header.CopyFrom(header)
	b, err := c.s.AppendHead(c.out.B, &res)
	if err != nil {
		return err
	}
	c.out.B = b
	if err := c.send(nil); err != nil {
		return err
	}
	c.out.Sent.Store(false) // of the answer that counts nothing has left
	return nil
}

func (c *conn) Stderr() io.Writer { return (*stderr)(c) }

// Write writes p to where the server's STDERR goes, or logs it: SCGI and uwsgi have no way to the web server's log.
func (e *stderr) Write(p []byte) (int, error) {
	c := (*conn)(e)
	if err := c.live(); err != nil {
		return 0, err
	}
	defer c.wmu.Unlock()
	if c.s.Stderr != nil {
		return c.s.Stderr.Write(p)
	}
	c.lines.Write(p, c.logLine)
	return len(p), nil
}

func (c *conn) logLine(line []byte) { c.s.Logger().Warn("application", "stderr", string(line)) }

// SetAppStatus sets the exit status, where the server is a process.
func (c *conn) SetAppStatus(status uint32) {
	if c.live() == nil {
		c.status = status
		c.wmu.Unlock()
	}
}

func (c *conn) SetReadDeadline(t time.Time) error {
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

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return ErrOver
	}
	c.writeDeadline = t
	c.armWriteLocked()
	return nil
}

// Hijack sends the head of a 101 and hands the connection over.
func (c *conn) Hijack() (gateway.Stream, error) {
	if err := c.live(); err != nil {
		return nil, err
	}
	defer c.wmu.Unlock()
	switch {
	case c.req.Upgrade == "":
		return nil, fmt.Errorf("gateway: Hijack: the request asks for no upgrade: %w", errors.ErrUnsupported)
	case c.ans.Committed:
		return nil, errors.New("gateway: Hijack after the head was settled")
	}
	s, err := c.takeOver()
	if err != nil {
		return nil, err
	}
	c.hijacked = true
	c.s.group.Remove(c) // the server neither waits for it nor closes it
	c.s.group.Done()
	return s, nil
}

// takeOver ends all that reads, and sends the head.
func (c *conn) takeOver() (gateway.Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.left > 0:
		return nil, errors.New("gateway: Hijack with a body that is not read")
	case c.reading:
		return nil, errors.New("gateway: Hijack while the body is being read")
	}
	c.stopReading()
	err := c.lost
	if err == nil {
		err = c.switchProtocols()
	}
	if err != nil {
		c.stopped = false // it remains a request, whose peer is looked after
		c.watchLocked()
		return nil, err
	}
	early := make([]byte, c.mem.queue.Len(), c.mem.queue.Len()+c.in.Len())
	c.mem.queue.Take(early)
	early = append(early, c.in.Buffered()...)
	c.c.SetDeadline(time.Time{})
	return upgrade.NewStream(c.c, early, nil), nil
}

// switchProtocols writes the head of the 101. The fields that make it one are the handler's, or else ours.
func (c *conn) switchProtocols() error {
	h := &c.res.Header
	token, ok := h.Lookup("Upgrade")
	if ok && !strings.EqualFold(string(token), c.req.Upgrade) {
		return fmt.Errorf("gateway: Hijack to %q, which the request did not ask for: %w", token, gateway.ErrMalformed)
	}
	if !ok {
		h.Set("Upgrade", c.req.Upgrade)
	}
	if _, ok := h.Lookup("Connection"); !ok {
		h.Set("Connection", "Upgrade")
	}
	c.res.Status, c.res.ContentLength = 101, -1
	b, err := c.s.AppendHead(c.out.B, &c.res)
	if err != nil {
		return fmt.Errorf("gateway: answer: %v", err)
	}
	c.out.B = b
	c.c.SetWriteDeadline(time.Now().Add(or(c.s.WriteTimeout, time.Minute)))
	return c.out.Flush()
}

// finish ends the answer and the connection.
func (c *conn) finish(err error) error {
	c.s.active.Add(-1) // before the peer can know of the end
	c.wmu.Lock()
	cut := c.complete(err)
	c.mu.Lock()
	c.over, c.running = true, false
	ctx := c.cancelable
	c.changed.Broadcast()
	c.mu.Unlock()
	c.dismiss() // before the peer can know of the end
	if !cut && !c.hijacked {
		err = c.send(nil)
	}
	c.lines.Flush(c.logLine)
	hijacked := c.hijacked
	c.wmu.Unlock()
	if ctx != nil {
		ctx.Cancel(context.Canceled)
	}
	if hijacked {
		return nil
	}
	c.s.group.Done()
	switch {
	case cut:
		c.reset()
		return fmt.Errorf("answer cut: %w", err)
	case err != nil:
		c.shut()
		return err
	}
	c.end()
	return nil
}

// shut closes the connection and waits until its readers have left: one may wait for room, and a close alone does not
// wake it.
func (c *conn) shut() {
	c.c.Close()
	if c.s.Process {
		return // the process ends, and what reads its input with it
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopReading()
}

// end closes the connection after a whole answer. That no input is here says nothing about what is on its way, or in the
// kernel; so unless the peer has ended its side, or is gone, it is hung up on.
func (c *conn) end() {
	if c.s.Process {
		return // the process ends, and what reads its input with it
	}
	c.mu.Lock()
	c.stopReading()
	over := c.lost != nil
	c.mu.Unlock()
	if !over {
		c.hangUp()
	}
	c.c.Close()
}

// reset closes the connection so that the peer takes the answer for what it is, part of one: a TCP connection with a
// reset, TLS without its goodbye. On a Unix socket, which knows no reset, only a Content-Length shows that.
func (c *conn) reset() {
	conn := c.c
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
	c.shut()
}

// complete puts the end of the answer into the buffer. It returns true if the answer must be cut instead, because what
// has left cannot be taken back.
func (c *conn) complete(err error) (cut bool) {
	if c.hijacked {
		return false
	}
	if err == nil {
		err = c.ans.Failed
	}
	if err == nil {
		err = c.commit(200)
	}
	if err == nil && c.ans.Short(&c.req) {
		err = ErrShort
	}
	switch {
	case err == nil:
		return false
	case c.out.Failed != nil || c.out.Sent.Load():
		c.s.Logger().Debug("answer cut", "error", err)
		return true
	}
	c.out.B = c.out.B[:0]
	status := c.ans.Replace(err)
	if !errors.Is(err, gateway.ErrAborted) {
		c.s.Logger().Warn("handler failed", "status", status, "error", err)
	}
	c.commit(status)
	return false
}
