package fastcgi

import (
	"io"
	"sync/atomic"
)

// clientBody is the Body of one answer. Each answer has one of its own: what is kept after its end is dead, whatever
// has become of the connection.
type clientBody struct {
	cc  atomic.Pointer[clientConn]
	end atomic.Pointer[error] // what Read returns after the end; nil stands for io.EOF
}

// live locks the connection for b.
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

// Close ends the exchange. What is left of the answer is dropped if it has arrived, and else the connection is.
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
		b.end.Store(&errClosed) // also where all of the answer had come
	}
	return nil
}

// interrupt closes the connection under a Read of b that must not keep Close waiting. The connection may be another
// exchange's by now.
func (cc *clientConn) interrupt(b *clientBody) {
	cc.bmu.Lock()
	defer cc.bmu.Unlock()
	if cc.body == b {
		cc.c.Close()
	}
}

// Ready reports whether Read would not have to wait: gateway.Proxy and gatewayhttp.Proxy ask, to send on what they have
// before they wait.
func (b *clientBody) Ready() bool {
	cc := b.live()
	if cc == nil {
		return true
	}
	defer cc.rmu.Unlock()
	return cc.response.ready(&cc.rec)
}
