// Package track tells when a response has ended.
package track

import (
	"errors"
	"io"
	"sync"
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
//
// After Close it keeps nothing of the response: the slab lives longer.
type Body struct {
	mu   sync.Mutex
	body io.ReadCloser // nil after Close
	end  End
	over atomic.Bool
}

var errClosed = errors.New("gateway: read on closed body")

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

func (b *Body) current() io.ReadCloser {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.body
}

func (b *Body) Read(p []byte) (int, error) {
	body := b.current()
	if body == nil {
		return 0, errClosed
	}
	n, err := body.Read(p)
	if err != nil {
		b.ended(err)
	}
	return n, err
}

// Ready reports whether Read can return without waiting.
func (b *Body) Ready() bool {
	body := b.current()
	return body != nil && tunnel.Ready(body)
}

// Close closes the body. The End is called even if that panics.
func (b *Body) Close() error {
	b.mu.Lock()
	body := b.body
	b.body = nil
	b.mu.Unlock()
	if body == nil {
		return nil
	}
	defer b.ended(nil)
	return body.Close()
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
