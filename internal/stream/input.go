package stream

import (
	"io"
	"sync"

	"github.com/gatehouse-go/gatehouse/internal/race"
)

// InputSize is the initial size of a buffer in bytes.
const InputSize = 16 << 10

// An Input reads from a source: it reads ahead, returns views, and grows by what arrived. It must
// be Reset before its first use.
//
// The bytes that were read and not used are mem[r:w]; 0 <= r <= w <= len(mem).
type Input struct {
	src  io.Reader
	mem  []byte
	r, w int
	off  int64 // the offset of mem[r], in bytes since Reset
	err  error // what src returned along with bytes that are not all used yet

	// Budget, if not nil, is asked before TakeBlock copies bytes.
	Budget Budget
}

// A Budget limits the bytes of heads.
type Budget interface {
	// Reserve counts n more bytes, or returns an error.
	Reserve(n int) error
}

// Reset makes b read from src. It keeps its memory.
func (b *Input) Reset(src io.Reader) {
	race.Poison(b.mem)
	*b = Input{src: src, mem: b.mem}
}

// Buffered returns the bytes that were read and not used, a view until the next call on b.
func (b *Input) Buffered() []byte { return b.mem[b.r:b.w:b.w] }

// Len returns the number of buffered bytes.
func (b *Input) Len() int { return b.w - b.r }

// Offset returns the offset of the next byte, counted since Reset.
func (b *Input) Offset() int64 { return b.off }

// Discard uses up n buffered bytes.
func (b *Input) Discard(n int) {
	b.r += n
	b.off += int64(n)
}

// Fill reads once more from the source, after what is buffered. It makes room for at least want
// buffered bytes, so want must not be a length that was merely read.
func (b *Input) Fill(want int) error {
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

// FillHeader is Fill where a message may begin: the end of the input is io.EOF before its first
// byte, and io.ErrUnexpectedEOF after that.
func (b *Input) FillHeader(want int) error {
	err := b.Fill(want)
	if b.Len() > 0 {
		return Cut(err)
	}
	return err
}

func (b *Input) makeRoom(want int) {
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
	mem := make([]byte, max(InputSize, want, 2*b.w))
	copy(mem, b.mem[:b.w])
	race.Poison(b.mem)
	b.mem = mem
}

// Read returns what is buffered, or else reads directly from the source into p.
func (b *Input) Read(p []byte) (int, error) {
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

var pool = sync.Pool{New: func() any { return new([InputSize]byte) }}

// Borrow takes memory from a pool if b has none. Only servers and clients pool; a codec's reader
// owns its memory.
func (b *Input) Borrow() {
	if b.mem == nil {
		b.mem = pool.Get().(*[InputSize]byte)[:]
	}
}

// Return returns the memory of an empty buffer to the pool. Memory that has grown is dropped.
func (b *Input) Return() {
	if b.r != b.w || b.mem == nil {
		return
	}
	race.Poison(b.mem)
	if len(b.mem) == InputSize && !race.Enabled {
		pool.Put((*[InputSize]byte)(b.mem))
	}
	b.mem, b.r, b.w = nil, 0, 0
}

// Drain discards bytes as they arrive, until there were enough of them or the input ends.
func (b *Input) Drain(enough int) {
	for end := b.off + int64(enough); b.off < end; {
		b.Discard(b.Len())
		if b.Fill(1) != nil {
			return
		}
	}
}

// Space returns memory into which the caller may read, after Borrow. Add says how much it read.
func (b *Input) Space() []byte {
	b.makeRoom(1)
	return b.mem[b.w:]
}

// Add notes that n bytes were read into Space.
func (b *Input) Add(n int) { b.w += n }
