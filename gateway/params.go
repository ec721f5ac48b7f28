package gateway

import (
	"iter"

	"github.com/gatehouse-go/gatehouse/internal/hook"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
)

// Caps on what a reader takes in one head, besides the limit on its bytes. Above one of them it returns ErrTooLarge.
const (
	MaxPairs      = 1000     // params of a request, fields of a response
	MaxNameBytes  = 8 << 10  // a name
	MaxValueBytes = 64 << 10 // a value
)

// Params are the CGI meta-variables of a request, RFC 3875 section 4.1, in wire order. They own their bytes. The zero
// value is ready. Do not copy; see CopyFrom. A nil *Params reads as empty. Names match byte for byte.
type Params struct {
	noCopy noCopy
	list   pairs.List
}

// noCopy makes go vet refuse a copy.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

func init() {
	hook.Params = func(p any) *pairs.List { return &p.(*Params).list }
}

var noPairs pairs.List // what a nil *Params or *Header reads as; never written

func (p *Params) read() *pairs.List {
	if p == nil {
		return &noPairs
	}
	return &p.list
}

// Add appends a param.
func (p *Params) Add(name, value string) { pairs.Add(&p.list, name, value) }

// AddBytes appends a param; it copies name and value.
func (p *Params) AddBytes(name, value []byte) { pairs.Add(&p.list, name, value) }

// Set gives name this one value: in the place of the first param of that name, or at the end.
func (p *Params) Set(name, value string) {
	i := p.list.Find(name, 0)
	if i < 0 {
		p.Add(name, value)
		return
	}
	pairs.SetValue(&p.list, i, value)
	for j := p.list.Find(name, i+1); j >= 0; j = p.list.Find(name, j) {
		p.list.Delete(j)
	}
}

// Del removes every param of that name.
func (p *Params) Del(name string) {
	for i := p.list.Find(name, 0); i >= 0; i = p.list.Find(name, i) {
		p.list.Delete(i)
	}
}

// Get returns a copy of the first value of name, "" if there is none.
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

// All yields every param in wire order. Names and values are views, valid until p next changes; p must not change in
// the loop.
func (p *Params) All() iter.Seq2[[]byte, []byte] { return p.read().All() }

// Len is the number of params.
func (p *Params) Len() int { return p.read().Len() }

// Reset removes all params and keeps the memory.
func (p *Params) Reset() { p.list.Reset() }

// CopyFrom makes p a copy of src that shares nothing with it; p's memory is used again.
func (p *Params) CopyFrom(src *Params) { p.list.CopyFrom(src.read()) }
