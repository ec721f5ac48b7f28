// Package slab hands out objects that are used once and never reused.
//
// A server gives each request a handle of its own (its request, its writer, its body), so that a handler that keeps one
// after it returned cannot reach the next request. Taken one at a time such handles would be an allocation a request;
// taken from a slab they are one allocation in hundreds or thousands of requests.
package slab

import (
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	least    = 16      // objects in a slab
	most     = 4096    // objects in a slab
	maxBytes = 1 << 20 // of a slab
)

// Pool gives out objects. The zero value is ready; it may be used by several goroutines at once.
type Pool[T any] struct {
	slabs sync.Pool // of *slab[T]
	size  atomic.Int32
}

// slab is what is left of one allocation.
type slab[T any] struct{ items []T }

// Get returns a zero T that nobody has had before. others is how many more are in use now: one that stays in use for
// long keeps its whole slab from being freed, so the more there are, the smaller are the slabs. However many stay, what
// they hold beyond themselves grows with their logarithm.
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

// next is the size of the next slab. Slabs double, so that who needs few has few.
func (p *Pool[T]) next(others int) int {
	var item T
	limit := min(most, maxBytes/int(unsafe.Sizeof(item)))
	size := max(int(p.size.Load()), least)
	p.size.Store(int32(min(2*size, limit)))
	return max(min(size, limit/(1+others)), least)
}
