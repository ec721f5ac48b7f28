package stream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/internal/params"
	"github.com/gatehouse-go/gatehouse/internal/race"
	"github.com/gatehouse-go/gatehouse/internal/tunnel"
)

const (
	SmallBody = 16 << 10         // a body of up to this size is sent with its head, in one write
	ChunkSize = 32 << 10         // bytes of a body that are read at a time
	MaxKept   = tunnel.MaxPooled // memory above this size is not kept
)

// ErrStopped means that the rest of a body is no longer wanted.
var ErrStopped = errors.New("gateway: body no longer wanted")

// An Output buffers bytes and writes them. It must be Reset before its first use.
type Output struct {
	B       []byte       // what is buffered
	Final   atomic.Bool  // the write in progress is the last of its message
	Content atomic.Int64 // bytes of bodies that were written
	Sent    atomic.Bool  // a byte may have been sent; read by other goroutines
	Failed  error        // the error of a write, not of what was to be written
	Stopped atomic.Bool  // the rest of a body is not read

	Timed bool      // First is set
	First time.Time // when the first byte of the message was written

	// Timeout limits the time in which the destination takes no byte; zero means no limit.
	Timeout time.Duration

	dst    io.Writer
	armed  time.Time // the write deadline that is set for Timeout
	counts bool      // bytes that are written count as content,
	head   int64     // after this many
	vector bool      // dst writes several slices with one system call
	slices [3][]byte
	vec    net.Buffers
}

// Reset makes o write to dst. It keeps its memory unless that has grown large.
func (o *Output) Reset(dst io.Writer) {
	if cap(o.B) > MaxKept {
		o.B = nil
	}
	o.dst, o.B, o.vector, o.armed = dst, o.B[:0], false, time.Time{}
	o.Begin()
	switch dst.(type) {
	case *net.TCPConn, *net.UnixConn:
		o.vector = true // through a wrapper net.Buffers writes each slice by itself
	}
}

// Begin prepares o for the next message.
func (o *Output) Begin() {
	o.Failed = nil
	o.Sent.Store(false)
	o.Final.Store(false)
	o.Stopped.Store(false)
	o.Content.Store(0)
	o.counts, o.head, o.First = false, 0, time.Time{}
}

// Count makes what is written from now on count as content, after what is buffered.
func (o *Output) Count() { o.counts, o.head = true, int64(len(o.B)) }

// ReadBody reads from a body into what Grow returned, unless the body is no longer wanted.
func (o *Output) ReadBody(src io.Reader, p []byte) (int, error) {
	if o.Stopped.Load() {
		return 0, ErrStopped
	}
	return readSome(src, p)
}

// Flush writes what is buffered.
func (o *Output) Flush() error {
	if len(o.B) == 0 {
		return nil
	}
	err := o.write(o.B)
	race.Poison(o.B)
	o.B = o.B[:0]
	return err
}

// write writes p for as long as the destination accepts some of it within Timeout. It writes at
// most MaxKept bytes at once: a connection such as TLS is unusable after a deadline that passed
// inside a write.
func (o *Output) write(p []byte) error {
	before := o.sending()
	n, err := o.writeAll(p)
	o.wrote(before, n, err)
	return err
}

func (o *Output) writeAll(p []byte) (total int64, err error) {
	size := len(p)
	if o.Timeout > 0 {
		size = min(size, MaxKept)
	}
	for {
		o.arm()
		n, err := o.dst.Write(p[:min(size, len(p))])
		total += int64(n)
		p = p[n:]
		switch {
		case err != nil && !o.progress(int64(n), err):
			return total, err
		case len(p) == 0:
			return total, nil
		case n == 0:
			return total, io.ErrShortWrite
		}
	}
}

// persist calls move, which moves bytes to the destination, for as long as that accepts some within
// Timeout.
func (o *Output) persist(move func() (int64, error)) (total int64, err error) {
	for {
		o.arm()
		n, err := move()
		total += n
		if err == nil || !o.progress(n, err) {
			return total, err
		}
	}
}

