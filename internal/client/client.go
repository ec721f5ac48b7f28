// Package client is the web server's end of a connection. Client sends each request once, over its
// own connection, for SCGI, uwsgi and CGI. Package fastcgi has its own connections, which are kept,
// and may send a request a second time. Upload sends a body while the response is awaited, and Pool
// counts connections and keeps idle ones, for every protocol.
package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Settings are the fields that the clients of SCGI, uwsgi and CGI have in common. It is an alias of
// an unnamed struct, so that vet permits literals without field names: then a field that is added
// here and not set in a client does not compile.
type Settings = struct {
	Protocol     string // for errors
	Addr         string
	MaxConns     int
	MaxHeadBytes int
	SendTimeout  time.Duration
	HeadTimeout  time.Duration
	BodyTimeout  time.Duration
	Observe      func(ctx context.Context, x *gateway.Exchange)
}

// A Prepare checks a request and appends its head to dst. It returns how to connect.
type Prepare func(dst []byte, r *gateway.Request) (head []byte, open Open, err error)

// A Client sends each request over its own connection.
type Client struct {
	Settings
	Dialer Dialer // of NewOverSockets

	prepare Prepare
	chunks  bool  // of Sockets
	fault   error // of the configuration
	pool    Pool[*exchange]
	heads   Heads
	drains  Drains
	count   Counters
}

// New returns a Client. fault, if it is not nil, is the error of every request.
func New(settings Settings, prepare Prepare, fault error) *Client {
	c := &Client{Settings: settings, prepare: prepare, fault: fault}
	c.pool.Max = settings.MaxConns
	return c
}

// Sockets are the settings of a Client that dials, besides Settings. It is an alias as well.
type Sockets = struct {
	Dial        func(ctx context.Context) (net.Conn, error)
	DialTimeout time.Duration
	Env         []string
	AppendHead  func(dst []byte, r *gateway.Request, env *pairs.List) ([]byte, error)

	// Chunks says that a response with a status line of HTTP/1.1 may have chunks.
	Chunks bool

	// Hint, if not nil, returns a text to add to ErrNoResponse, given the size of the request's
	// head.
	Hint func(head int) string
}

// NewOverSockets returns a Client that dials.
func NewOverSockets(settings Settings, s Sockets) *Client {
	env, dialer, err := SetUp(s.Env, settings.Addr, s.Dial, s.DialTimeout)
	open := func(ctx context.Context, socket *Socket) (Conn, error) {
		conn, err := dialer.Connect(ctx)
		socket.Conn, socket.hint = conn, s.Hint
		return socket, err
	}
	c := New(settings, func(dst []byte, r *gateway.Request) ([]byte, Open, error) {
		head, err := s.AppendHead(dst, r, env)
		return head, open, err
	}, err)
	c.Dialer, c.chunks = dialer, s.Chunks
	return c
}

// Fault returns the error of the configuration.
func (c *Client) Fault() error { return c.fault }

// RoundTrip sends r and reads the head of the response into res.
func (c *Client) RoundTrip(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
	c.count.Begin()
	res.Reset()
	x := &exchange{client: c, ctx: ctx, started: c.clock().Now()}
	returned := false
	defer func() {
		if !returned { // a function of the caller has panicked
			x.drop()
			c.count.End()
		}
	}()
	phase, err := x.roundTrip(r, res)
	returned = true
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

// Close ends the drains of responses without a body.
func (c *Client) Close() { c.drains.Close() }

// Stats returns the counters since the first use, and the current gauges.
func (c *Client) Stats() gateway.Stats { return c.count.Stats(c.pool.Counts()) }

var errNotStream = errors.New("gateway: the connection cannot be handed over")

// NewError returns the error of an exchange that failed in phase because of err, or because ctx is
// done. A fault of the request's body stays: net/http cancels the context of a request whose body
// it cannot read.
func NewError(ctx context.Context, phase gateway.Phase, addr string, err error) *gateway.Error {
	cause := context.Cause(ctx)
	if cause != nil && !errors.Is(cause, ctx.Err()) {
		cause = fmt.Errorf("%w (%w)", cause, ctx.Err()) // which says whether it was a time-out
	}
	switch {
	case cause == nil || phase <= gateway.PhaseRequest:
	case errors.Is(err, gateway.ErrRequestBody) && !errors.Is(err, ctx.Err()):
		err = fmt.Errorf("%w (%w)", err, cause)
	default:
		err = cause
	}
	return &gateway.Error{Phase: phase, Addr: addr, Err: err}
}

// Heads is a pool of memory for the heads of requests.
type Heads struct{ pool sync.Pool } // of *[]byte

// Get returns empty memory.
func (h *Heads) Get() *[]byte {
	head, _ := h.pool.Get().(*[]byte)
	if head == nil {
		head = new([]byte)
	}
	return head
}

// Put takes memory back, unless it is nil or has grown large.
func (h *Heads) Put(head *[]byte) {
	if head != nil && cap(*head) <= stream.MaxKept {
		*head = (*head)[:0] // no request may send the head of another
		h.pool.Put(head)
	}
}
