package scgi

import (
	"cmp"
	"context"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/server"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Server responds to requests with Handler. Set its fields before the first use and do not change
// them afterwards. Its methods may be called by several goroutines at once. After Shutdown or Close
// it cannot be used again.
//
// It serves one request on each connection, ignores anything that follows it, and closes the
// connection after the response. If a response must be cut, the connection is reset. A Unix socket
// cannot be reset; there only a Content-Length shows that the response is incomplete.
//
// At least 64 KiB of an unread body are buffered. Beyond that nothing is read from the connection,
// and a disconnect is not noticed, until the handler reads.
type Server struct {
	// Handler responds to requests. Nil means that requests are refused with the status 501.
	Handler gateway.Handler

	// MaxHeadBytes limits the head of a request. Zero or a negative value means 1 MiB.
	MaxHeadBytes int

	// MaxOpenHeadBytes limits the bytes of all heads that have not arrived completely. A request
	// that would exceed it is refused with the status 503. Zero or a negative value means 64 MiB.
	MaxOpenHeadBytes int

	// MaxConns limits the connections of all listeners. Further ones wait in the backlogs of the
	// listeners. Zero or a negative value means 10,000.
	MaxConns int

	// MaxRequests limits the concurrent requests of the server. A request above it is refused with
	// the status 503. Zero or a negative value means no limit.
	MaxRequests int

	// SendInterim allows handlers to send 1xx responses. Set it only if the web server understands
	// them; nginx, Apache and lighttpd do not.
	SendInterim bool

	// Peers lists the IP addresses that may connect. An empty list allows all. It does not apply to
	// Unix sockets, which SocketMode protects.
	Peers []netip.Prefix

	// SocketMode is the mode of a Unix socket that the server creates. Zero means 0660.
	SocketMode fs.FileMode

	// ReadHeadTimeout limits the time from the first byte to the last of a request's head. Zero
	// means 10 seconds; a negative value means no limit.
	ReadHeadTimeout time.Duration

	// IdleTimeout limits the time that a connection waits for the first byte of its request. Zero
	// means 2 minutes; a negative value means no limit.
	IdleTimeout time.Duration

	// WriteTimeout limits the time of one write. Zero means 1 minute; a negative value means no
	// limit.
	WriteTimeout time.Duration

	// ShutdownTimeout limits the time that Run waits for requests after its context is done. Zero
	// means 30 seconds; a negative value means no limit.
	ShutdownTimeout time.Duration

	// BaseContext, if not nil, returns the context of the connections of a listener. Nil means
	// context.Background.
	BaseContext func(net.Listener) context.Context

	// ConnContext, if not nil, returns the context of a connection, derived from ctx.
	ConnContext func(ctx context.Context, c net.Conn) context.Context

	// Observe, if not nil, is called once for each request, after its response has ended or was
	// cut, including requests that the server refused itself. ctx is the context of the connection,
	// or the one of Request.SetContext. r and x must not be used after Observe returns. A slow
	// Observe delays the next request of the connection. If Observe is nil, nothing is measured.
	Observe func(ctx context.Context, r *gateway.Request, x *gateway.ServerExchange)

	// Logger receives log records, and the lines that handlers write to Stderr. Nil means
	// slog.Default.
	Logger *slog.Logger

	once sync.Once
	core *server.Server
}

// Listen returns a listener on addr: "host:port", "unix:/path", "unix:@name" (an abstract socket of
// Linux), "fd:N" (a socket that the process has inherited), or "systemd:NAME" (a socket of
// LISTEN_FDS and LISTEN_FDNAMES; an empty NAME means the first one). A socket at /path gets the
// mode SocketMode. It replaces a socket on which no server listens. Any other file there, and a
// socket in use, is an error.
func (s *Server) Listen(addr string) (net.Listener, error) {
	return server.Listen("scgi", addr, s.SocketMode)
}

// Run listens on addr, in the forms of Listen, and serves until ctx is done. Then it shuts down
// within ShutdownTimeout. It returns nil if all requests have finished in time, and
// context.DeadlineExceeded if not. If it cannot listen, or if serving ends before ctx is done, it
// returns that error.
func (s *Server) Run(ctx context.Context, addr string) error {
	return server.Run(ctx, s, addr, s.ShutdownTimeout)
}

// ListenAndServe listens on addr, in the forms of Listen, and calls Serve. The error is never nil.
func (s *Server) ListenAndServe(addr string) error { return server.ListenAndServe(s, addr) }

// Serve accepts connections from l and serves each in its own goroutine. It closes l. The error is
// never nil: it is gateway.ErrServerClosed after Shutdown or Close, and that of Accept if l is
// closed otherwise. After any other error of Accept it tries again, after 5 milliseconds to 1
// second.
func (s *Server) Serve(l net.Listener) error { return s.server().Serve(l) }

// ServeConn serves one connection and closes it, unless the handler took it over with Hijack. It
// returns when the handler has returned: nil if the response was sent completely or nothing was
// received, or else the reason. ctx is the parent of the context of the request.
func (s *Server) ServeConn(ctx context.Context, c net.Conn) error {
	return s.server().ServeConn(ctx, c)
}

// Shutdown accepts what waits in the listeners' queues, closes the listeners, and waits until the
// requests have finished, those included that arrive within 100 milliseconds on connections that
// are open: the web server may have sent them already. If ctx is done first, it closes the
// remaining connections and returns context.Cause(ctx). Once Shutdown is called, Serve,
// ListenAndServe and Run return; the program must wait for Shutdown. The Server cannot be used
// again.
func (s *Server) Shutdown(ctx context.Context) error { return s.server().Shutdown(ctx) }

// Close closes the listeners and all connections, and cancels the contexts of the requests. It does
// not wait for their handlers, and does not close connections that handlers have taken over. It
// returns nil. The Server cannot be used again.
func (s *Server) Close() error { return s.server().Close() }

// Stats returns the counters since the first use, and the current gauges.
func (s *Server) Stats() gateway.ServerStats { return s.server().Stats() }

func (s *Server) logger() *slog.Logger { return cmp.Or(s.Logger, slog.Default()) }

// server returns the core of s. It is made of the fields on first use.
func (s *Server) server() *server.Server {
	s.once.Do(func() {
		s.core = server.New(
			server.Settings{
				s.Handler, s.MaxOpenHeadBytes, s.MaxConns, s.MaxRequests, s.SendInterim, s.Peers, s.ReadHeadTimeout, s.IdleTimeout,
				s.WriteTimeout, s.BaseContext, s.ConnContext, s.Observe, s.logger,
			},
			server.Protocol{Name: "SCGI", Directive: "scgi_pass", ReadHead: s.readHead, AppendHead: gateway.AppendResponse},
		)
	})
	return s.core
}

func (s *Server) readHead(in *stream.Input, r *gateway.Request) error {
	return readHead(in, r, s.MaxHeadBytes)
}
