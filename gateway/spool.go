package gateway

import (
	"bytes"
	"context"
	"io"
	"math"
	"os"

	"github.com/gatehouse-go/gatehouse/internal/tunnel"
)

// Spool is a RoundTripper that gives a length to a body that has none: it reads the body to its end, into memory and
// then into a temporary file, before it asks Backend. A request whose length is known passes as it is. The file is gone
// when the answer's Body is closed, and on every path that gives none.
type Spool struct {
	Backend   RoundTripper
	MaxBytes  int64  // 0 stands for 1 GiB; above it ErrBodyTooLarge
	MaxMemory int    // 0 stands for 64 KiB
	Dir       string // "" stands for os.TempDir
}

// RoundTrip reads r's body if its length is not known and sends the request with it.
func (s *Spool) RoundTrip(ctx context.Context, r *Request, res *Response) error {
	if r.ContentLength >= 0 {
		return s.Backend.RoundTrip(ctx, r, res)
	}
	res.Reset()
	var out Request
	out.CopyFrom(r)
	file, err := s.fill(ctx, &out)
	if err != nil {
		return &Error{Phase: PhaseRequest, Err: err}
	}
	if file == nil {
		return s.Backend.RoundTrip(ctx, &out, res)
	}
	if err := s.Backend.RoundTrip(ctx, &out, res); err != nil {
		file.remove()
		return err
	}
	res.Body = &spooledBody{res.Body, file}
	return nil
}

// fill reads the body of r and gives r one of known length.
func (s *Spool) fill(ctx context.Context, r *Request) (*spoolFile, error) {
	body := &contextReader{ctx, r.Body}
	limit, memory := s.limits()
	if r.Body == nil {
		r.SetBody(nil)
		return nil, nil
	}
	var head bytes.Buffer
	n, err := io.CopyN(&head, body, min(int64(memory), limit)+1)
	if err == io.EOF {
		r.SetBody(head.Bytes())
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, ErrBodyTooLarge
	}
	return s.fillFile(r, &head, body, limit)
}

func (s *Spool) limits() (bytes int64, memory int) {
	bytes, memory = s.MaxBytes, s.MaxMemory
	if bytes <= 0 {
		bytes = 1 << 30
	}
	if memory <= 0 {
		memory = 64 << 10
	}
	return min(bytes, math.MaxInt64-1), memory // one more is read, to see that there is more
}

func (s *Spool) fillFile(r *Request, head *bytes.Buffer, rest io.Reader, limit int64) (*spoolFile, error) {
	f, err := os.CreateTemp(s.Dir, "gatehouse-body-")
	if err != nil {
		return nil, err
	}
	file := &spoolFile{File: f}
	file.unlink()
	n, err := io.Copy(file, io.LimitReader(io.MultiReader(head, rest), limit+1))
	if err == nil && n > limit {
		err = ErrBodyTooLarge
	}
	if err != nil {
		file.remove()
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		file.remove()
		return nil, err
	}
	r.Body, r.ContentLength = f, n // the file itself: the kernel may send it
	r.GetBody = func() (io.Reader, error) { return io.NewSectionReader(file, 0, n), nil }
	return file, nil
}

// spoolFile is a temporary file that has no name where the system allows that, so that not even a crash leaves it.
type spoolFile struct {
	*os.File
	gone bool
}

func (f *spoolFile) unlink() { f.gone = os.Remove(f.Name()) == nil }

func (f *spoolFile) remove() {
	f.Close()
	if !f.gone {
		f.unlink()
	}
}

// spooledBody is an answer's Body that ends the file's life with its own.
type spooledBody struct {
	io.ReadCloser
	file *spoolFile
}

// Ready is that of the body it wraps.
func (b *spooledBody) Ready() bool { return tunnel.Ready(b.ReadCloser) }

func (b *spooledBody) Close() error {
	defer b.file.remove()
	return b.ReadCloser.Close()
}

// contextReader ends a copy between two reads.
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
