package uwsgi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/client"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Client is a gateway.RoundTripper that sends requests to an application. Set its fields before the
// first use and do not change them afterwards. Its methods may be called by several goroutines at
// once. Use one Client for each address.
//
// Each request has its own connection, which the response ends. Nothing is sent twice.
//
// The chunks of a response with Transfer-Encoding: chunked are decoded, RFC 9112 section 7.1, if
// its head begins with a status line of HTTP/1.1 and has no Content-Length, as gunicorn's responses
// do. Any other Transfer-Encoding is gateway.ErrMalformed.
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
	// silent. It does not apply to the Stream of a 101 response.
	BodyTimeout time.Duration

	// MaxHeadBytes limits the head of a response, in bytes. Zero or a negative value means 64 KiB.
	MaxHeadBytes int

	// Observe, if not nil, is called once for each RoundTrip: when it fails, or when the Body of
	// its response has ended or is closed. Several goroutines may call it at once. x is valid until
	// it returns.
	Observe func(ctx context.Context, x *gateway.Exchange)

	once sync.Once
	core *client.Client
}

// RoundTrip implements gateway.RoundTripper. Errors are *gateway.Error. The cause is
//
//   - in PhaseRequest, before anything is sent, an error of AppendRequest or
//     gateway.ErrLengthRequired;
//   - in PhaseDial, the error of the dialer;
//   - gateway.ErrNoResponse if the connection was closed before a byte of the response, as uWSGI
//     does if the vars exceed its buffer-size (4,096 bytes by default) or the packet is invalid;
//   - an error of Reader.ReadResponse; or
//   - context.Cause(ctx) once ctx is done. The connection is then closed.
//
// The Body of a 101 to a request with an Upgrade is a gateway.Stream, which the caller must close.
//
// The calling goroutine sends a body of at most 16 KiB in a bytes.Reader, bytes.Buffer or
// strings.Reader. A second goroutine sends any other while the response is read. If the response
// ends first, that goroutine stops; a Read of r.Body in progress may return later.
func (c *Client) RoundTrip(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
	return c.client().RoundTrip(ctx, r, res)
}

// Stats returns the counters since the first use, and the current gauges. No connection is ever
// reused or idle.
func (c *Client) Stats() gateway.Stats { return c.client().Stats() }

// Close closes the connections on which an application still finishes a response without a body
// that the caller has closed. No other connection is kept. It returns nil.
func (c *Client) Close() error {
	c.client().Close()
	return nil
}

// client returns the core of c. It is made of the fields on first use.
func (c *Client) client() *client.Client {
	c.once.Do(func() {
		c.core = client.NewOverSockets(
			client.Settings{
				"uwsgi", c.Addr, c.MaxConns, c.MaxHeadBytes, c.SendTimeout, c.HeadTimeout, c.BodyTimeout, c.Observe,
			},
			client.Sockets{c.Dial, c.DialTimeout, c.Env, appendRequest, true, silence},
		)
	})
	return c.core
}

// silence explains what uWSGI does to a packet that exceeds its buffer-size.
func silence(head int) string {
	const usual = 4096
	if head -= headerSize; head > usual {
		return fmt.Sprintf("; the vars have %d bytes, and uWSGI's buffer-size is %d unless it is set", head, usual)
	}
	return ""
}

// Ping asks whether the server is alive. It succeeds if the server responds with modifier1 100 and
// modifier2 1. warning is the text that the server may send with it, at most 4 KiB. Ping connects
// within DialTimeout and waits for the response for HeadTimeout, or 5 seconds if that is zero or
// negative, or until ctx is done. Errors are *gateway.Error, unless Addr or Env is invalid. The
// cause is gateway.ErrNoResponse if the connection was closed without a response, as by a server
// that does not know pings, gateway.ErrTruncated if the warning is incomplete, and
// gateway.ErrMalformed if the response is something else. uWSGI responds only if its ping plugin is
// loaded.
func (c *Client) Ping(ctx context.Context) (warning string, err error) {
	ping := AppendHeader(nil, PacketHeader{Modifier1: ModifierPing})
	err = c.send(ctx, stream.Limit(c.HeadTimeout, pingTimeout), ping, func(in *stream.Input) error {
		warning, err = readPong(in)
		return err
	})
	return warning, err
}

// send sends a packet that is not a request on a connection of its own, and has read read the
// response. A timeout of 0 means no limit.
func (c *Client) send(ctx context.Context, timeout time.Duration, b []byte, read func(in *stream.Input) error) error {
	if fault := c.client().Fault(); fault != nil {
		return fault
	}
	conn, err := c.core.Dialer.Connect(ctx)
	if err != nil {
		return client.NewError(ctx, gateway.PhaseDial, c.Addr, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if timeout > 0 {
		conn.SetDeadline(time.Now().Add(timeout))
	}
	phase := gateway.PhaseSend
	n, err := conn.Write(b)
	var in stream.Input
	in.Reset(conn)
	if err == nil {
		phase = gateway.PhaseHead
		err = read(&in)
	}
	if err != nil {
		e := client.NewError(ctx, phase, c.Addr, err)
		e.Sent, e.Received = n > 0, in.Offset() > 0
		return e
	}
	return nil
}

const pingTimeout = 5 * time.Second

func readPong(r io.Reader) (warning string, err error) {
	var b [headerSize]byte
	if n, err := io.ReadFull(r, b[:]); err != nil {
		if n == 0 && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) {
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
