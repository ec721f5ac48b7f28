package params

import (
	"fmt"

	"github.com/gatehouse-go/gatehouse/internal/pairs"
)

// A Pair says where a pair lies in a slice that begins with it. It has only four fields, because
// the compiler keeps no larger struct in registers; a fifth makes decoding three times slower.
type Pair struct{ Name, NameEnd, Value, ValueEnd int }

// A Marker makes pairs of the bytes of l from offset at on, up to the first that is not whole, and
// returns how many bytes they had. Every protocol has its own loop: a call of a function value for
// each pair would be most of the cost.
type Marker func(l *pairs.List, at int) (n int, err error)

// Put makes a pair of the bytes of l in which p lies, from offset at on.
func Put(l *pairs.List, at int, p Pair) {
	l.Mark(at+p.Name, at+p.NameEnd, at+p.Value, at+p.ValueEnd)
}

// Fault returns the error for a pair of that size, which a Marker did not add: nil if the pair is
// incomplete.
func Fault(size int) error {
	switch {
	case size < 0:
		return fmt.Errorf("param with an empty name: %w", ErrMalformed)
	case size > 0:
		return fmt.Errorf("more than %d params: %w", MaxPairs, ErrTooLarge)
	}
	return nil
}

// Has reports whether s holds the byte c. No param may hold a NUL.
func Has[S ~string | ~[]byte](s S, c byte) bool {
	for i := range len(s) {
		if s[i] == c {
			return true
		}
	}
	return false
}

// Views returns the pair at the start of b as ConsumeParam of a protocol does.
func Views(b []byte, p Pair, size int) (name, value []byte, n int) {
	if size <= 0 {
		return nil, nil, size
	}
	return b[p.Name:p.NameEnd:p.NameEnd], b[p.Value:p.ValueEnd:p.ValueEnd], size
}

// Append appends every pair of l with add.
func Append(dst []byte, l *pairs.List, add func(dst, name, value []byte) ([]byte, error)) ([]byte, error) {
	b := dst
	for i := range l.Len() {
		var err error
		if b, err = add(b, l.Name(i), l.Value(i)); err != nil {
			return dst, err
		}
	}
	return b, nil
}

// Consume adds every whole pair at the start of b to l and returns how many bytes they had. On an
// error n is -1 and l is unchanged. protocol is for errors.
func Consume(protocol string, b []byte, l *pairs.List, mark Marker) (n int, err error) {
	at, count := l.Size(), l.Len()
	l.AppendRaw(b)
	n, err = mark(l, at)
	if err != nil {
		l.Truncate(count, at)
		return -1, fmt.Errorf("%s: %w", protocol, err)
	}
	l.Truncate(l.Len(), at+n)
	return n, nil
}

// MarkAll makes pairs of the bytes of a whole head. One that ends inside a pair is malformed.
// protocol is for errors.
func MarkAll(protocol string, l *pairs.List, mark Marker) error {
	n, err := mark(l, 0)
	if err == nil && n < l.Size() {
		err = fmt.Errorf("params end inside a pair: %w", ErrMalformed)
	}
	return Prefixed(protocol, err)
}

// Prefixed puts protocol in front of err, if there is one.
func Prefixed(protocol string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", protocol, err)
}
