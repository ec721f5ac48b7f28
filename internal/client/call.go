// Package client is the web server's end of a connection. Client sends each request over its own
// connection, for SCGI, uwsgi and CGI; package fastcgi has its own connections, which are kept.
// Upload sends a body while the response is awaited, and Pool counts connections and keeps idle
// ones, for every protocol.
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

// A Dialer connects to the backend of a client.
type Dialer struct {
	Dial             func(ctx context.Context) (net.Conn, error) // nil means Address
	Network, Address string
	Timeout          time.Duration
}

// NewDialer returns a Dialer for the fields of a client.
func NewDialer(addr string, dial func(ctx context.Context) (net.Conn, error), timeout time.Duration) (d Dialer, err error) {
	d = Dialer{Dial: dial, Timeout: stream.Timeout(timeout, 5*time.Second)}
	if dial == nil {
		d.Network, d.Address, err = sockets.Network(addr)
	}
	return d, err
}

// Connect connects to the backend.
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

// Logger returns l, or the default if l is nil.
func Logger(l *slog.Logger) *slog.Logger {
	if l != nil {
		return l
	}
	return slog.Default()
}
