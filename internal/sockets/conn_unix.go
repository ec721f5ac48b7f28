//go:build unix

package sockets

import (
	"io"
	"io/fs"
	"net"
	"syscall"
)

// restrict gives the file that a socket will be bound to a mode. Systems that cannot say so, and Chmod does it.
func restrict(fd uintptr, mode fs.FileMode) { syscall.Fchmod(int(fd), uint32(mode.Perm())) }

// rawConn is the descriptor of a TCP or Unix connection, nil for any other type: one that embeds a connection may read
// in a way of its own, which must not be gone round.
func rawConn(c any) syscall.RawConn {
	switch c := c.(type) {
	case *net.TCPConn:
		raw, _ := c.SyscallConn()
		return raw
	case *net.UnixConn:
		raw, _ := c.SyscallConn()
		return raw
	}
	return nil
}

// Peeker looks at a kept connection.
type Peeker struct {
	raw   syscall.RawConn
	look  func(fd uintptr)
	stale bool
}

// NewPeeker returns nil if the type of c does not let us look.
func NewPeeker(c any) *Peeker {
	raw := rawConn(c)
	if raw == nil {
		return nil
	}
	p := &Peeker{raw: raw}
	p.look = func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		p.stale = err != syscall.EAGAIN
	}
	return p
}

// Stale reports whether the connection has been closed by the peer, or the peer has sent something that nobody asked
// for: one MSG_PEEK that does not wait. A nil Peeker takes the connection as it is.
func (p *Peeker) Stale() bool {
	if p == nil {
		return false
	}
	p.stale = true
	err := p.raw.Control(p.look)
	return p.stale || err != nil
}

// Waiter reads from a connection into memory that is only taken when there is something to read.
type Waiter struct {
	raw   syscall.RawConn
	space func() []byte // gives memory
	idle  func()        // takes it back unused
	try   func(fd uintptr) bool
	n     int
	err   error
}

// NewWaiter returns nil if the type of c does not allow it.
func NewWaiter(c any, space func() []byte, idle func()) *Waiter {
	raw := rawConn(c)
	if raw == nil {
		return nil
	}
	w := &Waiter{raw: raw, space: space, idle: idle}
	w.try = w.read
	return w
}

// Read waits until the connection can be read and reads once, under its deadline. It returns the number of bytes, which
// lie at the start of what space gave.
func (w *Waiter) Read() (int, error) {
	if err := w.raw.Read(w.try); err != nil {
		return 0, err
	}
	return w.n, w.err
}

func (w *Waiter) read(fd uintptr) (done bool) {
	b := w.space()
	for {
		w.n, w.err = syscall.Read(int(fd), b)
		if w.err != syscall.EINTR {
			break
		}
	}
	switch {
	case w.err == syscall.EAGAIN:
		w.n, w.err = 0, nil
		w.idle()
		return false
	case w.err != nil:
		w.n = 0
	case w.n == 0:
		w.err = io.EOF
	}
	return true
}

// IsListener reports whether descriptor fd is a socket that listens: it has no peer, and says so with ENOTCONN.
func IsListener(fd int) bool {
	_, err := syscall.Getpeername(fd)
	return err == syscall.ENOTCONN
}
