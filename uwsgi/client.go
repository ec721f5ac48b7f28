package uwsgi

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	// params. Params whose names begin with UWSGI_ belong here.
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
// of a response, as uWSGI does if the vars exceed its buffer-size (4,096 bytes by default) or the
// packet is invalid. When ctx is done the connection is closed.
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
				"uwsgi", c.Addr, c.MaxConns, c.MaxHeadBytes, c.SendTimeout, c.HeadTimeout, c.BodyTimeout, c.Observe,
			},
			&c.dialer, c.appendHead, silence, fault,
		)
	})
	return c.core
}

func (c *Client) appendHead(dst []byte, r *gateway.Request) ([]byte, error) {
	return appendRequest(dst, r, c.env)
}

// silence explains what uWSGI does to a packet that exceeds its buffer-size.
func silence(head int) string {
	const usual = 4096
	if head -= headerSize; head > usual {
		return fmt.Sprintf("; the vars have %d bytes, and uWSGI's buffer-size is %d unless it is set", head, usual)
	}
	return ""
}

// Ping asks whether the server is alive: it must respond with modifier1 100 and modifier2 1. The
// connection is made within DialTimeout, and the response must arrive within HeadTimeout, or 5
// seconds if that is zero; ctx limits both. warning is the server's warning, at most 4 KiB of it,
// or "". uWSGI responds if its ping plugin is loaded. gateway.ErrNoResponse means that the
// connection was closed without a response, as by a server that does not know pings, and
// gateway.ErrMalformed that the response was something else.
func (c *Client) Ping(ctx context.Context) (warning string, err error) {
	if fault := c.client().Fault(); fault != nil {
		return "", fault
	}
	conn, err := c.dialer.Connect(ctx)
	if err != nil {
		return "", &gateway.Error{Phase: gateway.PhaseDial, Addr: c.Addr, Err: err}
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	timeout := c.HeadTimeout
	if timeout <= 0 {
		timeout = pingTimeout
	}
	conn.SetDeadline(time.Now().Add(timeout))
	phase := gateway.PhaseSend
	n, err := conn.Write(AppendHeader(nil, PacketHeader{Modifier1: ModifierPing}))
	in := &counted{r: conn}
	if err == nil {
		phase = gateway.PhaseHead
		warning, err = readPong(in)
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return "", &gateway.Error{Phase: phase, Addr: c.Addr, Sent: n > 0, Received: in.n > 0, Err: err}
	}
	return warning, nil
}

const pingTimeout = 5 * time.Second

// A counted counts the bytes that are read.
type counted struct {
	r io.Reader
	n int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func readPong(r io.Reader) (warning string, err error) {
	var b [headerSize]byte
	if n, err := io.ReadFull(r, b[:]); err != nil {
		if n == 0 && errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w (%w)", gateway.ErrNoResponse, err)
		}
		return "", fmt.Errorf("uwsgi: ping: %w", err)
	}
	h, _ := ConsumeHeader(b[:])
	if h.Modifier1 != ModifierPing || h.Modifier2 != 1 {
		return "", fmt.Errorf("uwsgi: ping: response has modifiers %d, %d: %w", h.Modifier1, h.Modifier2, gateway.ErrMalformed)
	}
	text, err := io.ReadAll(io.LimitReader(r, min(int64(h.Size), maxWarning)))
	if err == nil && len(text) < min(int(h.Size), maxWarning) {
		err = fmt.Errorf("uwsgi: ping: warning: %w", gateway.ErrTruncated)
	}
	return string(text), err
}

const maxWarning = 4 << 10
