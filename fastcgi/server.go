package fastcgi

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/server"
	"github.com/gatehouse-go/gatehouse/internal/slab"
	"github.com/gatehouse-go/gatehouse/internal/sockets"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Server responds to requests with Handler. Set its fields before the first use and do not change
// them afterwards. Its methods may be called by several goroutines at once. After Shutdown or Close
// it cannot be used again.
//
// It serves up to 256 requests at once on one connection, and refuses further ones with the status
// 503. Up to 64 KiB of an unread body are buffered per request. Beyond that nothing is read from
// the connection, and neither an abort nor a disconnect is noticed, until the handler reads. A
// handler that fails after part of its response was sent ends the connection, and with it the other
// requests on it: the web server has no other way to see that the response is incomplete.
type Server struct {
	// Handler responds to requests of the Responder role. Nil means that they are refused with the
	// status 501.
	Handler gateway.Handler

	// Authorizer responds to requests of the Authorizer role. It is not Handler, because the 200 of
	// an ordinary handler would authorize the client. Nil means that they are refused with the
	// status 501.
	Authorizer gateway.Handler

	// Filter responds to requests of the Filter role. It must read Request.Body before
	// Request.Data. Nil means that they are refused with the status 501.
	Filter gateway.Handler

	// MaxHeadBytes limits the params of a request. Zero or a negative value means 1 MiB.
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

	// BareEnd makes the server refuse a request with an END_REQUEST record alone, whose
	// protocolStatus says why. Otherwise it sends a complete response, such as a 503, which every
	// web server understands.
	BareEnd bool

	// SendInterim allows handlers to send 1xx responses. Set it only if the web server understands
	// them; nginx, Apache and lighttpd do not.
	SendInterim bool

	// Peers lists the IP addresses that may connect. An empty list allows all. It does not apply to
	// Unix sockets, which SocketMode protects.
	Peers []netip.Prefix

	// SocketMode is the mode of a Unix socket that the server creates. Zero means 0660.
	SocketMode fs.FileMode

	// ReadHeadTimeout limits the time to read a BEGIN_REQUEST record, and then the time to read the
	// params. Zero means 10 seconds; a negative value means no limit.
	ReadHeadTimeout time.Duration

	// IdleTimeout limits the time that a connection waits for the next request. Zero means 2
	// minutes; a negative value means no limit.
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

	// Logger receives log records. Nil means slog.Default.
	Logger *slog.Logger

	group    server.Group
	open     server.HeadBudget
	active   atomic.Int64
	requests sync.Pool // of *request
	writers  slab.Pool[responseWriter]
	common   server.Common
	observer server.Observer
	once     sync.Once // sets common and observer
}

// maxPerConn is the number of requests at once on one connection (F35).
const maxPerConn = 256

// Started reports whether this process was started as a FastCGI application, section 2.2:
// descriptor 0 is a listening socket. Run(ctx, "fd:0") then serves it.
func Started() bool { return sockets.IsListener(0) }

// Listen returns a listener on addr: "host:port", "unix:/path", "unix:@name" (an abstract socket of
// Linux), "fd:N" (a socket that the process has inherited), or "systemd:NAME" (a socket of
// LISTEN_FDS and LISTEN_FDNAMES; an empty NAME means the first one). A socket at /path gets the
// mode SocketMode. It replaces a socket on which no server listens. Any other file there, and a
// socket in use, is an error.
func (s *Server) Listen(addr string) (net.Listener, error) {
	return server.Listen("fastcgi", addr, s.SocketMode)
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
func (s *Server) Serve(l net.Listener) error {
	s.setUp()
	peers, strict, err := s.peers()
	if err != nil {
		l.Close()
		return err
	}
	ctx := context.Background()
	if s.BaseContext != nil {
		ctx = s.BaseContext(l)
	}
	return s.group.Serve(l, server.Options{
		MaxConns: stream.Limit(s.MaxConns, server.DefaultMaxConns),
		Peers:    peers,
		Strict:   strict,
		Logger:   s.logger(),
		Observer: &s.observer,
		Serve:    func(c net.Conn, ended func(error)) { s.serveConn(ctx, c, ended, s.group.AddAccepted) },
	})
}

// peers returns the addresses that may connect: Peers, restricted by FCGI_WEB_SERVER_ADDRS.
func (s *Server) peers() (peers []netip.Prefix, strict bool, err error) {
	list, ok := os.LookupEnv("FCGI_WEB_SERVER_ADDRS")
	if !ok {
		return s.Peers, false, nil
	}
	for field := range strings.SplitSeq(list, ",") {
		ip, err := netip.ParseAddr(strings.TrimSpace(field))
		if err != nil {
			return nil, false, fmt.Errorf("fastcgi: FCGI_WEB_SERVER_ADDRS: %q is not an IP address", field)
		}
		ip = ip.Unmap()
		if sockets.AllowedIP(s.Peers, ip) {
			peers = append(peers, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	if len(peers) == 0 {
		return nil, false, fmt.Errorf("fastcgi: FCGI_WEB_SERVER_ADDRS and Peers have no address in common")
	}
	return peers, true, nil
}

// ServeConn serves a connection and closes it. It returns when all its handlers have returned and
// no further request will be read. The error is nil if the web server closed the connection between
// two requests or the server was shut down. The contexts of the requests are derived from ctx.
func (s *Server) ServeConn(ctx context.Context, c net.Conn) error {
	over := make(chan error, 1)
	s.setUp()
	s.observer.Accepted()
	s.serveConn(ctx, c, func(err error) { over <- err }, s.group.Add)
	return <-over
}

func (s *Server) setUp() {
	s.once.Do(func() {
		s.common.SendInterim, s.common.Logger, s.common.AppendHead = s.SendInterim, s.logger, appendHead
		s.observer.Observe, s.observer.Logger = s.Observe, s.logger
	})
}

// serveConn serves c in this goroutine and in others, and calls ended when the last of them is done
// with it.
func (s *Server) serveConn(ctx context.Context, c net.Conn, ended func(error), add func(server.Conn) bool) {
	s.setUp()
	sc := newServerConn(s, ctx, c, ended)
	if !add(sc) {
		c.Close()
		ended(gateway.ErrServerClosed)
		return
	}
	sc.lead()
}

// Shutdown accepts what waits in the listeners' queues, closes the listeners, and waits until the
// requests have finished, those included that arrive within 100 milliseconds on connections that
// are open: the web server may have sent them already. If ctx is done first, it closes the
// remaining connections and returns context.Cause(ctx). Once Shutdown is called, Serve,
// ListenAndServe and Run return; the program must wait for Shutdown. The Server cannot be used
// again.
func (s *Server) Shutdown(ctx context.Context) error { return s.group.Shutdown(ctx) }

// Close closes the listeners and all connections, and cancels the contexts of the requests. It does
// not wait for their handlers. It returns nil. The Server cannot be used again.
func (s *Server) Close() error { return s.group.Close() }

// Stats returns the counters since the first use, and the current gauges.
func (s *Server) Stats() gateway.ServerStats { return s.observer.Stats(s.group.Len()) }

func (s *Server) logger() *slog.Logger { return cmp.Or(s.Logger, slog.Default()) }

// handler returns the handler of a role, or nil if there is none.
func (s *Server) handler(role gateway.Role) gateway.Handler {
	switch role {
	case gateway.RoleResponder:
		return s.Handler
	case gateway.RoleAuthorizer:
		return s.Authorizer
	case gateway.RoleFilter:
		return s.Filter
	}
	return nil
}
