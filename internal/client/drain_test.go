package client

import (
	"io"
	"testing"
)

type closeFunc func() error

func (f closeFunc) Close() error { return f() }

// TestDrainThatIsClosed ends a drain while Close closes its connection: the connection must not be
// kept for another request.
func TestDrainThatIsClosed(t *testing.T) {
	var d Drains
	closing, release, over := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	body, end := io.Pipe()
	d.Start(closeFunc(func() error {
		close(closing)
		<-release
		return nil
	}), body, func(err error) { over <- err })
	go d.Close()
	<-closing
	end.Close() // the response ends now
	if err := <-over; err == io.EOF || err == nil {
		t.Errorf("the connection is kept: %v", err)
	}
	close(release)
}

// TestDrainThatHasEnded closes no connection that carries another request by now.
func TestDrainThatHasEnded(t *testing.T) {
	var d Drains
	over := make(chan error, 1)
	body, end := io.Pipe()
	end.Close()
	d.Start(closeFunc(func() error { t.Error("closed"); return nil }), body, func(err error) { over <- err })
	if err := <-over; err != io.EOF {
		t.Error(err)
	}
	d.Close()
}
