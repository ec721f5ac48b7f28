//go:build !unix

package sockets

import "io/fs"

// restrict does nothing: there is no such mode.
func restrict(fd uintptr, mode fs.FileMode) {}

// Peeker looks at a kept connection; not here.
type Peeker struct{}

// NewPeeker returns nil: the system does not let us look.
func NewPeeker(c any) *Peeker { return nil }

// Stale is false: nobody can tell without reading.
func (p *Peeker) Stale() bool { return false }

// Waiter reads from a connection into memory that is only taken when there is something to read; not here.
type Waiter struct{}

// NewWaiter returns nil: the system does not allow it.
func NewWaiter(c any, space func() []byte, idle func()) *Waiter { return nil }

// Read is never called.
func (w *Waiter) Read() (int, error) { panic("unreachable") }

// IsListener reports whether descriptor fd is a socket that listens.
func IsListener(fd int) bool { return false }