// progress reports whether a write that moved n bytes and then failed should continue: its deadline
// passed, but the destination accepts bytes.
func (o *Output) progress(n int64, err error) bool {
	return n > 0 && o.Timeout > 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

// arm sets the deadline of the next write. A deadline that is nearly Timeout away is kept, so that
// it need not be set for each write.
func (o *Output) arm() {
	if o.Timeout <= 0 {
		return
	}
	now := time.Now()
	if left := o.armed.Sub(now); left > o.Timeout-o.Timeout/8 {
		return
	}
	if c, ok := o.dst.(interface{ SetWriteDeadline(time.Time) error }); ok {
		o.armed = now.Add(o.Timeout)
		c.SetWriteDeadline(o.armed)
	}
}

// sending notes the start of a write, during which it is unknown whether a byte was sent. It
// returns whether one had been sent before. A load costs less than a store.
func (o *Output) sending() (before bool) {
	if before = o.Sent.Load(); !before {
		o.Sent.Store(true)
	}
	return before
}

// wrote notes the result of a write. before says whether a byte had been sent before it.
func (o *Output) wrote(before bool, n int64, err error) {
	if !before && n == 0 {
		o.Sent.Store(false)
	}
	if o.Timed && n > 0 && o.First.IsZero() {
		o.First = time.Now()
	}
	if o.counts {
		ahead := min(n, o.head)
		o.head -= ahead
		if n > ahead {
			o.Content.Add(n - ahead)
		}
	}
	if err != nil {
		o.Failed = err
	}
}

// Dst returns what o writes to.
func (o *Output) Dst() io.Writer { return o.dst }

// Moved notes that n bytes of a body were sent to Dst in another way.
func (o *Output) Moved(n int64, err error) { o.wrote(o.sending(), n, err) }

// MoveFrom makes Dst, a TCP connection, read src, for as long as bytes are sent within Timeout.
func (o *Output) MoveFrom(src io.Reader) (int64, error) {
	return o.persist(func() (int64, error) { return o.dst.(*net.TCPConn).ReadFrom(src) })
}

// Write writes what is buffered, and p behind it.
func (o *Output) Write(p []byte) (int, error) {
	if err := o.FlushWith(p, nil); err != nil {
		return 0, err
	}
	return len(p), nil
}

// FlushWith writes what is buffered, p and tail. p is not copied if that can be avoided.
func (o *Output) FlushWith(p, tail []byte) error {
	switch {
	case len(p) <= 4<<10 || !o.vector && len(p) <= MaxKept:
		o.B = append(append(o.B, p...), tail...)
		return o.Flush()
	case !o.vector:
		return o.flushApart(p, tail)
	}
	o.slices[0], o.slices[1], o.slices[2] = o.B, p, tail
	o.vec = o.slices[:]
	before := o.sending()
	n, err := o.persist(func() (int64, error) { return o.vec.WriteTo(o.dst) })
	o.wrote(before, n, err)
	clear(o.slices[:])
	o.B = o.B[:0]
	return err
}

// flushApart is FlushWith for a destination that needs a write for each slice, and a p that is too
// large to copy.
func (o *Output) flushApart(p, tail []byte) error {
	if err := o.Flush(); err != nil {
		return err
	}
	if err := o.write(p); err != nil {
		return err
	}
	o.B = append(o.B, tail...)
	return o.Flush()
}

// Grow returns room for n more bytes after those that are buffered.
func (o *Output) Grow(n int) []byte {
	if cap(o.B)-len(o.B) < n {
		grown := make([]byte, len(o.B), len(o.B)+max(n, len(o.B)))
		copy(grown, o.B)
		o.B = grown
	}
	return o.B[len(o.B) : len(o.B)+n]
}

// Probe checks that src has ended.
func (o *Output) Probe(src io.Reader) error {
	n, err := o.ReadBody(src, o.Grow(1))
	switch {
	case n > 0: // rule F2
		return params.ErrLongBody
	case err == io.EOF:
		return nil
	}
	return err
}

// A Memory is a reader whose bytes are in memory. It passes them to a Writer without a copy.
type Memory interface {
	io.WriterTo
	io.Reader
	Len() int
}

// InMemory reports whether src is a Memory.
func InMemory(src io.Reader) bool {
	switch src.(type) {
	case *bytes.Reader, *bytes.Buffer, *strings.Reader:
		return true
	}
	return false
}

// SmallMemory reports whether src is a Memory of at most SmallBody bytes, which the caller's
// goroutine sends with the head.
func SmallMemory(src io.Reader) bool { return InMemory(src) && src.(Memory).Len() <= SmallBody }
