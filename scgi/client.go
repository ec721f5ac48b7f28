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

// Client is a gateway.RoundTripper that sends requests to an application. Set its fields before the
// first use and do not change them afterwards. Its methods may be called by several goroutines at
// once. Use one Client for each address.
//
// Each request has its own connection, which the response ends. Nothing is sent twice.
type Client struct {
	// Addr is the address of the application: "host:port" or "unix:/path".
	Addr string

	// Dial, if not nil, connects to the application in place of Addr.
	Dial func(ctx context.Context) (net.Conn, error)

	// Env lists params, as "NAME=value", that are sent with every request. They win over the request's
	// params.
	Env []string

	// MaxConns limits the number of connections. Further requests wait, until their context is done. A
	// zero or negative value means no limit.
	MaxConns int

	// DialTimeout limits the time to connect. Zero means 5 seconds; a negative value means no limit.
	DialTimeout time.Duration

	// SendTimeout limits the time in which no byte of the request can be written. Zero means 60
	// seconds; a negative value means no limit.
	SendTimeout time.Duration

	// HeadTimeout limits the time from the end of the request to the end of the response's head. A
	// zero or negative value means no limit.
	HeadTimeout time.Duration

	// BodyTimeout limits the time that one read of a response body waits. A zero or negative value
	// means no limit. It does not apply to the Stream of a 101 response.
	BodyTimeout time.Duration

	// MaxHeadBytes limits the head of a response. A zero or negative value means 64 KiB.
	MaxHeadBytes int

	// Observe, if not nil, is called once for each RoundTrip, when it failed or when the Body of its
	// response has ended. x is valid until Observe returns.
	Observe func(ctx context.Context, x *gateway.Exchange)

	once   sync.Once
	env    *pairs.List
	dialer client.Dialer
	core   *client.Client
}

// RoundTrip sends r and reads the head of the response into res; see gateway.RoundTripper. Errors
// are *gateway.Error. Their causes are those of AppendRequest (PhaseRequest, nothing was sent) and
// of Reader.ReadResponse, and gateway.ErrNoResponse if the connection was closed without one byte
// of a response. When ctx is done the connection is closed.
//
// The Body of a 101 to a request with an Upgrade is a gateway.Stream, which the caller must close.
//
// A small body in memory (bytes.Reader, bytes.Buffer, strings.Reader) is written by the calling
// goroutine. Any other is written by a second goroutine while the response is read. If the response
// ends first, that goroutine stops; a Read of r.Body that is waiting may be left behind until it
// returns.
func (c *Client) RoundTrip(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
	return c.client().RoundTrip(ctx, r, res)
}

// Stats returns the counters since the first use, and the current gauges. No connection is ever
// reused or idle.
func (c *Client) Stats() gateway.Stats { return c.client().Stats() }

// Close does nothing: no connection is kept. The Client can be used again.
func (c *Client) Close() error { return nil }

// client returns the core of c. It is made of the fields on first use.
func (c *Client) client() *client.Client {
	c.once.Do(func() {
		var fault error
		if c.env, fault = params.Env(c.Env); fault == nil {
			c.dialer, fault = client.NewDialer(c.Addr, c.Dial, c.DialTimeout)
		}
		c.core = client.NewOverSockets(
			client.Settings{
				"scgi", c.Addr, c.MaxConns, c.MaxHeadBytes, c.SendTimeout, c.HeadTimeout, c.BodyTimeout, c.Observe,
			},
			&c.dialer, c.appendHead, nil, fault,
		)
	})
	return c.core
}

func (c *Client) appendHead(dst []byte, r *gateway.Request) ([]byte, error) {
	return appendRequest(dst, r, c.env)
}
