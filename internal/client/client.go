package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Client sends each request over a connection of its own. Its fields are set before the first use.
type Client struct {
	Protocol     string // for errors
	Addr         string
	Fault        error // of the configuration
	MaxConns     int
	MaxHeadBytes int
	SendTimeout  time.Duration // zero means a minute; a negative value means no limit
	HeadTimeout  time.Duration
	IdleTimeout  time.Duration
	Prepare      func(dst []byte, r *gateway.Request) (head []byte, plan any, err error) // appends the head of r; plan is for Connect
	Connect      func(ctx context.Context, plan any) (Conn, error)                       // opens a connection, or starts a process
	Silence      func(c Conn, head int) string                                           // what a close without a byte of an answer may mean; may be nil
	Observe      func(ctx context.Context, x *gateway.Exchange)

	once  sync.Once
	pool  Pool[*exchange]
	heads sync.Pool // of *[]byte
	count Counters
}

// Process is a Conn that must be told when the request is whole, and that says how the answer ended when its input has.
type Process interface {
	CloseWrite() error
	Wait() (status uint32, err error)
	StatusLine() stream.StatusLine // how its answer must begin
	Gone() <-chan struct{}         // closed when nothing of it is left, some time after Close
}

// RoundTrip sends r and reads the head of its answer into res.
func (c *Client) RoundTrip(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
	c.once.Do(func() { c.pool.Max = c.MaxConns })
	c.count.Begin()
	res.Reset()
	x := &exchange{client: c, ctx: ctx, started: c.clock().Now()}
	phase, err := x.roundTrip(r, res)
	if err == nil {
		return nil
	}
	res.Reset()
	err = x.fail(phase, err)
	x.drop()
	c.count.End()
	c.count.Failed(err)
	x.observe(err)
	return err
}

func (c *Client) clock() Clock { return c.Observe != nil }

// Stats returns the counters since the first use, and the gauges of now.
func (c *Client) Stats() gateway.Stats { return c.count.Stats(c.pool.Counts()) }

// prepare checks and writes down all that can be before there is a connection.
func (x *exchange) prepare(r *gateway.Request) error {
	c := x.client
	switch {
	case c.Fault != nil:
		return c.Fault
	case r.Role > 1:
		return fmt.Errorf("%s: role %v: %w", c.Protocol, r.Role, gateway.ErrParam)
	case r.ContentLength < 0 && r.Body != nil:
		return fmt.Errorf("%s: %w", c.Protocol, gateway.ErrLengthRequired)
	case r.ContentLength > 0 && r.Body == nil:
		return stream.ErrShortBody
	}
	x.head, _ = c.heads.Get().(*[]byte)
	if x.head == nil {
		x.head = new([]byte)
	}
	var err error
	*x.head, x.plan, err = c.Prepare((*x.head)[:0], r)
	x.headSize = len(*x.head)
	return err
}

// roundTrip is RoundTrip up to its answer's head.
func (x *exchange) roundTrip(r *gateway.Request, res *gateway.Response) (gateway.Phase, error) {
	c := x.client
	if err := x.prepare(r); err != nil {
		return gateway.PhaseRequest, err
	}
	begun := c.clock().Now()
	if _, _, err := c.pool.Get(x.ctx); err != nil {
		return gateway.PhaseWait, err
	}
	x.granted = true
	x.x.Wait = c.clock().Since(begun)
	begun = c.clock().Now()
	conn, err := c.Connect(x.ctx, x.plan)
	x.x.Dial = c.clock().Since(begun)
	if err != nil {
		return gateway.PhaseDial, err
	}
	c.count.Dialed()
	x.attach(conn)
	if err := x.send(r); err != nil {
		return x.phase(gateway.PhaseRequest), err
	}
	if err := x.readHead(r, res); err != nil {
		return x.phase(gateway.PhaseHead), err
	}
	return 0, nil
}

// phase returns PhaseSend if the application takes no more of the request, or else phase.
func (x *exchange) phase(phase gateway.Phase) gateway.Phase {
	if x.up.Stuck() {
		return gateway.PhaseSend
	}
	return phase
}

// fail makes err an error of the exchange.
func (x *exchange) fail(phase gateway.Phase, err error) error {
	e := &gateway.Error{Phase: phase, Addr: x.client.Addr, Err: err}
	if cause := context.Cause(x.ctx); cause != nil && phase > gateway.PhaseRequest {
		e.Err = cause
	}
	if x.c != nil {
		_, process := x.c.(Process) // which was given the params when it was started
		e.Sent, e.Received = process || x.out.Sent.Load(), x.received()
	}
	return e
}

// observe tells Observe of the exchange; err is nil if all of it went well.
func (x *exchange) observe(err error) {
	if x.client.Observe == nil {
		return
	}
	x.x.Addr = x.client.Addr
	x.x.Total = time.Since(x.started)
	x.x.Sent = x.out.Content.Load()
	x.x.Err = err
	x.client.Observe(x.ctx, &x.x)
}

// giveHead gives the memory of a head back.
func (c *Client) giveHead(head *[]byte) {
	if head != nil && cap(*head) <= stream.MaxKept {
		c.heads.Put(head)
	}
}

var errNotStream = errors.New("gateway: the connection cannot be handed over")
