//go:build !unix

package sock

// Stale reports whether a kept connection has been closed by the peer. Here nobody can tell without reading.
func Stale(c any) bool { return false }

// Waiter reads from a connection into memory that is only taken when there is something to read; not here.
type Waiter struct{}

// NewWaiter returns nil: the system does not allow it.
func NewWaiter(c any, space func() []byte, idle func()) *Waiter { return nil }

// Read is never called.
func (w *Waiter) Read() (int, error) { panic("unreachable") }

// IsListener reports whether descriptor fd is a socket that listens.
func IsListener(fd int) bool { return false }
