//go:build !unix

package sockets

import (
	"io/fs"
	"net"
)

// restrict does nothing: sockets have no mode.
func restrict(fd uintptr, mode fs.FileMode) {}

// A Peeker looks at a kept connection. Here it is not supported.
type Peeker struct{}

// NewPeeker returns nil: the system does not support it.
func NewPeeker(c net.Conn) *Peeker { return nil }

// Stale returns false.
func (p *Peeker) Stale() bool { return false }

// A Waiter reads into memory that is taken when there is something to read. Here it is not
// supported.
type Waiter struct{}

// NewWaiter returns nil: the system does not support it.
func NewWaiter(c net.Conn, space func() []byte, idle func()) *Waiter { return nil }

// Read is never called.
func (w *Waiter) Read() (int, error) { panic("unreachable") }

// IsListener reports whether descriptor fd is a socket that listens.
func IsListener(fd int) bool { return false }
