package client

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/params"
	"github.com/gatehouse-go/gatehouse/internal/sockets"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// A Dialer connects to the backend of a client.
type Dialer struct {
	Dial             func(ctx context.Context) (net.Conn, error) // nil means Address
	Network, Address string
	Timeout          time.Duration
}

// SetUp returns the params of env and a Dialer, for the fields of a client.
func SetUp(env []string, addr string, dial func(ctx context.Context) (net.Conn, error), timeout time.Duration) (l *pairs.List, d Dialer, err error) {
	d = Dialer{Dial: dial, Timeout: stream.Timeout(timeout, 5*time.Second)}
	if l, err = params.Env(env); err == nil && dial == nil {
		d.Network, d.Address, err = sockets.Network(addr)
	}
	return l, d, err
}

var errNoConn = errors.New("gateway: Dial returned neither a connection nor an error")

// Connect connects to the backend.
func (d *Dialer) Connect(ctx context.Context) (net.Conn, error) {
	if d.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.Timeout)
		defer cancel()
	}
	if d.Dial != nil {
		c, err := d.Dial(ctx) // rule F21
		if c == nil && err == nil {
			err = errNoConn
		}
		return c, err
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, d.Network, d.Address)
}
