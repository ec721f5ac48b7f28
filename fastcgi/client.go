package fastcgi

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/client"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/params"
	"github.com/gatehouse-go/gatehouse/internal/slab"
)

// Client is a gateway.RoundTripper that sends requests to an application. Set its fields before the first use and leave
// them; its methods may be called by several goroutines at once. Use one Client for each address.
//
// Each connection carries one request at a time. The zero value keeps no connection: PHP gives each kept one a worker.
//
// A request is sent again, once, if its connection had carried another before, nothing of an answer came, and either
// nothing of it had been written or its method is GET, HEAD, OPTIONS or TRACE and its body can be had again (GetBody).
type Client struct {
	Addr          string                                         // "host:port" or "unix:/path"
	Dial          func(ctx context.Context) (net.Conn, error)    // nil stands for Addr
	Env           []string                                       // "NAME=value", sent with every request; beats its params; the way for PHP_VALUE and the like
	MaxConns      int                                            // 0 stands for no bound; more wait under their context
	MaxIdle       int                                            // connections kept; 0 stands for none: FCGI_KEEP_CONN is not sent
	MaxIdleTime   time.Duration                                  // 0 stands for 30 s
	MaxLifetime   time.Duration                                  // of a connection; 0 stands for no bound
	Multiplex     bool                                           // sends GET_VALUES with a connection's first request, and waits for no answer
	DialTimeout   time.Duration                                  // 0 stands for 5 s
	SendTimeout   time.Duration                                  // in which no byte of the request can be written; 0 means 60 s, a negative value no limit
	HeadTimeout   time.Duration                                  // from the request sent to the answer's head whole; 0 stands for none
	UnknownLength bool                                           // send a body of length -1 without CONTENT_LENGTH (PHP reads none of it); false: ErrLengthRequired
	IdleTimeout   time.Duration                                  // between two reads of a body; 0 stands for none
	MaxHeadBytes  int                                            // of an answer; 0 stands for 64 KiB
	Stderr        func(ctx context.Context, line []byte)         // a line of at most 4 KiB, controls escaped, valid until it returns; nil stands for Logger
	Observe       func(ctx context.Context, x *gateway.Exchange) // once per RoundTrip; x valid until it returns
	Logger        *slog.Logger                                   // nil stands for slog.Default

	once   sync.Once
	env    *pairs.List
	dialer client.Dialer
	fault  error // of the configuration
	pool   client.Pool[*clientConn]
	bodies slab.Pool[clientBody]
	heads  sync.Pool // of *[]byte
	count  client.Counters
}

func (c *Client) setUp() {
	c.env, c.fault = params.Env(c.Env)
	if c.fault == nil {
		c.dialer, c.fault = client.NewDialer(c.Addr, c.Dial, c.DialTimeout)
	}
	c.pool.Max, c.pool.MaxIdle = c.MaxConns, c.MaxIdle
	c.pool.MaxAge = cmp.Or(c.MaxIdleTime, 30*time.Second)
}

// RoundTrip sends r and reads the head of its answer into res; see gateway.RoundTripper. Errors are *gateway.Error; the
// causes are those of AppendRequest (PhaseRequest, nothing was sent), gateway.ErrLengthRequired, and those of
// Reader.ReadResponse, with gateway.ErrNoResponse for a connection that was closed without one byte of an answer: php-fpm
// does that to what it takes for a protocol error. When ctx is done the connection is closed and never used again.
//
// A body whose bytes are in memory (bytes.Reader, bytes.Buffer, strings.Reader) is written by the caller's goroutine if
// it is small; any other by a goroutine of its own, while the answer is read. If the answer ends first, that goroutine
// stops and the connection is closed; a Read of r.Body that waits then may be left behind until it returns.
func (c *Client) RoundTrip(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
	c.once.Do(c.setUp)
	c.count.Begin()
	res.Reset()
	x := attempt{c: c, ctx: ctx, r: r, res: res, started: c.clock().Now()}
	err := x.prepare()
	if err == nil {
		err = x.run()
	}
	if err != nil {
		res.Reset()
		c.count.End()
		c.count.Failed(err)
		if c.Observe != nil {
			c.observe(&x, err)
		}
	}
	return err
}

// observe is apart so that only those who observe pay for what escapes.
func (c *Client) observe(x *attempt, err error) {
	e := gateway.Exchange{Addr: c.Addr, Wait: x.waited, Dial: x.dialed, Total: time.Since(x.started), Err: err}
	if ge, ok := errors.AsType[*gateway.Error](err); ok {
		e.Reused = ge.Reused
	}
	c.Observe(x.ctx, &e)
}

// clock runs for those who observe.
func (c *Client) clock() client.Clock { return c.Observe != nil }

// Stats returns the counters since the first use, and the gauges of now.
func (c *Client) Stats() gateway.Stats {
	return c.count.Stats(c.pool.Counts())
}

// Close closes the idle connections; the Client can be used again.
func (c *Client) Close() error {
	c.pool.CloseIdle()
	return nil
}
