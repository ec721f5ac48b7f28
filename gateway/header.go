package gateway

import (
	"iter"

	"github.com/gatehouse-go/gatehouse/internal/pairs"
)

// Header holds the fields of a response's head, in order. It owns its bytes. The zero value is
// ready. It must not be copied; see CopyFrom. A nil *Header reads as empty. Names match without
// regard to case and keep the case they came in.
type Header pairs.List

func (h *Header) list() *pairs.List { return (*pairs.List)(h) }

// read returns the list to read from.
func (h *Header) read() *pairs.List {
	if h == nil {
		return &noPairs
	}
	return h.list()
}

// Add appends a field.
func (h *Header) Add(name, value string) { pairs.Add(h.list(), name, value) }

// AddBytes appends a field. It copies name and value.
func (h *Header) AddBytes(name, value []byte) { pairs.Add(h.list(), name, value) }

// Set replaces the fields of that name by one: in the place of the first, or at the end.
func (h *Header) Set(name, value string) {
	h.list().Set(name, value, true)
}

// Del removes every field of that name.
func (h *Header) Del(name string) { h.list().Delete(name, 0, true) }

// Get returns a copy of the first value of name, or "" if there is none.
func (h *Header) Get(name string) string {
	value, _ := h.Lookup(name)
	return string(value)
}

// Lookup returns the first value of name. It is a view, valid until h next changes.
func (h *Header) Lookup(name string) (value []byte, ok bool) {
	l := h.read()
	if i := l.FindFold(name, 0); i >= 0 {
		return l.Value(i), true
	}
	return nil, false
}

// Values returns an iterator over the values of name in order, such as those of Set-Cookie. They
// are views, valid until h next changes; h must not change in the loop.
func (h *Header) Values(name string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		l := h.read()
		for i := l.FindFold(name, 0); i >= 0; i = l.FindFold(name, i+1) {
			if !yield(l.Value(i)) {
				return
			}
		}
	}
}

// All returns an iterator over the fields in order. Names and values are views, valid until h next
// changes; h must not change in the loop.
func (h *Header) All() iter.Seq2[[]byte, []byte] { return h.read().All() }

// Len returns the number of fields.
func (h *Header) Len() int { return h.read().Len() }

// Reset removes all fields and keeps the memory.
func (h *Header) Reset() { h.list().Reset() }

// CopyFrom makes h a copy of src that shares nothing with it. The memory of h is reused.
func (h *Header) CopyFrom(src *Header) { h.list().CopyFrom(src.read()) }
