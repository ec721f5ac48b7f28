package gatewayhttp

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/client"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Client is a gateway.RoundTripper for an HTTP/1.1 server, such as uvicorn, daphne, hypercorn,
// gunicorn or node. It does for HTTP what fastcgi.Client does for FastCGI, over an http.Transport
// of its own. Set its fields before the first use and do not change them afterwards. Its methods
// may be called by several goroutines at once. Use one Client for each address.
//
// The request target is REQUEST_URI as it was sent, in origin form, and Host is Request.Host.
// HTTP_* params become fields with "-" in place of "_", and CONTENT_TYPE becomes Content-Type. The
// client's own Forwarded, X-Forwarded-* and X-Real-IP are dropped. In its place
// X-Forwarded-For is REMOTE_ADDR, X-Forwarded-Proto is "https" or "http" by Request.TLS, and
// X-Forwarded-Host is Host. A server on a Unix socket learns the client's address from these alone:
// uvicorn and gunicorn need --forwarded-allow-ips '*' for that.
//
// HTTP has no place for SCRIPT_NAME, REMOTE_USER, AUTH_TYPE and SSL_*; Rewrite can send them as
// fields to a server that trusts this program. It must set or delete such a field in every request:
// the client may have sent one of that name. A body of unknown length is sent in chunks. Interim
// responses go to Request.Interim, and the Body of a 101 to a request with an Upgrade is a
// gateway.Stream.
//
// A request is sent a second time only as http.Transport does it: over a new connection, if a kept
// one was closed before a byte of the request was sent, or before one of the response arrived and
// the method is GET, HEAD, OPTIONS or TRACE and there is no body. A POST is never sent twice,
// whatever fields it has.
//
// A connection on which a server sends more than the response is closed, so that the rest is not
// taken for the next response. After a response that has no body, one to HEAD, a 204 or a 304, it
// is always closed, since some servers send a body all the same.
type Client struct {
	// Addr is the address of the server: "host:port", "unix:/path" or "unix:@name" (an abstract
	// socket of Linux). It also identifies the backend in errors.
	Addr string

	// Dial, if not nil, connects to the server instead of Addr. Its context is done after
	// DialTimeout. The Client owns and closes the connection.
	Dial func(ctx context.Context) (net.Conn, error)

	// TLS, if not nil, is the configuration of TLS, which every connection then uses. An empty
	// ServerName means the host of Addr. Nil means plain HTTP.
	TLS *tls.Config

	// Rewrite, if not nil, changes the outgoing request when everything else has been set. Its
	// error ends the exchange in PhaseRequest. out.URL.Opaque is the target, or out.URL.Path if
	// that begins with two slashes. SCRIPT_NAME and PATH_INFO do not change it: a server that is to
	// receive the path below a mount gets that from Rewrite.
	Rewrite func(out *http.Request, r *gateway.Request) error

	// TrustForwarded says that a trusted proxy is in front of this program. The fields Forwarded,
	// X-Forwarded-* and X-Real-IP that it sent are then passed on, and REMOTE_ADDR is appended to
	// X-Forwarded-For.
	TrustForwarded bool

	// MaxConns limits the connections. Further requests wait for a connection until their context
	// is done. Zero or a negative value means no limit.
	MaxConns int

	// MaxIdleConns limits the number of idle connections that are kept. Zero or a negative value
	// means 64.
	MaxIdleConns int

	// DisableKeepAlives closes every connection after one request.
	DisableKeepAlives bool

	// IdleConnTimeout is how long an idle connection is kept. Zero means 1 second, since servers
	// close theirs after 2 seconds (gunicorn) or 5 seconds (uvicorn, hypercorn, node), and a POST
	// that meets the close is lost. A negative value means no limit.
	IdleConnTimeout time.Duration

	// DialTimeout limits the time to connect, including the handshake of TLS. Zero means 5 seconds;
	// a negative value means no limit.
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

	once      sync.Once
	dialer    client.Dialer
	fault     error // of the configuration
	transport *http.Transport
	places    client.Pool[io.Closer] // counts requests; the transport keeps the connections
	count     client.Counters
	open      atomic.Int64 // connections
	busy      atomic.Int64 // those of them that carry a request
}

