package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"

	"github.com/gatehouse-go/gatehouse/internal/params"
	"github.com/gatehouse-go/gatehouse/internal/tunnel"
)

// Spool is a RoundTripper that reads the whole body of a request before it calls Backend. It keeps
// a body of up to MaxMemory bytes in memory, and writes a longer one to a temporary file, which is
// removed when the Body of the response is closed or Backend fails. The request that Backend
// receives has a known ContentLength and a GetBody. A body that cannot be read, is longer than
// MaxBytes or has another length than ContentLength is an *Error of PhaseRequest, and so is a fault
// of the temporary file.
type Spool struct {
	// Backend receives the requests.
	Backend RoundTripper

	// All makes Spool read every body first. Without it only bodies of unknown length are read;
	// others pass as they are.
	All bool

	// MaxBytes limits the size of a body; a larger one is ErrBodyTooLarge. Zero or a negative value
	// means 1 GiB.
	MaxBytes int64

	// MaxMemory is the number of bytes that are kept in memory. Zero or a negative value means 64
	// KiB.
	MaxMemory int

	// Dir is the folder for temporary files. An empty Dir means os.TempDir.
	Dir string
}

// RoundTrip reads the body of r, and sends r with it.
func (s *Spool) RoundTrip(ctx context.Context, r *Request, res *Response) error {
	body, length := r.body()
	if length >= 0 && !s.All || body == nil && length >= 0 {
		return s.Backend.RoundTrip(ctx, r, res)
	}
	res.Reset()
	var out Request
	out.CopyFrom(r)
	file, err := s.fill(ctx, &out, body, length)
	if err != nil {
		return &Error{Phase: PhaseRequest, Err: err}
	}
	if file == nil {
		return s.Backend.RoundTrip(ctx, &out, res)
	}
	if err := s.Backend.RoundTrip(ctx, &out, res); err != nil {
		file.Remove()
		return err
	}
	res.Body = &spooledBody{res.Body, file}
	return nil
}

// fill reads body, whose length is -1 if it is unknown, and makes it the body of r.
func (s *Spool) fill(ctx context.Context, r *Request, body io.Reader, length int64) (*tunnel.TempFile, error) {
	limit, memory := s.limits()
	if length > limit {
		return nil, ErrBodyTooLarge
	}
	if body == nil {
		r.SetBody(nil)
		return nil, nil
	}
	rest := &contextReader{ctx, body}
	var head bytes.Buffer
	n, err := io.CopyN(&head, rest, min(int64(memory), limit)+1)
	if err == io.EOF {
		r.SetBody(head.Bytes())
		return nil, params.CheckLength(n, length)
	}
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, ErrBodyTooLarge
	}
	file, err := s.fillFile(r, &head, rest, limit)
	if err == nil {
		if err = params.CheckLength(r.ContentLength, length); err != nil {
			file.Remove()
		}
	}
	return file, err
}

func (s *Spool) limits() (bytes int64, memory int) {
	bytes, memory = s.MaxBytes, s.MaxMemory
	if bytes <= 0 {
		bytes = 1 << 30
	}
	if memory <= 0 {
		memory = 64 << 10
	}
	return min(bytes, math.MaxInt64-1), memory // one more byte is read, to see that there is more
}

func (s *Spool) fillFile(r *Request, head *bytes.Buffer, rest io.Reader, limit int64) (*tunnel.TempFile, error) {
	file, err := tunnel.NewTempFile(s.Dir, "gatehouse-body-")
	if err != nil {
		return nil, spoolError{err}
	}
	n, err := io.Copy(spoolWriter{file.File}, io.LimitReader(io.MultiReader(head, rest), limit+1))
	if err == nil && n > limit {
		err = ErrBodyTooLarge
	}
	if err != nil {
		file.Remove()
		return nil, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		file.Remove()
		return nil, spoolError{err}
	}
	r.Body, r.ContentLength = file.File, n // the file itself, which the kernel can send
	r.GetBody = func() (io.Reader, error) { return io.NewSectionReader(file, 0, n), nil }
	return file, nil
}

// A spoolError is an error of a temporary file. It is not fs.ErrNotExist or fs.ErrPermission, which
// are about a script.
type spoolError struct{ err error }

func (e spoolError) Error() string { return "spool: " + e.err.Error() }

func (e spoolError) Is(target error) bool {
	return target != fs.ErrNotExist && target != fs.ErrPermission && errors.Is(e.err, target)
}

// A spoolWriter writes to a temporary file, so that its errors are not taken for those of the body.
type spoolWriter struct{ f *os.File }

func (w spoolWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	if err != nil {
		err = spoolError{err}
	}
	return n, err
}

// A spooledBody is the Body of a response that removes the file when it is closed.
type spooledBody struct {
	io.ReadCloser
	file *tunnel.TempFile
}

// Ready reports whether the wrapped body is ready.
func (b *spooledBody) Ready() bool { return tunnel.Ready(b.ReadCloser) }

func (b *spooledBody) Close() error {
	defer b.file.Remove()
	return b.ReadCloser.Close()
}

// A contextReader ends a copy between two reads when ctx is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
