package fastcgi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/client"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/slab"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Client is a gateway.RoundTripper for a FastCGI application. Set its fields before the first use
// and do not change them afterwards. Its methods may be called by several goroutines at once. Use
// one Client for each address.
//
// Each connection carries one request at a time. The zero value keeps no connection: PHP dedicates
// a worker to each kept one.
//
// A request is sent a second time, over a new connection, only if a kept connection was closed
// before a byte of the response arrived. In addition, either no byte of the request was written, or
// its method is GET, HEAD, OPTIONS or TRACE. If any of its body was read, GetBody must not be nil
// and Data must be nil.
type Client struct {
	// Addr is the address of the application: "host:port", "unix:/path" or "unix:@name" (an
	// abstract socket of Linux). It also identifies the backend in errors.
	Addr string

	// Dial, if not nil, connects to the application instead of Addr. Its context is done after
	// DialTimeout. The Client owns and closes the connection.
	Dial func(ctx context.Context) (net.Conn, error)

	// Env lists params, "NAME=value", that are sent with every request and replace the request's
	// params of the same name. If an entry is malformed, or is CONTENT_LENGTH, every request fails
	// with gateway.ErrParam.
	Env []string

	// MaxConns limits the connections. Further requests wait for a connection until their context
	// is done. Zero or a negative value means no limit.
	MaxConns int

	// MaxIdleConns limits the number of idle connections that are kept. Zero or a negative value
	// means that none is kept and FCGI_KEEP_CONN is not sent.
	MaxIdleConns int

	// IdleConnTimeout is how long an idle connection is kept. Zero means 30 seconds; a negative
	// value means no limit.
	IdleConnTimeout time.Duration

	// MaxLifetime limits the age at which a connection is reused. Zero or a negative value means no
	// limit.
	MaxLifetime time.Duration

	// DialTimeout limits the time to connect. Zero means 5 seconds; a negative value means no
	// limit.
	DialTimeout time.Duration

	// SendTimeout limits how long sending the request may make no progress. Zero means 60 seconds;
	// a negative value means no limit.
	SendTimeout time.Duration

	// HeadTimeout limits the time from the end of the request to the end of the response's head.
	// Zero means 60 seconds; a negative value means no limit, as for long polling.
	HeadTimeout time.Duration

	// BodyTimeout limits the time that one read of a response body waits for a byte of it. Zero
	// means 60 seconds; a negative value means no limit, as for streams of events that may be
	// silent.
	BodyTimeout time.Duration

	// UnknownLength makes the client send a body of unknown length without CONTENT_LENGTH. PHP
	// ignores such a body. Without UnknownLength the request is ErrLengthRequired.
	UnknownLength bool

	// MaxHeadBytes limits the head of a response, in bytes. Zero or a negative value means 64 KiB.
	MaxHeadBytes int

	// Stderr, if not nil, is called for each line that the application writes to STDERR, unless
	// Request.Stderr is set. At most 64 KiB of a response are passed. Control bytes are escaped,
	// and lines of more than 4 KiB are split. line is valid until Stderr returns. Several
	// goroutines may call Stderr at once. Nil means that the lines are logged to Logger.
	Stderr func(ctx context.Context, line []byte)

	// Observe, if not nil, is called once for each RoundTrip: when it fails, or when the Body of
	// its response has ended or is closed. Several goroutines may call it at once. x is valid until
	// it returns.
	Observe func(ctx context.Context, x *gateway.Exchange)

	// Logger receives log records. Nil means slog.Default.
	Logger *slog.Logger

	once   sync.Once
	env    *pairs.List
	dialer client.Dialer
	fault  error // of the configuration
	pool   client.Pool[*clientConn]
	bodies slab.Pool[clientBody]
	heads  client.Heads
	drains client.Drains
	count  client.Counters
}

func (c *Client) setUp() {
	c.env, c.dialer, c.fault = client.SetUp(c.Env, c.Addr, c.Dial, c.DialTimeout)
	c.drains.Logger = c.Logger
	c.pool.Max, c.pool.MaxIdle = c.MaxConns, max(c.MaxIdleConns, 0)
	c.pool.MaxAge = stream.Timeout(c.IdleConnTimeout, 30*time.Second)
}

// RoundTrip implements gateway.RoundTripper. Errors are *gateway.Error. The cause is
//
//   - in PhaseRequest, before anything is sent, an error of AppendRequest or
//     gateway.ErrLengthRequired;
//   - in PhaseDial, the error of the dialer;
//   - gateway.ErrNoResponse if the connection was closed before a byte of the response, as php-fpm
//     does after a protocol error;
//   - an error of Reader.ReadResponse; or
//   - context.Cause(ctx) once ctx is done. The connection is then closed.
//
// The calling goroutine sends a body of at most 16 KiB in a bytes.Reader, bytes.Buffer or
// strings.Reader. A second goroutine sends any other while the response is read. If the response
// ends first, that goroutine stops and the connection is closed; a Read of r.Body in progress may
// return later.
func (c *Client) RoundTrip(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
	c.once.Do(c.setUp)
	c.count.Begin()
	res.Reset()
	x := roundTrip{c: c, ctx: ctx, r: r, res: res, started: c.clock().Now()}
	counted := true
	defer func() {
		if counted { // a function of the caller has panicked
			c.count.End()
		}
	}()
	err := x.prepare()
	if err == nil {
		err = x.run()
	}
	counted = false // the Body ends the request, or it ends here
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

// observe is separate from RoundTrip, so that e is allocated only if Observe is set.
func (c *Client) observe(x *roundTrip, err error) {
	e := gateway.Exchange{Addr: c.Addr, Wait: x.waited, Dial: x.dialed, Total: time.Since(x.started), Err: err}
	if ge, ok := errors.AsType[*gateway.Error](err); ok {
		e.Reused = ge.Reused
	}
	c.Observe(x.ctx, &e)
}

// clock returns a Clock that runs if the client is observed.
func (c *Client) clock() client.Clock { return c.Observe != nil }

// Stats returns the counters since the first use, and the current gauges.
func (c *Client) Stats() gateway.Stats {
	return c.count.Stats(c.pool.Counts())
}

// Close closes the idle connections, and those on which an application still finishes a response
// without a body that the caller has closed. It does not affect other requests in progress, whose
// connections may be kept afterwards. It returns nil.
func (c *Client) Close() error {
	c.drains.Close()
	c.pool.CloseIdle()
	return nil
}
