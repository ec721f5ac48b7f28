package fastcgi

import (
	"context"
	"errors"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/server"
)

// A contextSource makes the context of a request when it is first asked for.
type contextSource struct{ w *responseWriter }

// RequestContext returns the context of the request.
func (s *contextSource) RequestContext() context.Context {
	c := s.w.c.Load()
	if c == nil {
		return done
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := s.w.r.Load()
	if r == nil {
		return done
	}
	if r.observed {
		return c.ctx
	}
	if r.ctx == nil {
		r.ctx = server.NewContext(c.ctx, s)
		if r.fault != nil {
			r.ctx.Cancel(causeOf(r.fault))
		}
	}
	return r.ctx
}

// causeOf returns the cause of the context of a request whose input has failed with fault.
func causeOf(fault error) error {
	for _, cause := range [...]error{gateway.ErrAborted, gateway.ErrServerClosed} {
		if errors.Is(fault, cause) {
			return cause
		}
	}
	return gateway.ErrDisconnected
}

// Watch makes sure that the connection is read while the handler runs, so that an abort is noticed.
func (s *contextSource) Watch() {
	c := s.w.c.Load()
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := s.w.r.Load(); r != nil && c.inline == r {
		c.promote()
	}
}

// done is the context of requests that are over.
var done = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()
