package fastcgi

import (
	"fmt"
	"io"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/params"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// maxStream is the largest content of a stream's record that is written. A multiple of eight needs
// no padding.
const maxStream = 65528 // the largest content of a stream's record that is written: a multiple of eight, which needs no padding

// Writer writes to one side of a connection: records, requests or responses. It has one buffer.
// Every method flushes.
type Writer struct {
	// ID is the id of what is written next. 0 means 1.
	ID uint16

	// KeepConn sets FCGI_KEEP_CONN in the requests that are written next.
	KeepConn bool

	out output
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer {
	wr := new(Writer)
	wr.Reset(w)
	return wr
}

// Reset makes w write to dst. It keeps its memory, ID and KeepConn.
func (w *Writer) Reset(dst io.Writer) { w.out.Reset(dst) }

func (w *Writer) id() uint16 { return max(w.ID, 1) }

// WriteRecord writes content as a record of type t, like AppendRecord. The content of a stream that
// is longer than 16 KiB is not copied if the destination is a *net.TCPConn or *net.UnixConn.
func (w *Writer) WriteRecord(t Type, id uint16, content []byte) error {
	if len(content) <= stream.SmallBody || !t.stream() {
		var err error
		if w.out.B, err = AppendRecord(w.out.B[:0], t, id, content); err != nil {
			return err
		}
		return w.out.Flush()
	}
	if id == 0 {
		return fmt.Errorf("fastcgi: %v with id 0: %w", t, gateway.ErrMalformed)
	}
	s := w.out.streamWriter(t, id)
	if _, err := s.Write(content); err != nil {
		return err
	}
	return w.out.Flush()
}

// WriteRequest writes the head and the body of r; see AppendRequest. A body of up to 16 KiB is sent
// with the head in one write. The body must have its length, as Request.ContentLength describes it:
// a shorter one is io.ErrUnexpectedEOF, and of a longer one no excess byte is sent; after either
// the connection is unusable. With a ContentLength of -1 the body is sent to its end, without
// CONTENT_LENGTH; PHP ignores such a body.
func (w *Writer) WriteRequest(r *gateway.Request) error {
	body, length := params.Body(r.Body, r.ContentLength)
	var err error
	if w.out.B, err = appendRequest(w.out.B[:0], w.id(), w.KeepConn, r, body, length, nil); err != nil {
		return err
	}
	if err := w.out.stream(TypeStdin, w.id(), body, length); err != nil {
		return err
	}
	if r.Role == gateway.RoleFilter {
		if err := w.out.stream(TypeData, w.id(), r.Data, dataLength(r)); err != nil {
			return err
		}
	}
	return w.out.Flush()
}

// WriteResponse writes the head, the body and the end of res: STDOUT, the empty STDOUT, and
// END_REQUEST with res.AppStatus. The body must have res.ContentLength bytes unless that is -1, as
// for WriteRequest. A nil Body means that there is none, whatever the length, as in the response to
// HEAD or a 304. WriteResponse does not close res.Body.
//
// A response may be written before the body of its request has been read. The body must then be
// read before the connection is closed: a close with unread bytes is a reset, by which the web
// server may lose the response. Server reads on, within limits.
func (w *Writer) WriteResponse(res *gateway.Response) error {
	b := appendHeader(w.out.B[:0], RecordHeader{Type: TypeStdout, ID: w.id()})
	b, err := gateway.AppendResponse(b, res)
	if err != nil {
		return err
	}
	if len(b) > headerSize+maxStream {
		return fmt.Errorf("fastcgi: response head of %d bytes: %w", len(b)-headerSize, gateway.ErrTooLarge)
	}
	setLength(b, 0)
	w.out.B = b
	var body io.Reader // a nil io.ReadCloser would not be nil
	length := int64(-1)
	if res.Body != nil {
		body, length = res.Body, res.ContentLength
	}
	if err := w.out.stream(TypeStdout, w.id(), body, length); err != nil {
		return err
	}
	w.out.B, _ = AppendEnd(w.out.B, w.id(), End{AppStatus: res.AppStatus})
	return w.out.Flush()
}

// An output buffers records.
type output struct {
	stream.Output
	body streamWriter // a field, so that no call allocates one
}

// stream writes a whole stream from src: its records and the empty one, which stays in the buffer
// with what fits there. length is the promised number of bytes, or -1.
func (o *output) stream(t Type, id uint16, src io.Reader, length int64) error {
	s := o.streamWriter(t, id)
	var err error
	switch {
	case src == nil:
		if length > 0 {
			err = params.ErrShortBody
		}
	case stream.InMemory(src):
		err = s.fromMemory(src.(stream.Memory), length)
	default:
		err = s.from(src, length)
	}
	if err != nil || s.ended {
		return err
	}
	o.B = appendHeader(o.B, RecordHeader{Type: t, ID: id})
	return nil
}

// A streamWriter writes the records of one stream.
type streamWriter struct {
	out   *output
	t     Type
	id    uint16
	whole bool // the next Write has the whole stream
	ended bool // the empty record has been written
	empty [headerSize]byte
}

func (o *output) streamWriter(t Type, id uint16) *streamWriter {
	o.body = streamWriter{out: o, t: t, id: id}
	return &o.body
}

// Write writes p as records. A small p stays in the buffer; a large one is sent with the buffer.
func (s *streamWriter) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		n := min(len(p), maxStream) // rule F3
		s.out.B = appendHeader(s.out.B, RecordHeader{Type: s.t, ID: s.id, Length: uint16(n)})
		if len(s.out.B)+n <= 2*stream.SmallBody && n == len(p) {
			s.out.B = append(s.out.B, p...)
			s.out.Content.Add(int64(n))
			return total, nil
		}
		var tail []byte
		if s.whole && n == len(p) {
			tail = appendHeader(s.empty[:0], RecordHeader{Type: s.t, ID: s.id})
			s.ended = true
			s.out.Final.Store(true)
		}
		if err := s.out.FlushWith(p[:n], tail); err != nil {
			return total - len(p), err
		}
		s.out.Content.Add(int64(n))
		p = p[n:]
	}
	return total, nil
}

func (s *streamWriter) fromMemory(src stream.Memory, length int64) error {
	if err := params.CheckLength(int64(src.Len()), length); err != nil {
		return err
	}
	s.whole = true
	_, err := src.WriteTo(s)
	return err
}

// from copies src. A short body of known length is sent with what is in the buffer.
func (s *streamWriter) from(src io.Reader, length int64) error {
	if length < 0 || length > stream.SmallBody {
		if err := s.out.Flush(); err != nil {
			return err
		}
	}
	return s.out.Copy(src, length, true, func(size int) (int, error) { return s.once(src, size) })
}

// once reads once and leaves the bytes in the buffer, as a record.
func (s *streamWriter) once(src io.Reader, size int) (n int, err error) {
	start := len(s.out.B)
	s.out.B = appendHeader(s.out.B, RecordHeader{Type: s.t, ID: s.id})
	n, err = s.out.ReadBody(src, s.out.Grow(size))
	if n == 0 {
		s.out.B = s.out.B[:start]
		return 0, err
	}
	s.out.B = s.out.B[:len(s.out.B)+n]
	setLength(s.out.B, start)
	s.out.Content.Add(int64(n))
	return n, err
}
