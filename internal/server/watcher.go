package server

import (
	"errors"
	"os"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// The watcher of a conn reads while its handler runs, so that the end of the peer is noticed. c.mu
// is held by the callers of startWatcher, lose and stopReading.

// startWatcher starts the watcher, now or when the Read in progress returns.
func (c *conn) startWatcher() {
	switch {
	case !c.running || c.watching || c.stopped || c.lost != nil:
	case c.reading:
		c.wanted = true
	default:
		c.watching = true
		go c.watch()
	}
}

// Sweep starts the watcher if the handler has run since the last sweep. It does nothing if mu is
// held: the Group's lock never waits for that of a connection, and the next sweep comes soon.
func (c *conn) Sweep() (again bool) {
	if !c.mu.TryLock() {
		return true
	}
	defer c.mu.Unlock()
	if c.swept && !c.reading {
		c.startWatcher()
	}
	c.swept = c.running
	return c.running && !c.watching && !c.stopped && c.lost == nil // or else no watcher is to start
}

// watch reads what arrives while the handler runs, until the end of the input.
func (c *conn) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.c.SetReadDeadline(time.Time{}) // a request that runs has no deadline
	c.mem.queue.Add(c.in.Buffered())
	c.in.Discard(c.in.Len())
	c.changed.Broadcast() // a Read may have started before
	for c.lost == nil && !c.stopped {
		if c.mem.queue.Len() >= MaxQueued { // until a Read makes room
			c.changed.Wait()
			continue
		}
		c.mu.Unlock()
		err := c.in.Fill(1) // the watcher owns in while watching is set
		c.mu.Lock()
		c.mem.queue.Add(c.in.Buffered())
		c.in.Discard(c.in.Len())
		if err != nil && !(c.stopped && errors.Is(err, os.ErrDeadlineExceeded)) {
			c.lose(err)
		}
		c.changed.Broadcast()
	}
	c.watching = false
	c.changed.Broadcast()
}

// lose notes why nothing more can be read. The end of the input does not end the response: a peer
// that has closed its sending side still receives it.
func (c *conn) lose(err error) {
	if c.lost == nil {
		c.lost = err
	}
	if ctx := c.cancelable; ctx != nil {
		go ctx.Cancel(gateway.ErrDisconnected)
	}
}

// stopReading ends the watcher, and a Read that the handler left behind, and waits until they have
// ended. On a connection without deadlines only Close ends a read; stopReading then closes it and
// returns false.
func (c *conn) stopReading() bool {
	c.stopped = true
	c.changed.Broadcast()
	closed := false
	for c.watching || c.reading {
		if !closed && c.c.SetReadDeadline(time.Unix(1, 0)) != nil {
			closed = true
			c.mu.Unlock()
			c.closeConn()
			c.mu.Lock()
			continue
		}
		c.changed.Wait()
	}
	return !closed
}
