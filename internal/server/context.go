package server

import (
	"context"
	"sync"
	"time"
)

// A Context is the context of a request that a server received. It is done when the request ends,
// is aborted or its web server disconnects. contextSource, here and in package fastcgi, creates it
// on the first call of RequestContext.
type Context struct {
	parent context.Context
	watch  Watcher

	mu    sync.Mutex
	done  chan struct{}
	err   error
	funcs map[*func()]struct{}
	stop  func() bool
}

// A Watcher starts to watch for the end of a request. Watch is called once, by the first call of
// Done or AfterFunc: a context that is not waited for needs no watching.
type Watcher interface{ Watch() }

// NewContext returns a context below parent.
func NewContext(parent context.Context, watch Watcher) *Context {
	c := &Context{parent: parent, watch: watch}
	if parent.Done() != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.stop = context.AfterFunc(parent, func() { c.Cancel(parent.Err()) })
	}
	return c
}

// Deadline returns that of the parent.
func (c *Context) Deadline() (time.Time, bool) { return c.parent.Deadline() }

// Value returns that of the parent.
func (c *Context) Value(key any) any { return c.parent.Value(key) }

// Err returns nil until the context is done.
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Done returns a channel that is closed when the context is done.
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		}
	}
	done, watch := c.done, c.unwatched()
	c.mu.Unlock()
	if watch != nil {
		watch.Watch()
	}
	return done
}

// AfterFunc calls f in its own goroutine when the context is done. context.AfterFunc uses it.
func (c *Context) AfterFunc(f func()) (stop func() bool) {
	key := &f
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		go f()
		return func() bool { return false }
	}
	if c.funcs == nil {
		c.funcs = make(map[*func()]struct{})
	}
	c.funcs[key] = struct{}{}
	watch := c.unwatched()
	c.mu.Unlock()
	if watch != nil {
		watch.Watch()
	}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, waiting := c.funcs[key]
		delete(c.funcs, key)
		return waiting
	}
}

// unwatched returns the Watcher to the first caller, and nil to others. c.mu is held.
func (c *Context) unwatched() Watcher {
	watch := c.watch
	c.watch = nil
	if c.err != nil {
		return nil
	}
	return watch
}

// Cancel makes the context done with err. Only the first call counts. A nil Context is that of a
// request that never asked for one.
func (c *Context) Cancel(err error) {
	if c == nil {
		return
	}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	c.watch = nil
	if c.done != nil {
		close(c.done)
	}
	funcs := c.funcs
	c.funcs = nil
	stop := c.stop
	c.mu.Unlock()
	if stop != nil {
		stop()
	}
	for f := range funcs {
		go (*f)()
	}
}

// A contextSource makes the context of a conn's request when it is first asked for.
type contextSource struct{ c *conn }

// RequestContext returns the context of the request.
func (s *contextSource) RequestContext() context.Context {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancelable == nil {
		c.cancelable = NewContext(c.ctx, s)
		if c.over || c.lost != nil || c.fault != nil {
			c.cancelable.Cancel(context.Canceled)
		}
	}
	return c.cancelable
}

// Watch starts the watcher.
func (s *contextSource) Watch() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.startWatcher()
}
