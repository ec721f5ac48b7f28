package stream

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/gatehouse-go/gatehouse/internal/race"
)

func TestBuffer(t *testing.T) {
	text := strings.Repeat("0123456789", 5000)
	for name, src := range map[string]io.Reader{
		"whole": strings.NewReader(text), "bytes": iotest.OneByteReader(strings.NewReader(text)),
		"halves": iotest.HalfReader(strings.NewReader(text)), "error with data": iotest.DataErrReader(strings.NewReader(text)),
	} {
		var b Input
		b.Reset(src)
		var got []byte
		for i := 0; ; i++ {
			if err := b.Fill(1 + i%100); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(name, err)
			}
			n := (b.Len() + 1) / 2
			got = append(got, b.Buffered()[:n]...)
			b.Discard(n)
			p := make([]byte, 3)
			n, err := b.Read(p)
			if err != nil && err != io.EOF {
				t.Fatal(name, err)
			}
			got = append(got, p[:n]...)
		}
		got = append(got, b.Buffered()...)
		if string(got) != text || b.Offset() != int64(len(text)-b.Len()) {
			t.Errorf("%s: %d bytes, offset %d", name, len(got), b.Offset())
		}
	}
}

func TestNoProgress(t *testing.T) {
	var b Input
	b.Reset(readerFunc(func(p []byte) (int, error) { return 0, nil }))
	if err := b.Fill(1); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("got %v", err)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestReturn(t *testing.T) {
	var b Input
	b.Reset(strings.NewReader("left"))
	b.Borrow()
	b.Fill(1)
	b.Return()
	if b.mem == nil || string(b.Buffered()) != "left" {
		t.Error("bytes that were left are gone")
	}
	b.Discard(4)
	b.Return()
	if b.mem != nil {
		t.Error("the memory is kept")
	}
	// What has grown does not come back.
	b.Reset(bytes.NewReader(make([]byte, 100<<10)))
	b.Fill(50 << 10)
	b.Fill(50 << 10)
	b.Discard(b.Len())
	b.Return()
	if race.Enabled {
		return
	}
	for range 10 {
		if b.Borrow(); len(b.mem) != InputSize {
			t.Errorf("borrowed %d bytes", len(b.mem))
		}
		b.Return()
	}
}
