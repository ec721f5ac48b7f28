package client

import (
	"errors"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// Limits of what is read of a response that has no body, after its Body was closed.
const (
	MaxDrain     = 256 << 10
	DrainTimeout = 5 * time.Second
)

// Drains reads the rest of responses to HEAD, and of those with the status 204 or 304, after their
// Bodies were closed: closing the connection at once would end an application that has not
// finished, and waiting would keep the caller's own client waiting. The zero value is ready.
//
// Each drain has a goroutine, which owns the connection from Start until it has called over. mu
// guards conns.
type Drains struct {
	mu    sync.Mutex
	conns map[io.Closer]struct{}
}

// Start reads body, within the limits, and then calls over. err is io.EOF if it was read to its
// end. conn is closed when the time is over.
func (d *Drains) Start(conn io.Closer, body io.Reader, over func(err error)) {
	d.mu.Lock()
	if d.conns == nil {
		d.conns = make(map[io.Closer]struct{})
	}
	d.conns[conn] = struct{}{}
	d.mu.Unlock()
	go func() {
		err := errPanicked
		defer func() {
			d.mu.Lock()
			delete(d.conns, conn)
			d.mu.Unlock()
			logPanic(func() { over(err) })
		}()
		logPanic(func() {
			timer := time.AfterFunc(DrainTimeout, func() { conn.Close() })
			defer timer.Stop()
			_, err = io.CopyN(io.Discard, body, MaxDrain)
		})
	}()
}

var errPanicked = errors.New("gateway: function of a client panicked")

// logPanic calls f and logs its panic: Observe or Stderr may panic in it, and no goroutine of the
// caller is left.
func logPanic(f func()) {
	defer func() {
		if v := recover(); v != nil {
			slog.Error(errPanicked.Error(), "panic", v, "stack", string(debug.Stack()))
		}
	}()
	f()
}

// Close ends all drains.
func (d *Drains) Close() {
	d.mu.Lock()
	conns := make([]io.Closer, 0, len(d.conns))
	for c := range d.conns {
		conns = append(conns, c)
	}
	d.mu.Unlock()
	for _, c := range conns { // without the lock, since a Close may block
		c.Close()
	}
}
