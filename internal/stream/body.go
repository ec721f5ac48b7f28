package stream

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
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
// of it if length is negative. A small body is sent with the head in one write. ErrShortBody and
// ErrLongBody mean that src has another length; no excess byte is written.
func WriteBody(o *Output, src io.Reader, length int64) error {
	o.Count()
	switch {
	case src == nil:
		if length > 0 {
			return ErrShortBody
		}
	case InMemory(src):
		m := src.(Memory)
		if err := CheckLength(m, length); err != nil {
			return err
		}
		if _, err := m.WriteTo((*last)(o)); err != nil {
			return err
		}
	default:
		if err := copyBody(o, src, length); err != nil {
			return err
		}
	}
	return o.Flush()
}

// last receives a body that is in memory, in one piece.
type last Output

func (l *last) Write(p []byte) (int, error) {
	o := (*Output)(l)
	if err := o.FlushWith(p, nil); err != nil {
		return 0, err
	}
	return len(p), nil
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
	for left := length; left != 0; {
		size := int64(ChunkSize)
		if left > 0 {
			size = min(size, left)
		}
		n, err := o.ReadBody(src, o.Grow(int(size)))
		o.B = o.B[:len(o.B)+n]
		left = max(left-int64(n), -1)
		switch {
		case err == io.EOF && left > 0:
			return ErrShortBody
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case !small:
			if err := o.Flush(); err != nil {
				return err
			}
		}
	}
	return o.Probe(src)
}

// A File is an os.File, or what io.Copy and package os pass to a ReadFrom in its place.
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
		return true, ErrShortBody
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
