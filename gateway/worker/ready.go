package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"syscall"
	"time"
)

// becomeReady waits until the worker is free for the first time.
func (w *worker) becomeReady() {
	err := w.isFree()
	if err != nil && w.ended(deathWait) {
		return // over says why
	}
	p := w.p
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case w.state != Starting:
	case err != nil:
		p.failed(w, err)
		p.kill(w)
	default:
		w.state, w.idleAt = Idle, time.Now()
		if w.replaces {
			p.replace()
		}
		p.dispatch()
		p.notifyStarters(nil)
		p.run.wake()
	}
}

// isFree waits until the worker is free, for StartTimeout at most, or returns why it will not be.
func (w *worker) isFree() (err error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	if d := w.p.startTimeout(); d > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, d)
		defer stop()
	}
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-w.done:
			cancel(errEnded)
		case <-over:
		}
	}()
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("worker: Ready panicked: %v", v)
		}
	}()
	if w.p.Ready != nil {
		return w.p.Ready(ctx, w.client)
	}
	return w.closesEmpty(ctx)
}

var errEnded = errors.New("worker: the process has ended")

// closesEmpty waits until the worker closes an empty connection, which one that takes a request at
// a time does when it is free.
func (w *worker) closesEmpty(ctx context.Context) error {
	c, err := w.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := c.CloseWrite(); err != nil {
		return err
	}
	var b [1]byte
	switch n, err := c.Read(b[:]); {
	case ctx.Err() == context.DeadlineExceeded && err != io.EOF:
		return fmt.Errorf("worker: it did not close an empty connection within %v", w.p.startTimeout())
	case n > 0:
		return fmt.Errorf("worker: it sent %q on an empty connection", b[:n])
	case err != io.EOF:
		return err
	}
	return nil
}

// dial connects to the worker's socket, as soon as that is there.
func (w *worker) dial(ctx context.Context) (*net.UnixConn, error) {
	for {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", w.addr)
		if err == nil {
			return c.(*net.UnixConn), nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			if ctx.Err() == context.DeadlineExceeded {
				return nil, fmt.Errorf("worker: it did not listen on its socket within %v", w.p.startTimeout())
			}
			return nil, context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
