// Package tunnel joins two connections after an upgrade.
package tunnel

import "io"

// Stream is a connection one of whose directions can end before the other.
type Stream interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// Join copies between a and b until both directions have ended, and closes both. The end of one direction is passed on
// with CloseWrite; an error ends both.
func Join(a, b Stream) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		pass(a, b)
	}()
	pass(b, a)
	<-done
	a.Close()
	b.Close()
}

func pass(dst, src Stream) {
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		src.Close()
		return
	}
	dst.CloseWrite()
}
