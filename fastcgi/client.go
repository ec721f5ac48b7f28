package fastcgi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/client"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/params"
	"github.com/gatehouse-go/gatehouse/internal/slab"
	"github.com/gatehouse-go/gatehouse/internal/stream"
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

// attempt is one RoundTrip up to its answer's head.
type attempt struct {
	c          *Client
	ctx        context.Context
	r          *gateway.Request
	res        *gateway.Response
	head       *[]byte // the request's head as for id 1
	body       io.Reader
	touched    bool // body may have been read
	idempotent bool
	bodyless   bool // the answer has no body whatever its Content-Length says

	started time.Time
	waited  time.Duration
	dialed  time.Duration
}

// prepare checks and writes down all that can be before there is a connection.
func (x *attempt) prepare() error {
	c, r := x.c, x.r
	x.body = r.Body
	err := c.fault
	if err == nil && r.ContentLength < 0 && r.Body != nil && !c.UnknownLength {
		err = fmt.Errorf("fastcgi: %w", gateway.ErrLengthRequired)
	}
	if err == nil && r.ContentLength > 0 && r.Body == nil {
		err = stream.ErrShortBody
	}
	if err != nil {
		return x.fail(gateway.PhaseRequest, nil, err)
	}
	x.head, _ = c.heads.Get().(*[]byte)
	if x.head == nil {
		x.head = new([]byte)
	}
	if *x.head, err = appendRequest((*x.head)[:0], 1, c.MaxIdle > 0, r, c.env); err != nil {
		return x.fail(gateway.PhaseRequest, nil, err)
	}
	method, _ := r.Params.Lookup("REQUEST_METHOD")
	switch string(method) {
	case "HEAD":
		x.bodyless, x.idempotent = true, true
	case "GET", "OPTIONS", "TRACE":
		x.idempotent = true
	}
	return nil
}

// run sends the request, and once more if it may. A repeat keeps the place that the request has among MaxConns.
func (x *attempt) run() error {
	defer x.release()
	cc, err := x.take()
	if err != nil {
		return err
	}
	err = x.over(cc)
	if err != nil && cc != nil && x.mayRepeat(cc, err) {
		err = x.over(nil)
	}
	if err != nil {
		x.c.pool.Drop()
	}
	return err
}

// over sends the request over cc, nil for a new connection.
func (x *attempt) over(cc *clientConn) error {
	if cc == nil {
		var err error
		if cc, err = x.dial(); err != nil {
			return err
		}
	}
	return cc.exchange(x)
}

// release gives the head's memory back, unless the goroutine that sends the body has it.
func (x *attempt) release() {
	if x.head != nil && cap(*x.head) <= stream.MaxKept {
		x.c.heads.Put(x.head)
	}
}

// mayRepeat decides whether the request can be sent again, and gets its body once more for that: the kept connection was
// closed without a byte of an answer, and nobody minds if the application has seen the request.
func (x *attempt) mayRepeat(cc *clientConn, err error) bool {
	if !errors.Is(err, gateway.ErrNoResponse) || cc.out.Sent.Load() && !x.idempotent {
		return false
	}
	if x.head == nil {
		x.head = new([]byte) // the goroutine that sends has the other
	}
	if !x.touched {
		return true
	}
	if x.r.Data != nil || x.r.GetBody == nil {
		return false
	}
	body, err := x.r.GetBody()
	x.body, x.touched = body, false
	return err == nil
}

// take waits for a place among MaxConns. It returns a kept connection if there is one that is still good: the place of
// any other is for a new one.
func (x *attempt) take() (*clientConn, error) {
	c := x.c
	begun := c.clock().Now()
	cc, kept, err := c.pool.Get(x.ctx)
	x.waited = c.clock().Since(begun)
	switch {
	case err != nil:
		return nil, x.fail(gateway.PhaseWait, nil, err)
	case !kept:
		return nil, nil
	case !cc.usable():
		cc.c.Close()
		return nil, nil
	}
	c.count.Reused()
	cc.reused = true
	return cc, nil
}

// dial opens a new connection.
func (x *attempt) dial() (*clientConn, error) {
	c := x.c
	begun := c.clock().Now()
	conn, err := c.dialer.Connect(x.ctx)
	x.dialed = c.clock().Since(begun)
	if err != nil {
		return nil, x.fail(gateway.PhaseDial, nil, err)
	}
	c.count.Dialed()
	return newClientConn(c, conn), nil
}

// fail makes err an error of the exchange.
func (x *attempt) fail(phase gateway.Phase, cc *clientConn, err error) error {
	e := &gateway.Error{Phase: phase, Addr: x.c.Addr, Err: err}
	if cause := context.Cause(x.ctx); cause != nil && phase > gateway.PhaseRequest {
		e.Err = cause
	}
	if cc != nil {
		e.Reused, e.Sent, e.Received = cc.reused, cc.out.Sent.Load(), !cc.silent()
	}
	return e
}
