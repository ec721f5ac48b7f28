package server

import (
	"context"
	"io"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// outcome returns how the response ended, so far. The response is locked.
func (c *conn) outcome(hijacked bool, received int64, err error) Outcome {
	if hijacked {
		return Outcome{Status: 101, Received: received, Hijacked: true, Err: err}
	}
	out := c.response.Outcome()
	out.Received = received
	return out
}

// reason returns why the input of the request has failed, or nil. mu is held.
func (c *conn) reason() error {
	switch {
	case c.fault != nil:
		return c.fault
	case c.lost != nil && c.lost != io.EOF: // a peer that ends its input still receives the response
		return gateway.ErrDisconnected
	}
	return nil
}

// observedContext returns the context for Observe: that of SetContext, or that of the connection.
// It does not create that of the request.
func (c *conn) observedContext() context.Context {
	if c.record == nil {
		return c.ctx
	}
	c.observe(true)
	defer c.observe(false)
	return c.req.Context()
}

func (c *conn) observe(observed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.observed = observed
}
