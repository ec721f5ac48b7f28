package fastcgi

import (
	"io"

	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// A recordReader splits a byte stream into records. Content is returned as it arrives; only whole
// waits for a complete record.
type recordReader struct {
	in   stream.Input
	h    RecordHeader
	left int // content of the current record that was not used yet
	pad  int // padding after it
}

func (r *recordReader) reset(src io.Reader) {
	r.in.Reset(src)
	r.h, r.left, r.pad = RecordHeader{}, 0, 0
}

// next discards the rest of the current record and reads the header of the next one. It returns
// io.EOF if the stream ended between two records.
func (r *recordReader) next() (RecordHeader, error) {
	if err := r.drop(); err != nil {
		return RecordHeader{}, err
	}
	for {
		h, n := ConsumeHeader(r.in.Buffered())
		if n < 0 {
			return h, errVersion
		}
		if n > 0 {
			r.in.Discard(n)
			r.h, r.left, r.pad = h, int(h.Length), int(h.Padding)
			return h, nil
		}
		if err := r.in.FillHeader(headerSize); err != nil {
			return RecordHeader{}, err
		}
	}
}

// drop discards the rest of the current record.
func (r *recordReader) drop() error {
	r.left, r.pad = 0, r.left+r.pad
	for r.dropBuffered(); r.pad > 0; r.dropBuffered() {
		if err := r.in.Fill(1); err != nil {
			return stream.Cut(err)
		}
	}
	return nil
}

func (r *recordReader) dropBuffered() {
	n := min(r.pad, r.in.Len())
	r.in.Discard(n)
	r.pad -= n
}

// some returns a view of the content that is buffered. If none is, it reads first. left must not be
// 0.
func (r *recordReader) some() ([]byte, error) {
	if r.in.Len() == 0 {
		if err := r.in.Fill(1); err != nil {
			return nil, stream.Cut(err)
		}
	}
	b := r.in.Buffered()
	return b[:min(len(b), r.left)], nil
}

func (r *recordReader) use(n int) {
	r.in.Discard(n)
	r.left -= n
}

// read moves content into p, directly from the source if none of it is buffered. left must not be
// 0.
func (r *recordReader) read(p []byte) (int, error) {
	n, err := r.in.Read(p[:min(len(p), r.left)])
	r.left -= n
	return n, stream.Cut(err)
}

// whole returns a view of the content of the current record, none of which may have been used. The
// buffer grows to the size of a record at most.
func (r *recordReader) whole() ([]byte, error) {
	for r.in.Len() < r.left {
		if err := r.in.Fill(r.left); err != nil {
			return nil, stream.Cut(err)
		}
	}
	b := r.in.Buffered()[:r.left:r.left]
	r.use(len(b))
	return b, nil
}

// peek returns the header of the next record if it has arrived.
func (r *recordReader) peek() (h RecordHeader, ok bool) {
	if r.left > 0 {
		return RecordHeader{}, false
	}
	r.dropBuffered()
	if r.pad > 0 {
		return RecordHeader{}, false
	}
	h, n := ConsumeHeader(r.in.Buffered())
	return h, n > 0
}

// buffered reports whether the next record, whose header is h, has arrived completely.
func (r *recordReader) buffered(h RecordHeader) bool {
	return r.in.Len() >= headerSize+int(h.Length)
}
