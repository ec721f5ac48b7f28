// Package reqctx is the context of a request that a server received.
package server

import (
	"context"
	"sync"
	"time"
)

// Context is done when the request ends, is aborted or loses its peer, or when its parent is. It is an object of its
// own that may be kept; it never becomes that of another request. Watch is called when somebody first asks to be told
// of the end: until then nobody needs to look out for it.
type Context struct {
	parent context.Context
	watch  Watcher

	mu    sync.Mutex
	done  chan struct{}
	err   error
	funcs map[*func()]struct{}
	stop  func() bool
}

// Watcher begins to look out for the end of a request.
type Watcher interface{ Watch() }

// NewContext returns a context below parent. watch is called once at the most.
func NewContext(parent context.Context, watch Watcher) *Context {
	c := &Context{parent: parent, watch: watch}
	if parent.Done() != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.stop = context.AfterFunc(parent, func() { c.Cancel(parent.Err()) })
	}
	return c
}

// Deadline is the parent's.
func (c *Context) Deadline() (time.Time, bool) { return c.parent.Deadline() }

// Value is the parent's.
func (c *Context) Value(key any) any { return c.parent.Value(key) }

// Err is nil until the context is done.
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Done is closed when the context is done.
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

// AfterFunc calls f in a goroutine of its own when the context is done; see context.AfterFunc, which uses it.
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

// unwatched gives watch to the first who calls it.
func (c *Context) unwatched() Watcher {
	watch := c.watch
	c.watch = nil
	if c.err != nil {
		return nil
	}
	return watch
}

// Cancel makes the context done; the first call counts.
func (c *Context) Cancel(err error) {
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
