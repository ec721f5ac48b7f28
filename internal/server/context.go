package server

import (
	"context"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// A Context is the context of a request that a server received. It is done when the request ends,
// is aborted or its web server disconnects. contextSource, here and in package fastcgi, creates it
// on the first call of RequestContext.
//
// context.Cause finds a cause only in a context of its own package, so inner is one. It is made
// when something may wait for it, since few handlers do.
type Context struct {
	parent context.Context

	mu     sync.Mutex
	watch  Watcher // nil when it has been called, or need not be
	cause  error   // nil until Cancel
	inner  context.Context
	cancel context.CancelCauseFunc
}

// A Watcher starts to watch for the end of a request. Watch is called once, by the first call of
// Done or AfterFunc: a context that is not waited for needs no watching.
type Watcher interface{ Watch() }

// NewContext returns a context below parent.
func NewContext(parent context.Context, watch Watcher) *Context {
	return &Context{parent: parent, watch: watch}
}

// Deadline returns that of the parent.
func (c *Context) Deadline() (time.Time, bool) { return c.parent.Deadline() }

// Value returns that of the parent. The key for which context.Cause asks is a *int.
func (c *Context) Value(key any) any {
	if _, ok := key.(*int); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.make().Value(key)
	}
	return c.parent.Value(key)
}

// Err returns nil until the context is done.
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return context.Canceled
	}
	return c.parent.Err()
}

// Done returns a channel that is closed when the context is done.
func (c *Context) Done() <-chan struct{} { return c.watched().Done() }

// AfterFunc calls f in its own goroutine when the context is done. context.AfterFunc uses it.
func (c *Context) AfterFunc(f func()) (stop func() bool) { return context.AfterFunc(c.watched(), f) }

// watched returns inner, and has the end of the request watched for.
func (c *Context) watched() context.Context {
	c.mu.Lock()
	inner, watch := c.make(), c.watch
	c.watch = nil
	c.mu.Unlock()
	if watch != nil {
		watch.Watch()
	}
	return inner
}

// make returns inner. mu is held.
func (c *Context) make() context.Context {
	if c.inner == nil {
		c.inner, c.cancel = context.WithCancelCause(c.parent)
		if c.cause != nil {
			c.cancel(c.cause)
		}
	}
	return c.inner
}

// Cancel makes the context done. Only the first call counts. A nil Context is that of a request
// that never asked for one.
func (c *Context) Cancel(cause error) {
	if c == nil {
		return
	}
	c.mu.Lock()
	if c.cause != nil {
		c.mu.Unlock()
		return
	}
	c.cause, c.watch = cause, nil
	cancel := c.cancel
	c.mu.Unlock()
	if cancel != nil {
		cancel(cause)
	}
}

// A contextSource makes the context of a conn's request when it is first asked for.
type contextSource struct{ c *conn }

// RequestContext returns the context of the request.
func (s *contextSource) RequestContext() context.Context {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.observed {
		return c.ctx
	}
	if c.cancelable == nil {
		c.cancelable = NewContext(c.ctx, s)
		switch {
		case c.over:
			c.cancelable.Cancel(context.Canceled)
		case c.fault != nil:
			c.cancelable.Cancel(c.fault)
		case c.lost != nil:
			c.cancelable.Cancel(gateway.ErrDisconnected)
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
