package stream

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/params"
)

// ErrBodyCut is the error of a request's body if the input ends before it.
var ErrBodyCut = fmt.Errorf("gateway: request's body cut off: %w", io.ErrUnexpectedEOF)

// A Body is the body of a request that is being read.
type Body struct {
	In   *Input
	Left int64 // bytes to come
}

// Read returns what has arrived.
func (b *Body) Read(p []byte) (int, error) {
	if b.Left == 0 {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := b.In.Read(p[:min(int64(len(p)), b.Left)])
	b.Left -= int64(n)
	if err == io.EOF {
		err = ErrBodyCut
	}
	return n, err
}

// Discard reads to the end of the body.
func (b *Body) Discard() error {
	for {
		n := int(min(b.Left, int64(b.In.Len())))
		b.In.Discard(n)
		if b.Left -= int64(n); b.Left == 0 {
			return nil
		}
		if err := b.In.Fill(1); err == io.EOF {
			return ErrBodyCut
		} else if err != nil {
			return err
		}
	}
}

// WriteBody writes what o has buffered, a head, and a body behind it: length bytes of src, or all
// of it if length is negative. A small body is sent with the head in one write. If src has another
// length, the error is params.ErrShortBody or params.ErrLongBody; no excess byte is written.
func WriteBody(o *Output, src io.Reader, length int64) error {
	o.Count()
	switch {
	case src == nil:
		if length > 0 {
			return params.ErrShortBody
		}
	case InMemory(src):
		m := src.(Memory)
		if err := params.CheckLength(int64(m.Len()), length); err != nil {
			return err
		}
		if _, err := m.WriteTo(o); err != nil {
			return err
		}
	default:
		if err := copyBody(o, src, length); err != nil {
			return err
		}
	}
	return o.Flush()
}

// WriteRequest writes the head of r with appendHead, and its body.
func WriteRequest(o *Output, r *gateway.Request, appendHead func(dst []byte, r *gateway.Request) ([]byte, error)) (err error) {
	if o.B, err = appendHead(o.B[:0], r); err != nil {
		return err
	}
	body, length := params.Body(r.Body, r.ContentLength)
	return WriteBody(o, body, length)
}

// WriteResponse writes the head of res with appendHead, and its body.
func WriteResponse(o *Output, res *gateway.Response, appendHead func(dst []byte, res *gateway.Response) ([]byte, error)) (err error) {
	if o.B, err = appendHead(o.B[:0], res); err != nil {
		return err
	}
	if res.Body == nil {
		return WriteBody(o, nil, -1)
	}
	return WriteBody(o, res.Body, res.ContentLength)
}

// copyBody copies src. A short body of known length stays in the buffer, with the head.
func copyBody(o *Output, src io.Reader, length int64) error {
	small := length >= 0 && length <= SmallBody
	if !small {
		if err := o.Flush(); err != nil {
			return err
		}
		if done, err := splice(o, src, length); done || err != nil {
			return err
		}
	}
	return o.Copy(src, length, false, func(size int) (int, error) {
		n, err := o.ReadBody(src, o.Grow(size))
		o.B = o.B[:len(o.B)+n]
		return n, err
	})
}

// Copy copies a body of length bytes, unknown if that is negative, piece by piece: read puts at
// most size bytes of src into the buffer. A small body stays there; early means that it is sent
// before src is checked to have ended.
func (o *Output) Copy(src io.Reader, length int64, early bool, read func(size int) (int, error)) error {
	for left := length; left != 0; {
		size := ChunkSize
		if left > 0 {
			size = int(min(left, ChunkSize))
		}
		n, err := read(size)
		left = max(left-int64(n), -1)
		switch {
		case err == io.EOF && left > 0:
			return params.ErrShortBody
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case length < 0 || length > SmallBody || early && left == 0:
			if err := o.Flush(); err != nil {
				return err
			}
		}
	}
	return o.Probe(src)
}

// A File is an *os.File, or the wrapper that its WriteTo passes to ReadFrom.
type File interface {
	fs.File
	io.Seeker
	syscall.Conn
}

// RegularFile reports whether src is a regular file, which the kernel can send without waiting for
// data.
func RegularFile(src io.Reader) bool {
	f, ok := src.(File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode().IsRegular()
}

// splice makes the kernel move src, if the types allow that, so that its bytes do not enter this
// process. With a time-out of sending, src must not wait: its wait would be a part of that time.
func splice(o *Output, src io.Reader, length int64) (done bool, err error) {
	if _, tcp := o.Dst().(*net.TCPConn); !tcp {
		return false, nil
	}
	switch src.(type) {
	case File:
		if o.Timeout > 0 && !RegularFile(src) {
			return false, nil
		}
	case *net.TCPConn, *net.UnixConn:
		if o.Timeout > 0 {
			return false, nil
		}
	default:
		return false, nil
	}
	from := src
	if length >= 0 {
		from = io.LimitReader(src, length)
	}
	n, err := o.MoveFrom(from)
	if isWrite(err) {
		o.Moved(n, err)
	} else {
		o.Moved(n, nil) // the failure, if any, is that of src
	}
	switch {
	case err != nil:
		return true, err
	case length >= 0 && n < length:
		return true, params.ErrShortBody
	case length < 0:
		return true, nil
	}
	return true, o.Probe(src)
}

// isWrite reports whether an error of moving bytes is that of the destination.
func isWrite(err error) bool {
	for _, target := range []error{syscall.EPIPE, syscall.ECONNRESET, net.ErrClosed, os.ErrDeadlineExceeded} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
