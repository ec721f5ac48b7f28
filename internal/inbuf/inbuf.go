// Package inbuf is the one input buffer of a reader: it reads ahead, hands out views, and grows by what arrived.
package inbuf

import (
	"io"
	"sync"

	"github.com/gatehouse-go/gatehouse/internal/race"
)

// Size is how many bytes a buffer has at first.
const Size = 16 << 10

// Buffer reads from a source. Its zero value must be Reset.
//
// The bytes read and not yet used are mem[r:w]; 0 <= r <= w <= len(mem).
type Buffer struct {
	src  io.Reader
	mem  []byte
	r, w int
	off  int64 // of mem[r], in bytes since Reset
	err  error // what src said along with bytes that are not all used yet
}

// Reset makes b read from src and forget what it had; it keeps its memory.
func (b *Buffer) Reset(src io.Reader) {
	race.Poison(b.mem)
	*b = Buffer{src: src, mem: b.mem}
}

// Buffered is a view of the bytes read and not yet used, valid until the next call on b.
func (b *Buffer) Buffered() []byte { return b.mem[b.r:b.w:b.w] }

// Len is the number of buffered bytes.
func (b *Buffer) Len() int { return b.w - b.r }

// Offset is that of the next byte, counted since Reset.
func (b *Buffer) Offset() int64 { return b.off }

// Discard uses up n buffered bytes.
func (b *Buffer) Discard(n int) {
	b.r += n
	b.off += int64(n)
}

// Fill reads once more from the source, after what is buffered. It makes room for at least want buffered bytes in all,
// so want must come from what was promised and checked, not from a length on the wire alone.
func (b *Buffer) Fill(want int) error {
	if b.err != nil {
		return b.err
	}
	b.makeRoom(want)
	n, err := readSome(b.src, b.mem[b.w:])
	b.w += n
	if n > 0 {
		b.err = err
		return nil
	}
	return err
}

func (b *Buffer) makeRoom(want int) {
	race.Poison(b.mem[:b.r])
	switch {
	case b.r == b.w:
		b.r, b.w = 0, 0
	case b.r > 0 && (b.w == len(b.mem) || len(b.mem)-b.r < want):
		b.w = copy(b.mem, b.mem[b.r:b.w])
		b.r = 0
	}
	if len(b.mem) > max(b.w, want-1) {
		return
	}
	mem := make([]byte, max(Size, want, 2*b.w))
	copy(mem, b.mem[:b.w])
	race.Poison(b.mem)
	b.mem = mem
}

// Read gives what is buffered, and reads straight from the source into p when nothing is.
func (b *Buffer) Read(p []byte) (int, error) {
	if b.r < b.w {
		n := copy(p, b.mem[b.r:b.w])
		b.Discard(n)
		return n, nil
	}
	if b.err != nil {
		return 0, b.err
	}
	n, err := readSome(b.src, p)
	b.off += int64(n)
	if n > 0 {
		b.err = err
		return n, nil
	}
	return 0, err
}

// readSome reads at least one byte or an error.
func readSome(src io.Reader, p []byte) (int, error) {
	for range 100 {
		if n, err := src.Read(p); n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

var pool = sync.Pool{New: func() any { return new([Size]byte) }}

// Borrow gives b memory from a pool if it has none. Only servers and clients pool; a codec's reader owns its memory.
func (b *Buffer) Borrow() {
	if b.mem == nil {
		b.mem = pool.Get().(*[Size]byte)[:]
	}
}

// Return gives the memory of an empty buffer back; what has grown is dropped.
func (b *Buffer) Return() {
	if b.r != b.w || b.mem == nil {
		return
	}
	race.Poison(b.mem)
	if len(b.mem) == Size && !race.Enabled {
		pool.Put((*[Size]byte)(b.mem))
	}
	b.mem, b.r, b.w = nil, 0, 0
}

// Space is the memory into which a caller may read by itself, after Borrow; Add says how much it read.
func (b *Buffer) Space() []byte {
	b.makeRoom(1)
	return b.mem[b.w:]
}

// Add says that n bytes were read into Space.
func (b *Buffer) Add(n int) { b.w += n }
