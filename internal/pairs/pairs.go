// Package pairs holds name-value pairs in one buffer with offsets into it, without a map and
// without a string for each value. gateway.Params and gateway.Header are such lists. A codec fills
// one by copying a block of the wire and marking its names and values.
package pairs

import (
	"bytes"
	"iter"
	"math"
	"slices"

	"github.com/gatehouse-go/gatehouse/internal/grammar"
	"github.com/gatehouse-go/gatehouse/internal/race"
)

// A List holds pairs in order. The zero value is ready. It owns its bytes. It must not be copied;
// see CopyFrom and Take.
type List struct {
	noCopy noCopy

	buf   []byte
	pairs []pair
	joins joiner
}

// noCopy makes go vet refuse a copy.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// A pair says where a name and a value lie in buf.
type pair struct{ name, nameEnd, value, valueEnd uint32 }

// Len returns the number of pairs.
func (l *List) Len() int { return len(l.pairs) }

// Name returns a view of the name of pair i.
func (l *List) Name(i int) []byte {
	p := &l.pairs[i]
	return l.buf[p.name:p.nameEnd:p.nameEnd]
}

// Value returns a view of the value of pair i.
func (l *List) Value(i int) []byte {
	p := &l.pairs[i]
	return l.buf[p.value:p.valueEnd:p.valueEnd]
}

// Find returns the index of the first pair from start on with that name, or -1.
func (l *List) Find(name string, start int) int {
	for i := start; i < len(l.pairs); i++ {
		p := &l.pairs[i]
		if int(p.nameEnd-p.name) == len(name) && string(l.buf[p.name:p.nameEnd]) == name {
			return i
		}
	}
	return -1
}

// FindBytes is Find from the first pair on. A nil list is empty.
func (l *List) FindBytes(name []byte) int {
	if l == nil {
		return -1
	}
	return slices.IndexFunc(l.pairs, func(p pair) bool { return bytes.Equal(l.buf[p.name:p.nameEnd], name) })
}

// FindFold is Find without regard to the case of ASCII letters.
func (l *List) FindFold(name string, start int) int {
	for i := start; i < len(l.pairs); i++ {
		p := &l.pairs[i]
		if int(p.nameEnd-p.name) == len(name) && grammar.EqualFold(l.buf[p.name:p.nameEnd], name) {
			return i
		}
	}
	return -1
}

// All returns an iterator over views of the pairs.
func (l *List) All() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for i := range l.pairs {
			if !yield(l.Name(i), l.Value(i)) {
				return
			}
		}
	}
}

// Add appends a pair.
func Add[N, V ~string | ~[]byte](l *List, name N, value V) {
	at := l.room(len(name) + len(value))
	l.buf = append(append(l.buf, name...), value...)
	mid := at + len(name)
	l.Mark(at, mid, mid, mid+len(value))
}

// Set sets the value of the first pair of that name, or appends one, and removes the others. fold
// means that the case of ASCII letters does not count.
func (l *List) Set(name, value string, fold bool) {
	i := l.find(name, 0, fold)
	if i < 0 {
		Add(l, name, value)
		return
	}
	SetValue(l, i, value)
	l.Delete(name, i+1, fold)
}

// Delete removes the pairs of that name from start on.
func (l *List) Delete(name string, start int, fold bool) {
	for i := l.find(name, start, fold); i >= 0; i = l.find(name, i, fold) {
		l.pairs = slices.Delete(l.pairs, i, i+1)
	}
}

func (l *List) find(name string, start int, fold bool) int {
	if fold {
		return l.FindFold(name, start)
	}
	return l.Find(name, start)
}

// SetValue sets the value of pair i. The bytes of the old value stay in the buffer until Reset.
func SetValue[V ~string | ~[]byte](l *List, i int, value V) {
	at := l.room(len(value))
	l.buf = append(l.buf, value...)
	l.pairs[i].value, l.pairs[i].valueEnd = uint32(at), uint32(at+len(value))
}

// room returns the offset of the next byte. Offsets have 32 bits. A longer list is an error of the
// program: every reader of untrusted bytes stops far below.
func (l *List) room(n int) int {
	if int64(len(l.buf))+int64(n) > math.MaxUint32 {
		panic("gateway: more than 4 GiB in one list of params or fields")
	}
	return len(l.buf)
}

// Raw returns the buffer from offset at on, a view until the list changes.
func (l *List) Raw(at int) []byte { return l.buf[at:len(l.buf):len(l.buf)] }

// Size returns the number of bytes in the buffer, which is the offset of what AppendRaw adds next.
func (l *List) Size() int { return len(l.buf) }

// AppendRaw copies b to the end of the buffer without making a pair of it.
func (l *List) AppendRaw(b []byte) {
	l.room(len(b))
	l.buf = append(l.buf, b...)
}

// Mark makes a pair of bytes that are in the buffer.
func (l *List) Mark(name, nameEnd, value, valueEnd int) {
	l.pairs = append(l.pairs, pair{uint32(name), uint32(nameEnd), uint32(value), uint32(valueEnd)})
}

// Truncate removes all but the first n pairs and size bytes, which must be earlier results of Len
// and Size.
func (l *List) Truncate(n, size int) {
	race.Poison(l.buf[size:])
	l.pairs, l.buf = l.pairs[:n], l.buf[:size]
}

// DeleteFunc removes every pair for which drop returns true.
func (l *List) DeleteFunc(drop func(name []byte) bool) {
	l.pairs = slices.DeleteFunc(l.pairs, func(p pair) bool { return drop(l.buf[p.name:p.nameEnd]) })
}

// Reset empties the list and keeps its memory.
func (l *List) Reset() {
	race.Poison(l.buf[:cap(l.buf)])
	l.pairs, l.buf = l.pairs[:0], l.buf[:0]
}

// Take moves the contents and the memory of src to l. src is then empty.
func (l *List) Take(src *List) {
	l.buf, l.pairs, l.joins = src.buf, src.pairs, src.joins
	src.buf, src.pairs, src.joins = nil, nil, joiner{}
}

// Cap returns the number of bytes of memory that the list keeps, for pools that drop large lists.
func (l *List) Cap() int { return cap(l.buf) + cap(l.pairs)*16 }

// CopyFrom makes l a copy of src that shares nothing with it.
func (l *List) CopyFrom(src *List) {
	if l == src {
		return
	}
	l.Reset()
	l.buf = append(l.buf, src.buf...)
	l.pairs = append(l.pairs, src.pairs...)
}
