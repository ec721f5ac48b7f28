package pairs

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"slices"
)

// A joiner is the scratch memory of Join.
type joiner struct {
	table []uint16 // open addressing: index of a pair plus one
	size  []uint32 // bytes that duplicates add to the value of the pair of the same index
	dups  []dup
}

// A dup says that pair `pair` has the name of pair `first`, which precedes it.
type dup struct{ pair, first uint16 }

// MaxJoin limits the pairs that Join accepts.
const MaxJoin = 1 << 15

var seed = maphash.MakeSeed()

// few is the largest list for which hash collisions, even deliberate ones, cost little.
const few = 64

func seededHash(name []byte) uint64 { return maphash.Bytes(seed, name) }

// quickHash mixes the length and both ends of a name, in which the fields of HTTP differ.
func quickHash(name []byte) uint64 {
	const odd = 0x9e3779b97f4a7c15 // of the golden ratio: it spreads differences over the upper bits
	var head, tail uint64
	if n := len(name); n >= 8 {
		head, tail = binary.LittleEndian.Uint64(name), binary.LittleEndian.Uint64(name[n-8:])
	} else {
		for _, c := range name {
			head = head<<8 | uint64(c)
		}
	}
	h := (head ^ tail<<1 ^ uint64(len(name))) * odd
	return h >> 32
}

// Join makes every name unique. join returns the separator with which the values of a repeated name
// are joined, in order. If it returns "", equal values become one, and values that differ make Join
// return the index of the second. Join returns -1 on success. Its cost is linear in the bytes of
// the list, for any names.
func (l *List) Join(join func(name []byte) string) int {
	l.joins.find(l)
	if len(l.joins.dups) == 0 {
		return -1
	}
	return l.joins.apply(l, join)
}

// Repeats reports whether a name is repeated.
func (l *List) Repeats() bool {
	l.joins.find(l)
	return len(l.joins.dups) > 0
}

// find lists the duplicates of l.
func (j *joiner) find(l *List) {
	j.dups = j.dups[:0]
	if len(l.pairs) > MaxJoin {
		panic("gateway: too many pairs to compare")
	}
	slots := 8
	for slots < 2*len(l.pairs) {
		slots *= 2
	}
	j.table = slices.Grow(j.table[:0], slots)[:slots]
	clear(j.table)
	mask := uint64(slots - 1)
	hash := quickHash
	if len(l.pairs) > few {
		hash = seededHash
	}
	for i := range l.pairs {
		name := l.Name(i)
		for h := hash(name) & mask; ; h = (h + 1) & mask {
			if j.table[h] == 0 {
				j.table[h] = uint16(i + 1)
				break
			}
			if first := int(j.table[h] - 1); bytes.Equal(l.Name(first), name) {
				j.dups = append(j.dups, dup{uint16(i), uint16(first)})
				break
			}
		}
	}
}

// apply joins the duplicates that find listed. Every joined value is built once, at the end of the
// buffer: growing it with each duplicate would have quadratic cost.
func (j *joiner) apply(l *List, join func(name []byte) string) int {
	j.size = slices.Grow(j.size[:0], len(l.pairs))[:len(l.pairs)]
	clear(j.size)
	for _, d := range j.dups {
		first, again := int(d.first), int(d.pair)
		sep := join(l.Name(first))
		switch {
		case sep != "":
			j.size[first] += uint32(len(sep) + len(l.Value(again)))
		case !bytes.Equal(l.Value(first), l.Value(again)):
			return again
		}
	}
	for _, d := range j.dups {
		j.extend(l, int(d.first), l.Value(int(d.pair)), join(l.Name(int(d.first))))
	}
	j.drop(l)
	return -1
}

// extend appends value to that of pair first. The first time it reserves the space for all
// duplicates.
func (j *joiner) extend(l *List, first int, value []byte, sep string) {
	if sep == "" {
		return
	}
	p := &l.pairs[first]
	if add := int(j.size[first]); add > 0 {
		old := l.Value(first)
		at := l.room(len(old) + add)
		l.buf = append(l.buf, old...)
		l.buf = slices.Grow(l.buf, add)[:len(l.buf)+add]
		p.value, p.valueEnd = uint32(at), uint32(at+len(old))
		j.size[first] = 0
	}
	n := copy(l.buf[p.valueEnd:], sep)
	n += copy(l.buf[int(p.valueEnd)+n:], value)
	p.valueEnd += uint32(n)
}

// drop removes the duplicates, which are in ascending order.
func (j *joiner) drop(l *List) {
	k, next := 0, 0
	for i := range l.pairs {
		if next < len(j.dups) && int(j.dups[next].pair) == i {
			next++
			continue
		}
		l.pairs[k] = l.pairs[i]
		k++
	}
	l.pairs = l.pairs[:k]
}
