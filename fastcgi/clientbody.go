package fastcgi

import (
	"context"
	"io"
	"sync/atomic"
	"time"
)

// A clientBody is the Body of one response. Each response has its own, so one that is kept after
// its end is dead, whatever has become of the connection.
type clientBody struct {
	cc  atomic.Pointer[clientConn]
	end atomic.Pointer[error] // what Read returns after the end; nil means io.EOF

	closing atomic.Bool // Close was called; a Read in progress closes the Body when it leaves
}

// live locks the connection, unless the response has ended.
func (b *clientBody) live() *clientConn {
	cc := b.cc.Load()
	if cc == nil {
		return nil
	}
	cc.rmu.Lock()
	if b.cc.Load() != cc {
		cc.leave()
		return nil
	}
	return cc
}

func (b *clientBody) Read(p []byte) (int, error) {
	cc := b.live()
	if cc == nil {
		if err := b.end.Load(); err != nil {
			return 0, *err
		}
		return 0, io.EOF
	}
	defer cc.leave()
	returned := false
	defer func() {
		if !returned { // Stderr has panicked inside a record
			cc.c.Close()
		}
	}()
	cc.up.BeginRead()
	n, err := cc.response.read(&cc.rec, p)
	returned = true
	cc.x.Received += int64(n)
	if err != nil {
		err = cc.finish(err)
	}
	return n, err
}

// leave unlocks the connection, and closes its Body if that was asked for in between: Close does
// not wait for the lock. By then the Body may be that of the next exchange.
func (cc *clientConn) leave() {
	cc.rmu.Unlock()
	cc.bmu.Lock()
	b := cc.body
	cc.bmu.Unlock()
	if b != nil && b.closing.Load() {
		b.Close()
	}
}

// Close ends the exchange. The rest of the response is discarded if it has arrived; otherwise the
// connection is closed. The rest of a response without a body is discarded in the background, so
// that the application can finish.
func (b *clientBody) Close() error {
	cc := b.cc.Load()
	if cc == nil {
		return nil
	}
	b.closing.Store(true)
	if !cc.rmu.TryLock() {
		cc.interrupt(b) // Close does not wait for the Read, which may be what calls it through Stderr
		return nil
	}
	defer cc.leave()
	if b.cc.Load() != cc {
		return nil
	}
	err := cc.response.dropBuffered(&cc.rec)
	if err != io.EOF && cc.bodyless && cc.response.err == nil && cc.up.Await(context.Background(), 2*time.Millisecond) && cc.endWatch() {
		cc.startDrain(b)
		return nil
	}
	cc.finish(err)
	b.end.Store(&errClosed) // also if the whole response had arrived
	return nil
}

// startDrain takes the response from its caller and reads the rest of it.
func (cc *clientConn) startDrain(b *clientBody) {
	b.end.Store(&errClosed)
	b.cc.Store(nil) // from here on the drain owns the connection
	cc.stderr, cc.response.res = nil, nil
	cc.client.drains.Start(drain{cc}, drain{cc}, func(err error) {
		cc.rmu.Lock()
		defer cc.leave()
		if err != io.EOF {
			err = errClosed // the caller is no longer interested in an error
		}
		cc.finish(err)
	})
}

// A drain reads what a response without a body has all the same.
type drain struct{ cc *clientConn }

func (d drain) Read(p []byte) (int, error) { return d.cc.response.read(&d.cc.rec, p) }

// Close closes the connection, which is not kept then.
func (d drain) Close() error {
	d.cc.cancel()
	return nil
}

// Ready reports whether Read can return without waiting. gateway.Proxy and gatewayhttp.Proxy flush
// before a Read that has to wait.
func (b *clientBody) Ready() bool {
	cc := b.live()
	if cc == nil {
		return true
	}
	defer cc.leave()
	return cc.response.ready(&cc.rec)
}
