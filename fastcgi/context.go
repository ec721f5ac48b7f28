package fastcgi

import (
	"context"

	"github.com/gatehouse-go/gatehouse/internal/server"
)

// RequestContext makes the request's context.
func (s *contextSource) RequestContext() context.Context {
	h := (*responseWriter)(s)
	c := h.c.Load()
	if c == nil {
		return done
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := h.r.Load()
	if r == nil {
		return done
	}
	if r.ctx == nil {
		r.ctx = server.NewContext(c.ctx, s)
		if r.fault != nil {
			r.ctx.Cancel(context.Canceled)
		}
	}
	return r.ctx
}

// done is the context of requests that are over.
var done = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// Watch makes sure that somebody reads while the handler runs, so that an abort is seen.
func (s *contextSource) Watch() {
	h := (*responseWriter)(s)
	c := h.c.Load()
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := h.r.Load(); r != nil && c.inline == r {
		c.promote()
	}
}
