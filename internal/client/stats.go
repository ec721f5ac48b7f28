package client

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// Counters count what Stats returns.
type Counters struct {
	requests, dialed, reused, failed, refused, canceled, truncated atomic.Uint64
	inFlight                                                       atomic.Int64
}

// Begin counts a request.
func (c *Counters) Begin() {
	c.requests.Add(1)
	c.inFlight.Add(1)
}

// End counts the end of a request: that of its response's Body, or of a request without a response.
func (c *Counters) End() { c.inFlight.Add(-1) }

// InFlight returns the number of requests that have begun and not ended.
func (c *Counters) InFlight() int { return int(c.inFlight.Load()) }

// Dialed counts a connection that was opened, or a program that was started.
func (c *Counters) Dialed() { c.dialed.Add(1) }

// Reused counts a request on a kept connection.
func (c *Counters) Reused() { c.reused.Add(1) }

// Failed counts an exchange that failed.
func (c *Counters) Failed(err error) {
	c.failed.Add(1)
	switch {
	case errors.Is(err, gateway.ErrRefused):
		c.refused.Add(1)
	case errors.Is(err, context.Canceled):
		c.canceled.Add(1)
	case errors.Is(err, gateway.ErrTruncated):
		c.truncated.Add(1)
	}
}

// Stats returns the counters, with the gauges of a pool.
func (c *Counters) Stats(idle, waiting int) gateway.Stats {
	return gateway.Stats{
		Requests: c.requests.Load(), Dialed: c.dialed.Load(), Reused: c.reused.Load(), Failed: c.failed.Load(),
		Refused: c.refused.Load(), Canceled: c.canceled.Load(), Truncated: c.truncated.Load(),
		InFlight: c.InFlight(), Waiting: waiting, Idle: idle,
	}
}

// Clock is time.Now, or a no-op if the client is not observed.
type Clock bool

// Now returns the time, or the zero time.
func (c Clock) Now() time.Time {
	if !c {
		return time.Time{}
	}
	return time.Now()
}

// Since returns the time since t, or zero.
func (c Clock) Since(t time.Time) time.Duration {
	if !c {
		return 0
	}
	return time.Since(t)
}
