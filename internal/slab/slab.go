// Package slab hands out objects that are used once and never reused.
//
// A server gives each request its own objects (its request, its writer, its body), so that a
// handler that keeps one after it returned cannot reach the next request. Taken one at a time such
// objects would cost an allocation for each request. Taken from a slab they cost one allocation for
// hundreds or thousands of requests.
package slab

import (
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	least    = 16      // objects in a slab
	most     = 4096    // objects in a slab
	maxBytes = 1 << 20 // bytes in a slab
)

// A Pool hands out objects. The zero value is ready. It may be used by several goroutines at once.
type Pool[T any] struct {
	slabs sync.Pool // of *slab[T]
	size  atomic.Int32
}

// A slab is the rest of one allocation.
type slab[T any] struct{ items []T }

// Get returns a zero T that was not returned before. others is the number of objects that are in
// use: an object that is used for long keeps its slab from being freed, so slabs are smaller when
// more objects are in use. What the objects in use keep beyond themselves grows with the logarithm
// of their number.
func (p *Pool[T]) Get(others int) *T {
	s, _ := p.slabs.Get().(*slab[T])
	if s == nil {
		s = new(slab[T])
	}
	if len(s.items) == 0 {
		s.items = make([]T, p.next(others))
	}
	item := &s.items[0]
	s.items = s.items[1:]
	p.slabs.Put(s)
	return item
}

// next returns the size of the next slab. Slab sizes double, so a quiet server keeps few.
func (p *Pool[T]) next(others int) int {
	var item T
	limit := min(most, maxBytes/int(unsafe.Sizeof(item)))
	size := max(int(p.size.Load()), least)
	p.size.Store(int32(min(2*size, limit)))
	return max(min(size, limit/(1+others)), least)
}
