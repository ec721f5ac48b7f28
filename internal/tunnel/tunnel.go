// Package tunnel joins two streams after an upgrade, and copies the bodies of responses.
package tunnel

import (
	"io"
	"time"
)

// A Stream is a connection one of whose directions can end before the other.
type Stream interface {
	io.ReadWriteCloser
	CloseWrite() error
	SetDeadline(t time.Time) error
}

// linger limits how long bytes from front are copied after back has ended.
const linger = 5 * time.Second

// Join copies between front and back until both directions have ended, and closes both. The end of
// one direction is passed on with CloseWrite, and an error ends both. After the backend's direction
// has ended, the other may continue for linger.
func Join(front, back Stream) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		pass(front, back)
		front.SetDeadline(time.Now().Add(linger))
	}()
	pass(back, front)
	<-done
	front.Close()
	back.Close()
}

func pass(dst, src Stream) {
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		src.Close()
		return
	}
	dst.CloseWrite()
}
