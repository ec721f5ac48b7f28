package client

import (
	"cmp"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"runtime/debug"
	"slices"
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
// guards the fields below it. A connection is closed by Close, or because its time is over, only
// while its drain is among them; the drain then learns of it, and does not keep the connection.
type Drains struct {
	Logger *slog.Logger // nil means slog.Default

	mu     sync.Mutex
	drains map[*drain]struct{}
}

// A drain is one connection.
type drain struct {
	conn    io.Closer
	closing bool // guarded by the mu of the Drains
}

// Start reads body, within the limits, and then calls over. err is io.EOF if it was read to its end
// and the connection is still good. conn is closed when the time is over.
func (d *Drains) Start(conn io.Closer, body io.Reader, over func(err error)) {
	dr := &drain{conn: conn}
	d.mu.Lock()
	if d.drains == nil {
		d.drains = make(map[*drain]struct{})
	}
	d.drains[dr] = struct{}{}
	d.mu.Unlock()
	go func() {
		err := errPanicked
		defer func() {
			if d.remove(dr) {
				err = net.ErrClosed
			}
			d.logPanic(func() { over(err) })
		}()
		d.logPanic(func() {
			timer := time.AfterFunc(DrainTimeout, func() { d.close(dr) })
			defer timer.Stop()
			_, err = io.CopyN(io.Discard, body, MaxDrain)
		})
	}()
}

// remove removes a drain that has ended. It reports whether its connection is being closed.
func (d *Drains) remove(dr *drain) (closing bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.drains, dr)
	return dr.closing
}

// close ends a drain, unless it has ended.
func (d *Drains) close(dr *drain) {
	d.mu.Lock()
	_, runs := d.drains[dr]
	dr.closing = true
	d.mu.Unlock()
	if runs {
		dr.conn.Close()
	}
}

var errPanicked = errors.New("gateway: function of a client panicked")

// logPanic calls f and logs its panic: Observe or Stderr may panic in it, and no goroutine of the
// caller is left.
func (d *Drains) logPanic(f func()) {
	defer func() {
		if v := recover(); v != nil {
			cmp.Or(d.Logger, slog.Default()).Error(errPanicked.Error(), "panic", v, "stack", string(debug.Stack()))
		}
	}()
	f()
}

// Close ends all drains.
func (d *Drains) Close() {
	d.mu.Lock()
	all := slices.Collect(maps.Keys(d.drains))
	for _, dr := range all {
		dr.closing = true
	}
	d.mu.Unlock()
	for _, dr := range all { // without the lock, since a Close may block
		dr.conn.Close()
	}
}
