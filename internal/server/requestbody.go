package server

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// A requestBody is the Body of a conn's request. The handler's goroutines call Read. At most one of
// them, or the watcher, reads from the connection at a time: reading and watching say which.
type requestBody struct{ c *conn }

// Read reads the request's body: what the watcher has queued, or else straight from the connection.
func (b *requestBody) Read(p []byte) (int, error) {
	c := b.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch q := &c.mem.queue; {
		case c.over:
			return 0, ErrOver
		case c.fault != nil:
			return 0, c.fault
		case c.left == 0:
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		case q.Len() > 0:
			n := q.Take(p[:min(int64(len(p)), c.left)])
			c.left -= int64(n)
			c.changed.Broadcast() // the watcher may wait for room
			return n, nil
		case c.lost == io.EOF:
			return 0, stream.ErrBodyCut
		case c.lost != nil:
			return 0, c.lost
		case c.reading || c.watching:
			// Another goroutine reads. What it gets is taken from the queue, or counted in left.
			if err := WaitUntil(&c.changed, c.readDeadline); err != nil {
				return 0, err
			}
		default:
			if n, err := c.readDirect(p[:min(int64(len(p)), c.left)]); n > 0 || err != nil {
				return n, err
			}
		}
	}
}

// readDirect reads the body from the connection. c.mu is held before and after. It returns no error
// that Read finds in the state of the connection.
func (c *conn) readDirect(p []byte) (n int, err error) {
	c.reading = true
	c.c.SetReadDeadline(c.readDeadline)
	c.mu.Unlock() // the read may block
	n, err = c.in.Read(p)
	c.mu.Lock()
	c.reading = false
	c.left -= int64(n)
	c.changed.Broadcast()
	late := errors.Is(err, os.ErrDeadlineExceeded)
	if err != nil && !late {
		c.lose(err)
	}
	if !late || c.over {
		err = nil
	}
	if c.wanted { // Done was called on the context while this Read kept the watcher away
		c.wanted = false
		c.startWatcher()
	}
	return n, err
}

// WaitUntil waits for a change, whose lock is held, or until t. A zero t means no deadline.
func WaitUntil(changed *sync.Cond, t time.Time) error {
	if t.IsZero() {
		changed.Wait()
		return nil
	}
	left := time.Until(t)
	if left <= 0 {
		return os.ErrDeadlineExceeded
	}
	timer := time.AfterFunc(left, func() {
		changed.L.Lock()
		defer changed.L.Unlock()
		changed.Broadcast()
	})
	defer timer.Stop()
	changed.Wait()
	return nil
}
