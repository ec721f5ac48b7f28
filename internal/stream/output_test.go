package stream

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/internal/params"
)

// writes is a Writer that records the sizes of its writes.
type writes struct {
	bytes.Buffer
	sizes []int
}

func (w *writes) Write(p []byte) (int, error) {
	w.sizes = append(w.sizes, len(p))
	return w.Buffer.Write(p)
}

func TestWriteBody(t *testing.T) {
	for _, c := range []struct {
		name   string
		body   io.Reader
		length int64
		want   error
		writes int
	}{
		{"a small body is sent with its head", strings.NewReader("12345"), 5, nil, 1},
		{"a body in memory is shorter than its length", strings.NewReader("1234"), 5, params.ErrShortBody, 0},
		{"a body in memory is longer than its length", strings.NewReader("123456"), 5, params.ErrLongBody, 0},
		{"a stream is shorter than its length", io.MultiReader(strings.NewReader("1234")), 5, params.ErrShortBody, -1},
		{"a stream is longer than its length", io.MultiReader(strings.NewReader("123456")), 5, params.ErrLongBody, -1},
		{"a body of unknown length", io.MultiReader(strings.NewReader("12345")), -1, nil, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var dst writes
			var o Output
			o.Reset(&dst)
			o.B = append(o.B, "head"...)
			o.Count()
			err := WriteBody(&o, c.body, c.length)
			if err == nil {
				err = o.Flush()
			}
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if c.writes >= 0 && len(dst.sizes) != c.writes {
				t.Errorf("%d writes, want %d", len(dst.sizes), c.writes)
			}
			if err == nil && (dst.String() != "head12345" || o.Content.Load() != 5) {
				t.Errorf("%q, %d bytes of content", &dst, o.Content.Load())
			}
			if err != nil && o.Failed != nil {
				t.Errorf("an error of the body is reported as one of the connection: %v", o.Failed)
			}
		})
	}
}

// failing accepts n bytes and then fails.
type failing struct{ n int }

var errFull = errors.New("full")

func (f *failing) Write(p []byte) (int, error) {
	n := min(f.n, len(p))
	if f.n -= n; n < len(p) {
		return n, errFull
	}
	return n, nil
}

func TestOutputFails(t *testing.T) {
	for n, sent := range map[int]bool{0: false, 3: true} {
		var o Output
		o.Reset(&failing{n})
		o.B = append(o.B, "head"...)
		if err := o.Flush(); !errors.Is(err, errFull) || !errors.Is(o.Failed, errFull) || o.Sent.Load() != sent {
			t.Errorf("%d bytes accepted: %v, Failed %v, Sent %v", n, err, o.Failed, o.Sent.Load())
		}
	}
}

func TestStoppedBodyIsNotRead(t *testing.T) {
	var o Output
	o.Reset(io.Discard)
	o.Stopped.Store(true)
	read := false
	body := readerFunc(func(p []byte) (int, error) { read = true; return 0, io.EOF })
	if err := WriteBody(&o, body, -1); !errors.Is(err, ErrStopped) || read {
		t.Errorf("%v, read: %v", err, read)
	}
}
