package gateway

import (
	"iter"

	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/params"
)

// Limits of one head, besides the limit on its bytes. A reader returns ErrTooLarge above one of
// them.
const (
	// MaxPairs is the maximum number of params of a request, or of fields of a response.
	MaxPairs = params.MaxPairs

	// MaxNameBytes is the maximum length of a name in bytes.
	MaxNameBytes = params.MaxNameBytes

	// MaxValueBytes is the maximum length of a value in bytes.
	MaxValueBytes = params.MaxValueBytes
)

// Params are the CGI meta-variables of a request, RFC 3875 section 4.1, in the order of the wire.
// They own their bytes. The zero value is ready. They must not be copied; see CopyFrom. A nil
// *Params reads as empty. Names match byte for byte.
type Params pairs.List

var noPairs pairs.List // what a nil *Params or *Header reads as; it is never written

func (p *Params) list() *pairs.List { return (*pairs.List)(p) }

// read returns the list to read from.
func (p *Params) read() *pairs.List {
	if p == nil {
		return &noPairs
	}
	return p.list()
}

// Add appends a param.
func (p *Params) Add(name, value string) { pairs.Add(p.list(), name, value) }

// AddBytes appends a param. It copies name and value.
func (p *Params) AddBytes(name, value []byte) { pairs.Add(p.list(), name, value) }

// Set replaces the params of that name by one: in the place of the first, or at the end.
func (p *Params) Set(name, value string) { p.list().Set(name, value, false) }

// Del removes every param of that name.
func (p *Params) Del(name string) { p.list().Delete(name, 0, false) }

// Get returns a copy of the first value of name, or "" if there is none.
func (p *Params) Get(name string) string {
	value, _ := p.Lookup(name)
	return string(value)
}

// Lookup returns the first value of name. It is a view, valid until p next changes.
func (p *Params) Lookup(name string) (value []byte, ok bool) {
	l := p.read()
	if i := l.Find(name, 0); i >= 0 {
		return l.Value(i), true
	}
	return nil, false
}

// All returns an iterator over the params in the order of the wire. Names and values are views,
// valid until p next changes; p must not change in the loop.
func (p *Params) All() iter.Seq2[[]byte, []byte] { return p.read().All() }

// Len returns the number of params.
func (p *Params) Len() int { return p.read().Len() }

// Reset removes all params and keeps the memory.
func (p *Params) Reset() { p.list().Reset() }

// CopyFrom makes p a copy of src that shares nothing with it. The memory of p is reused.
func (p *Params) CopyFrom(src *Params) { p.list().CopyFrom(src.read()) }
