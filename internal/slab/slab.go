// Package slab hands out small objects that are used once and never reused.
//
// A server gives each request a handle of its own (its writer, its body), so that a handler that keeps one after it
// returned cannot reach the next request. Taken one at a time such handles would be an allocation a request; taken
// from a slab they are one allocation in thousands of requests.
package slab

import "sync"

// size is how many handles one allocation holds. At 24 bytes a handle a slab is 96 KiB.
const size = 4096

// Pool gives out handles. The zero value is ready; it may be used by several goroutines at once.
type Pool[T any] struct {
	slabs sync.Pool
}

type slab[T any] struct {
	next  int
	items [size]T
}

// Get returns a zero T that nobody has had before.
func (p *Pool[T]) Get() *T {
	s, _ := p.slabs.Get().(*slab[T])
	if s == nil {
		s = new(slab[T])
	}
	item := &s.items[s.next]
	s.next++
	if s.next < size {
		p.slabs.Put(s)
	}
	return item
}