func (c *Client) setUp() {
	_, c.dialer, c.fault = client.SetUp(nil, c.Addr, c.Dial, c.DialTimeout)
	c.places.Max = c.MaxConns
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	c.transport = &http.Transport{
		Proxy:                  nil,
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return c.connect(ctx, false) },
		DialTLSContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return c.connect(ctx, true) },
		Protocols:              protocols,
		DisableCompression:     true,
		DisableKeepAlives:      c.DisableKeepAlives,
		MaxConnsPerHost:        max(c.MaxConns, 0),
		MaxIdleConns:           stream.Limit(c.MaxIdleConns, 64),
		MaxIdleConnsPerHost:    stream.Limit(c.MaxIdleConns, 64),
		IdleConnTimeout:        stream.Timeout(c.IdleConnTimeout, time.Second),
		ResponseHeaderTimeout:  stream.Timeout(c.HeadTimeout, client.DefaultHeadTimeout),
		MaxResponseHeaderBytes: int64(stream.Limit(c.MaxHeadBytes, stream.DefaultResponseHead)),
	}
}

// RoundTrip implements gateway.RoundTripper. Errors are *gateway.Error. The cause is
//
//   - in PhaseRequest, before anything is sent, gateway.ErrParam: no method, CONNECT, a target or a
//     host that HTTP does not allow, a role other than Responder; or the error of Rewrite;
//   - in PhaseDial, the error of the dialer, or of the handshake of TLS;
//   - gateway.ErrNoResponse if the connection was closed before a byte of the response;
//   - gateway.ErrTruncated if it was closed later, gateway.ErrMalformed for what is not a response
//     of HTTP/1, or a 101 that was not asked for, and gateway.ErrTooLarge for a head over
//     MaxHeadBytes; or
//   - context.Cause(ctx) once ctx is done. The connection is then closed.
func (c *Client) RoundTrip(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
	c.once.Do(c.setUp)
	c.count.Begin()
	res.Reset()
	x := &clientExchange{c: c, ctx: ctx, started: time.Now()}
	returned := false
	defer func() {
		if !returned { // a function of the caller has panicked
			x.drop()
			c.count.End()
		}
	}()
	phase, err := x.roundTrip(r, res)
	if x.panicked != nil {
		panic(x.panicked)
	}
	returned = true
	if err == nil {
		return nil
	}
	res.Reset()
	e := client.NewError(ctx, phase, c.Addr, err)
	e.Reused, e.Sent, e.Received = x.reused, x.sent() > 0, x.received() > 0
	x.drop()
	c.count.End()
	c.count.Failed(e)
	x.observe(e)
	return e
}

// Stats returns the counters since the first use, and the current gauges.
func (c *Client) Stats() gateway.Stats {
	_, waiting := c.places.Counts()
	return c.count.Stats(int(max(c.open.Load()-c.busy.Load(), 0)), waiting)
}

// Close closes the idle connections. It does not affect requests in progress, whose connections may
// be kept afterwards. It returns nil.
func (c *Client) Close() error {
	c.once.Do(c.setUp)
	c.transport.CloseIdleConnections()
	return nil
}

// connect opens a connection for the transport, which calls it in a goroutine of its own.
func (c *Client) connect(ctx context.Context, secure bool) (conn net.Conn, err error) {
	defer func() {
		if v := recover(); v != nil { // Dial has panicked; RoundTrip passes it on
			conn, err = nil, &panicError{v}
		}
	}()
	if c.dialer.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.dialer.Timeout)
		defer cancel()
	}
	raw, err := c.dialer.Connect(ctx)
	if err != nil {
		return nil, err
	}
	c.count.Dialed()
	c.open.Add(1)
	cc := &clientConn{Conn: raw, c: c}
	cc.timeout.Store(int64(stream.Timeout(c.SendTimeout, client.DefaultSendTimeout)))
	fc := &framedConn{Conn: cc, timeout: stream.Timeout(c.BodyTimeout, client.DefaultBodyTimeout), wait: c.patience(), ended: make(chan struct{})}
	if !secure {
		return fc, nil
	}
	tc := tls.Client(cc, c.tlsConfig())
	if err := tc.HandshakeContext(ctx); err != nil {
		cc.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	fc.Conn = tc
	return fc, nil
}

// patience returns how long a write that has failed waits for the head of a response: no longer
// than HeadTimeout.
func (c *Client) patience() time.Duration {
	const limit = 5 * time.Second
	if d := stream.Timeout(c.HeadTimeout, client.DefaultHeadTimeout); d > 0 {
		return min(d, limit)
	}
	return limit
}

// tlsConfig returns the configuration of TLS with the server's name and protocol.
func (c *Client) tlsConfig() *tls.Config {
	config := c.TLS.Clone()
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(c.Addr)
	}
	config.NextProtos = []string{"http/1.1"}
	return config
}

// A panicError carries a panic from a goroutine of the transport to the caller of RoundTrip.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }
