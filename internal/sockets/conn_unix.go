//go:build unix

package sockets

import (
	"io"
	"io/fs"
	"net"
	"syscall"
)

// restrict sets the mode of the file that a socket will be bound to. Where the system does not
// support that, Chmod sets it.
func restrict(fd uintptr, mode fs.FileMode) { syscall.Fchmod(int(fd), uint32(mode.Perm())) }

// rawConn returns the descriptor of a TCP or Unix connection, or nil for any other type: a type
// that embeds a connection may have a Read of its own, which must not be bypassed.
func rawConn(c net.Conn) syscall.RawConn {
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

// A Peeker looks at a kept connection.
type Peeker struct {
	raw   syscall.RawConn
	look  func(fd uintptr)
	stale bool
}

// NewPeeker returns nil if the type of c does not support it.
func NewPeeker(c net.Conn) *Peeker {
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

// Stale reports whether the peer has closed the connection or has sent bytes that were not asked
// for: one MSG_PEEK that does not wait. A nil Peeker returns false.
func (p *Peeker) Stale() bool {
	if p == nil {
		return false
	}
	p.stale = true
	err := p.raw.Control(p.look)
	return p.stale || err != nil
}

// A Waiter reads from a connection into memory that is taken when there is something to read.
type Waiter struct {
	raw   syscall.RawConn
	space func() []byte // returns memory
	idle  func()        // takes it back unused
	try   func(fd uintptr) bool
	n     int
	err   error
}

// NewWaiter returns nil if the type of c does not support it.
func NewWaiter(c net.Conn, space func() []byte, idle func()) *Waiter {
	raw := rawConn(c)
	if raw == nil {
		return nil
	}
	w := &Waiter{raw: raw, space: space, idle: idle}
	w.try = w.read
	return w
}

// Read waits until the connection can be read and reads once, under its deadline. It returns the
// number of bytes, which are at the start of what space returned.
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

// IsListener reports whether descriptor fd is a listening socket: it has no peer, and getpeername
// returns ENOTCONN.
func IsListener(fd int) bool {
	_, err := syscall.Getpeername(fd)
	return err == syscall.ENOTCONN
}
