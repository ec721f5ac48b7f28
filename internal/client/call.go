// Package call is what the clients of all protocols have in common: what they count, what they tell of, how they dial.
package client

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/sockets"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Counters are those of a client's Stats.
type Counters struct {
	requests, dialed, reused, failed, refused, canceled, truncated atomic.Uint64
	inFlight                                                       atomic.Int64
}

// Begin counts a request that begins.
func (c *Counters) Begin() {
	c.requests.Add(1)
	c.inFlight.Add(1)
}

// End counts the end of one: with its answer's Body, or without an answer.
func (c *Counters) End() { c.inFlight.Add(-1) }

// InFlight is how many have begun and not ended.
func (c *Counters) InFlight() int { return int(c.inFlight.Load()) }

// Dialed counts a connection that was opened, or a process that was started.
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

// Stats are the counters, with the gauges of a pool.
func (c *Counters) Stats(idle, waiting int) gateway.Stats {
	return gateway.Stats{
		Requests: c.requests.Load(), Dialed: c.dialed.Load(), Reused: c.reused.Load(), Failed: c.failed.Load(),
		Refused: c.refused.Load(), Canceled: c.canceled.Load(), Truncated: c.truncated.Load(),
		InFlight: c.InFlight(), Waiting: waiting, Idle: idle,
	}
}

// Dialer connects to a client's backend.
type Dialer struct {
	Dial             func(ctx context.Context) (net.Conn, error) // nil stands for the address
	Network, Address string
	Timeout          time.Duration
}

// NewDialer takes what a client's fields say of its backend.
func NewDialer(addr string, dial func(ctx context.Context) (net.Conn, error), timeout time.Duration) (d Dialer, err error) {
	d = Dialer{Dial: dial, Timeout: stream.Timeout(timeout, 5*time.Second)}
	if dial == nil {
		d.Network, d.Address, err = sockets.Network(addr)
	}
	return d, err
}

// Connect dials.
func (d *Dialer) Connect(ctx context.Context) (net.Conn, error) {
	if d.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.Timeout)
		defer cancel()
	}
	if d.Dial != nil {
		return d.Dial(ctx) // rule F21
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, d.Network, d.Address)
}

// Clock tells the time where somebody wants to know it: off, it is free.
type Clock bool

// Now is the time, or zero.
func (c Clock) Now() time.Time {
	if !c {
		return time.Time{}
	}
	return time.Now()
}

// Since is the time since t, or zero.
func (c Clock) Since(t time.Time) time.Duration {
	if !c {
		return 0
	}
	return time.Since(t)
}

// Logger is l, or the default.
func Logger(l *slog.Logger) *slog.Logger {
	if l != nil {
		return l
	}
	return slog.Default()
}
