// Package tunnel joins two connections after an upgrade.
package tunnel

import (
	"io"
	"time"
)

// Stream is a connection one of whose directions can end before the other.
type Stream interface {
	io.ReadWriteCloser
	CloseWrite() error
	SetDeadline(t time.Time) error
}

// linger is how long a front end may still have something to say when the backend has ended.
const linger = 5 * time.Second

// Join copies between front and back until both directions have ended, and closes both. The end of one direction is
// passed on with CloseWrite, and an error ends both; when the backend has ended, the front end has a while to end, too.
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
