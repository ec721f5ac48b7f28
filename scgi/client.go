package scgi

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/client"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/params"
)

// Client is a gateway.RoundTripper that sends requests to an application. Set its fields before the first use and leave
// them; its methods may be called by several goroutines at once. Use one Client for each address.
//
// Each request has a connection of its own, which the answer ends. Nothing is sent twice.
type Client struct {
	Addr         string                                         // "host:port" or "unix:/path"
	Dial         func(ctx context.Context) (net.Conn, error)    // nil stands for Addr
	Env          []string                                       // "NAME=value", sent with every request; beats its params
	MaxConns     int                                            // 0 stands for no bound; more wait under their context
	DialTimeout  time.Duration                                  // 0 stands for 5 s
	SendTimeout  time.Duration                                  // in which no byte of the request can be written; 0 means 60 s, a negative value no limit
	HeadTimeout  time.Duration                                  // from the request sent to the answer's head whole; 0 stands for none
	IdleTimeout  time.Duration                                  // between two reads of a body; 0 stands for none
	MaxHeadBytes int                                            // of an answer; 0 stands for 64 KiB
	Observe      func(ctx context.Context, x *gateway.Exchange) // once per RoundTrip; x valid until it returns

	once   sync.Once
	env    *pairs.List
	dialer client.Dialer
	core   *client.Client
}

// RoundTrip sends r and reads the head of its answer into res; see gateway.RoundTripper. Errors are *gateway.Error; the
// causes are those of AppendRequest (PhaseRequest, nothing was sent) and of Reader.ReadResponse, with
// gateway.ErrNoResponse for a connection that was closed without one byte of an answer. When ctx is done the connection
// is closed.
//
// An answer of 101 to a request with an Upgrade has a gateway.Stream as its Body, which is the caller's to close.
//
// A body whose bytes are in memory (bytes.Reader, bytes.Buffer, strings.Reader) is written by the caller's goroutine if
// it is small; any other by a goroutine of its own, while the answer is read. If the answer ends first, that goroutine
// stops; a Read of r.Body that waits then may be left behind until it returns.
func (c *Client) RoundTrip(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
	return c.client().RoundTrip(ctx, r, res)
}

// Stats returns the counters since the first use, and the gauges of now. No connection is ever reused or idle.
func (c *Client) Stats() gateway.Stats { return c.client().Stats() }

// Close does nothing: no connection is kept. The Client can be used again.
func (c *Client) Close() error { return nil }

// client returns the core of c, which is made of the fields when it is first asked for.
func (c *Client) client() *client.Client {
	c.once.Do(func() {
		var fault error
		if c.env, fault = params.Env(c.Env); fault == nil {
			c.dialer, fault = client.NewDialer(c.Addr, c.Dial, c.DialTimeout)
		}
		c.core = client.NewOverSockets(
			client.Settings{
				"scgi", c.Addr, c.MaxConns, c.MaxHeadBytes, c.SendTimeout, c.HeadTimeout, c.IdleTimeout, c.Observe,
			},
			&c.dialer, c.appendHead, nil, fault,
		)
	})
	return c.core
}

func (c *Client) appendHead(dst []byte, r *gateway.Request) ([]byte, error) {
	return appendRequest(dst, r, c.env)
}
