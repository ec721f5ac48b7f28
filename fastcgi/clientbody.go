package fastcgi

import (
	"io"
	"sync/atomic"
)

// A clientBody is the Body of one response. Each response has its own, so one that is kept after
// its end is dead, whatever has become of the connection.
type clientBody struct {
	cc  atomic.Pointer[clientConn]
	end atomic.Pointer[error] // what Read returns after the end; nil means io.EOF
}

// live locks the connection, unless the response has ended.
func (b *clientBody) live() *clientConn {
	cc := b.cc.Load()
	if cc == nil {
		return nil
	}
	cc.rmu.Lock()
	if b.cc.Load() != cc {
		cc.rmu.Unlock()
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
	defer cc.rmu.Unlock()
	n, err := cc.response.read(&cc.rec, p)
	cc.x.Received += int64(n)
	if err != nil {
		err = cc.finish(err)
	}
	return n, err
}

// Close ends the exchange. The rest of the response is discarded if it has arrived; otherwise the
// connection is closed.
func (b *clientBody) Close() error {
	cc := b.cc.Load()
	if cc == nil {
		return nil
	}
	if !cc.rmu.TryLock() {
		cc.interrupt(b)
		cc.rmu.Lock()
	}
	defer cc.rmu.Unlock()
	if b.cc.Load() == cc {
		cc.finish(cc.response.dropBuffered(&cc.rec))
		b.end.Store(&errClosed) // also if the whole response had arrived
	}
	return nil
}

// interrupt closes the connection under a Read of b, so that Close need not wait for it. The
// connection may have moved on to another exchange.
func (cc *clientConn) interrupt(b *clientBody) {
	cc.bmu.Lock()
	defer cc.bmu.Unlock()
	if cc.body == b {
		cc.c.Close()
	}
}

// Ready reports whether Read can return without waiting. gateway.Proxy and gatewayhttp.Proxy flush
// before a Read that has to wait.
func (b *clientBody) Ready() bool {
	cc := b.live()
	if cc == nil {
		return true
	}
	defer cc.rmu.Unlock()
	return cc.response.ready(&cc.rec)
}
