// Package track tells when a response has ended.
package track

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/internal/tunnel"
)

// An End is told how a response ended.
type End interface {
	// Ended is called once: with io.EOF if the response is complete, nil if its Body was closed
	// before that, or else the error of Read.
	Ended(err error)
}

// A Body passes on the Body of a response and calls its End. It is used once, so that a Close that
// comes late reaches no other response: it is a part of what its owner takes from a slab.
type Body struct {
	body io.ReadCloser
	end  End
	over atomic.Bool
}

// A stream is a gateway.Stream.
type stream interface {
	io.ReadWriteCloser
	CloseWrite() error
	SetDeadline(t time.Time) error
}

// Track returns body with end. A stream, whose directions end separately, ends with its Close.
func (b *Body) Track(body io.ReadCloser, end End) io.ReadCloser {
	b.body, b.end = body, end
	if s, ok := body.(stream); ok {
		return &tracked{s, b}
	}
	return b
}

func (b *Body) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err != nil {
		b.ended(err)
	}
	return n, err
}

// Ready reports whether Read can return without waiting.
func (b *Body) Ready() bool { return tunnel.Ready(b.body) }

func (b *Body) Close() error {
	err := b.body.Close()
	b.ended(nil)
	return err
}

func (b *Body) ended(err error) {
	if !b.over.Swap(true) {
		b.end.Ended(err)
	}
}

// A tracked is a stream whose Close calls the End.
type tracked struct {
	stream
	b *Body
}

func (t *tracked) Close() error { return t.b.Close() }
