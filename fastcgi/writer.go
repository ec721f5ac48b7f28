package fastcgi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/race"
)

const (
	smallBody  = 16 << 10 // a body of up to this size leaves with its head, in one write
	chunk      = 32 << 10 // bytes of a body that are read at a time
	maxStream  = 65528    // content of a stream's record that we write: a multiple of eight, so that it needs no padding
	keepBuffer = 128 << 10
)

// Writer writes to one side of a connection: records, or requests, or answers. It has one buffer; every method flushes.
type Writer struct {
	ID       uint16 // of what is written next; 0 stands for 1
	KeepConn bool   // of the requests written next

	out output
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer {
	wr := new(Writer)
	wr.Reset(w)
	return wr
}

// Reset makes w write to dst; it keeps its memory, ID and KeepConn.
func (w *Writer) Reset(dst io.Writer) { w.out.reset(dst) }

func (w *Writer) id() uint16 { return max(w.ID, 1) }

// WriteRecord writes content as a record of type t; see AppendRecord. Content of 16 KiB and more is not copied where
// the destination is a TCP or Unix connection.
func (w *Writer) WriteRecord(t Type, id uint16, content []byte) error {
	if len(content) <= smallBody || !t.stream() {
		var err error
		if w.out.buf, err = AppendRecord(w.out.buf[:0], t, id, content); err != nil {
			return err
		}
		return w.out.flush()
	}
	if id == 0 {
		return fmt.Errorf("fastcgi: %v with id 0: %w", t, gateway.ErrMalformed)
	}
	s := w.out.streamWriter(t, id)
	if _, err := s.Write(content); err != nil {
		return err
	}
	return w.out.flush()
}

// WriteRequest writes r's head and body: see AppendRequest. A body of up to 16 KiB leaves with the head in one write.
// The body must have r.ContentLength bytes: a shorter one is io.ErrUnexpectedEOF, of a longer one no byte in excess is
// sent; after either the connection is of no use. With a ContentLength of -1 the body goes to its end and no
// CONTENT_LENGTH is sent; PHP reads none of such a body.
func (w *Writer) WriteRequest(r *gateway.Request) error {
	var err error
	if w.out.buf, err = AppendRequest(w.out.buf[:0], w.id(), w.KeepConn, r); err != nil {
		return err
	}
	if err := w.out.stream(TypeStdin, w.id(), r.Body, r.ContentLength); err != nil {
		return err
	}
	if r.Role == Filter {
		if err := w.out.stream(TypeData, w.id(), r.Data, dataLength(r)); err != nil {
			return err
		}
	}
	return w.out.flush()
}

// WriteResponse writes the head, body and end of res: STDOUT, the empty STDOUT, END_REQUEST with res.AppStatus. The
// body must have res.ContentLength bytes unless that is -1, as for WriteRequest. It does not close res.Body.
func (w *Writer) WriteResponse(res *gateway.Response) error {
	b := appendHeader(w.out.buf[:0], RecordHeader{Type: TypeStdout, ID: w.id()})
	b, err := gateway.AppendResponse(b, res)
	if err != nil {
		return err
	}
	if len(b) > headerSize+maxStream {
		return fmt.Errorf("fastcgi: answer's head of %d bytes: %w", len(b)-headerSize, gateway.ErrTooLarge)
	}
	setLength(b, 0)
	w.out.buf = b
	var body io.Reader // an io.ReadCloser that is nil would not be
	if res.Body != nil {
		body = res.Body
	}
	if err := w.out.stream(TypeStdout, w.id(), body, res.ContentLength); err != nil {
		return err
	}
	w.out.buf, _ = AppendEnd(w.out.buf, w.id(), End{AppStatus: res.AppStatus})
	return w.out.flush()
}

// output gathers what leaves in one write.
type output struct {
	dst     io.Writer
	vector  bool // dst takes several slices in one system call
	buf     []byte
	slices  [3][]byte
	vec     net.Buffers
	body    streamWriter // kept here so that no call allocates one
	final   atomic.Bool  // the write that has begun is the last of its message
	content atomic.Int64 // bytes of streams that were written
	sent    atomic.Bool  // a byte may have left; others than the writer ask
	failed  error        // of a write; other errors are of what was to be written
}

func (o *output) reset(dst io.Writer) {
	buf := o.buf
	if cap(buf) > keepBuffer {
		buf = nil
	}
	o.dst, o.buf, o.vector, o.failed = dst, buf[:0], false, nil
	o.sent.Store(false)
	switch dst.(type) {
	case *net.TCPConn, *net.UnixConn:
		o.vector = true // through a wrapper net.Buffers makes a write of each slice
	}
}

// flush writes what was gathered.
func (o *output) flush() error {
	if len(o.buf) == 0 {
		return nil
	}
	n, err := o.dst.Write(o.buf)
	o.wrote(int64(n), err)
	race.Poison(o.buf)
	o.buf = o.buf[:0]
	return err
}

func (o *output) wrote(n int64, err error) {
	if n > 0 {
		o.sent.Store(true)
	}
	if err != nil {
		o.failed = err
	}
}

// flushWith writes what was gathered, p, which is not copied where that can be, and tail.
func (o *output) flushWith(p, tail []byte) error {
	if !o.vector || len(p) <= 4<<10 {
		o.buf = append(append(o.buf, p...), tail...)
		return o.flush()
	}
	o.slices[0], o.slices[1], o.slices[2] = o.buf, p, tail
	o.vec = o.slices[:]
	n, err := o.vec.WriteTo(o.dst)
	o.wrote(n, err)
	clear(o.slices[:])
	o.buf = o.buf[:0]
	return err
}

// stream writes a whole stream from src: its records and the empty one, which is left in the buffer with whatever
// fits there. length is the promised number of bytes, or -1.
func (o *output) stream(t Type, id uint16, src io.Reader, length int64) error {
	s := o.streamWriter(t, id)
	var err error
	switch {
	case src == nil:
		if length > 0 {
			err = errBodyShort
		}
	case inMemory(src):
		err = s.fromMemory(src.(memory), length)
	default:
		err = s.from(src, length)
	}
	if err != nil || s.ended {
		return err
	}
	o.buf = appendHeader(o.buf, RecordHeader{Type: t, ID: id})
	return nil
}

var (
	errBodyShort = fmt.Errorf("body shorter than its length: %w", io.ErrUnexpectedEOF)
	errBodyLong  = errors.New("body longer than its length")
)

// memory is a reader whose bytes are there already, and which hands them to a Writer without a copy.
type memory interface {
	io.WriterTo
	io.Reader
	Len() int
}

func inMemory(src io.Reader) bool {
	switch src.(type) {
	case *bytes.Reader, *bytes.Buffer, *strings.Reader:
		return true
	}
	return false
}

// streamWriter writes the records of one stream.
type streamWriter struct {
	out   *output
	t     Type
	id    uint16
	whole bool // the next Write has all of the stream
	ended bool // the empty record has been written
	empty [headerSize]byte
}

func (o *output) streamWriter(t Type, id uint16) *streamWriter {
	o.body = streamWriter{out: o, t: t, id: id}
	return &o.body
}

// Write writes p as records. A small p stays in the buffer, a large one leaves with what is there.
func (s *streamWriter) Write(p []byte) (int, error) {
	total := len(p)
	s.out.content.Add(int64(total))
	for len(p) > 0 {
		n := min(len(p), maxStream)
		s.out.buf = appendHeader(s.out.buf, RecordHeader{Type: s.t, ID: s.id, Length: uint16(n)})
		if len(s.out.buf)+n <= 2*smallBody && n == len(p) {
			s.out.buf = append(s.out.buf, p...)
			return total, nil
		}
		var tail []byte
		if s.whole && n == len(p) {
			tail = appendHeader(s.empty[:0], RecordHeader{Type: s.t, ID: s.id})
			s.ended = true
			s.out.final.Store(true)
		}
		if err := s.out.flushWith(p[:n], tail); err != nil {
			return total - len(p), err
		}
		p = p[n:]
	}
	return total, nil
}

func (s *streamWriter) fromMemory(src memory, length int64) error {
	switch have := int64(src.Len()); {
	case length >= 0 && have < length:
		return errBodyShort
	case length >= 0 && have > length:
		return errBodyLong
	}
	s.whole = true
	_, err := src.WriteTo(s)
	return err
}

// from copies src. A short body of known length leaves with what is in the buffer already.
func (s *streamWriter) from(src io.Reader, length int64) error {
	if length < 0 || length > smallBody {
		if err := s.out.flush(); err != nil {
			return err
		}
	}
	for left := length; left != 0; {
		n, err := s.once(src, left)
		left = max(left-int64(n), -1)
		switch {
		case err == io.EOF && left > 0:
			return errBodyShort
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case length > smallBody || length < 0 || left == 0:
			// What has come is not kept waiting for what may come.
			if err := s.out.flush(); err != nil {
				return err
			}
		}
	}
	return s.probe(src)
}

// once reads once and leaves what came in the buffer, as a record.
func (s *streamWriter) once(src io.Reader, left int64) (n int, err error) {
	start := len(s.out.buf)
	size := chunk
	if left > 0 {
		size = int(min(left, chunk))
	}
	b := appendHeader(s.out.buf, RecordHeader{Type: s.t, ID: s.id})
	b = grow(b, size)
	n, err = readOnce(src, b[len(b):len(b)+size])
	if n == 0 {
		s.out.buf = b[:start]
		return 0, err
	}
	b = b[:len(b)+n]
	setLength(b, start)
	s.out.buf = b
	s.out.content.Add(int64(n))
	return n, err
}

// probe makes sure that src has ended.
func (s *streamWriter) probe(src io.Reader) error {
	b := grow(s.out.buf, 1)
	n, err := readOnce(src, b[len(b):len(b)+1])
	s.out.buf = b
	switch {
	case n > 0:
		return errBodyLong
	case err == io.EOF:
		return nil
	}
	return err
}

func readOnce(src io.Reader, p []byte) (int, error) {
	for range 100 {
		if n, err := src.Read(p); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// grow makes room for n more bytes.
func grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	grown := make([]byte, len(b), len(b)+max(n, len(b)))
	copy(grown, b)
	return grown
}
