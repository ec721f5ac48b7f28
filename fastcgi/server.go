package fastcgi

import (
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

// Server answers requests with Handler. Set its fields before the first use and leave them; its methods may be called
// by several goroutines at once.
//
// It takes several requests at once on one connection, up to 256. A handler that does not read its body holds nobody
// up until 64 KiB of it have come; then the connection waits for it, and what lies behind that body, an abort or the end
// of the connection, is not seen until it is read. A handler that fails after part of its answer has
// left ends the connection, and with it the other requests there: only so can the web server see that the answer is cut.
type Server struct {
	Handler         gateway.Handler                                       // of Responder requests
	Authorizer      gateway.Handler                                       // of Authorizer requests: an answer of 200 lets the client in, so no Responder may give it
	Filter          gateway.Handler                                       // of Filter requests; reads Request.Data after Body
	MaxHeadBytes    int                                                   // of a request's params; 0 stands for 1 MiB
	MaxConns        int                                                   // 0 stands for 10000; more wait in the listener's queue
	MaxRequests     int                                                   // at once; 0 stands for no bound; above it the request is refused
	BareEnd         bool                                                  // refuse with END_REQUEST alone; false: a Status: 503 that every front end understands
	Interim         bool                                                  // the peer takes 1xx answers; nginx, Apache and lighttpd do not
	Peers           []netip.Prefix                                        // who may connect by IP; empty stands for anyone
	SocketMode      fs.FileMode                                           // of a unix: address; 0 stands for 0660
	ReadHeadTimeout time.Duration                                         // from the first byte to the last of the params; 0 stands for 10 s
	IdleTimeout     time.Duration                                         // between two requests; 0 stands for 2 min
	WriteTimeout    time.Duration                                         // of one write; 0 stands for 1 min
	ShutdownTimeout time.Duration                                         // of Run; 0 stands for 30 s
	BaseContext     func(net.Listener) context.Context                    // of what comes through a listener; nil stands for context.Background
	ConnContext     func(ctx context.Context, c net.Conn) context.Context // of a connection; nil stands for ctx
	Logger          *slog.Logger                                          // nil stands for slog.Default

	group    server.Group
	active   atomic.Int64
	requests sync.Pool // of *request
	writers  slab.Pool[responseWriter]
	common   server.Common
	once     sync.Once // sets common
}

// maxPerConn is the number of requests at once on one connection (F35).
const maxPerConn = 256

// Started reports whether this process was started as a FastCGI application, section 2.2: descriptor 0 is a listening
// socket. Then Run(ctx, "fd:0") serves it.
func Started() bool { return sockets.IsListener(0) }

// Listen opens a listener on "host:port", "unix:/path" (mode is that of the socket, 0 stands for 0660; a socket that
// nobody listens on is replaced, anything else there is an error), "fd:N" (inherited) or "systemd:NAME" (LISTEN_FDS and
// LISTEN_FDNAMES; NAME may be empty, which takes the first).
func Listen(addr string, mode fs.FileMode) (net.Listener, error) {
	return server.Listen("fastcgi", addr, mode)
}

// Run listens on addr and serves until ctx is done, then shuts down within ShutdownTimeout. It returns nil if every
// request could finish. Addresses are those of Listen.
func (s *Server) Run(ctx context.Context, addr string) error {
	l, err := Listen(addr, s.SocketMode)
	if err != nil {
		return err
	}
	return server.Run(ctx, s, l, s.ShutdownTimeout)
}

// ListenAndServe listens on addr and serves until the server is closed. Addresses are those of Listen.
func (s *Server) ListenAndServe(addr string) error {
	l, err := Listen(addr, s.SocketMode)
	if err != nil {
		return err
	}
	return s.Serve(l)
}

// Serve accepts connections from l and serves them, until Shutdown or Close, after which it returns
// gateway.ErrServerClosed, or until l is closed by somebody else. It closes l. A failing Accept is tried again.
//
// If FCGI_WEB_SERVER_ADDRS is in the environment, only the IP addresses it lists may connect, section 3.2; a list that
// is empty or holds anything else is an error.
func (s *Server) Serve(l net.Listener) error {
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
		Serve:    func(c net.Conn, ended func(error)) { s.serveConn(ctx, c, ended) },
	})
}

// peers is who may connect: Peers, narrowed by FCGI_WEB_SERVER_ADDRS.
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
		if len(s.Peers) == 0 || contains(s.Peers, ip) {
			peers = append(peers, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	if len(peers) == 0 {
		return nil, false, fmt.Errorf("fastcgi: FCGI_WEB_SERVER_ADDRS and Peers have no address in common")
	}
	return peers, true, nil
}

func contains(prefixes []netip.Prefix, ip netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// ServeConn serves one connection and closes it. It returns when the connection takes no further request and its last
// handler has returned: nil if the web server ended it between two requests or the server was shut down, else what
// went wrong. ctx is the parent of the requests' contexts.
func (s *Server) ServeConn(ctx context.Context, c net.Conn) error {
	over := make(chan error, 1)
	s.serveConn(ctx, c, func(err error) { over <- err })
	return <-over
}

// serveConn serves c in this goroutine and in others, and calls ended when the last of them has done with it.
func (s *Server) serveConn(ctx context.Context, c net.Conn, ended func(error)) {
	s.once.Do(func() { s.common.SendInterim, s.common.Logger = s.Interim, s.logger })
	sc := newServerConn(s, ctx, c, ended)
	if !s.group.Add(sc) {
		c.Close()
		ended(gateway.ErrServerClosed)
		return
	}
	sc.lead()
}

// Shutdown closes the listeners and the idle connections, waits for active requests to finish and closes their
// connections. If ctx is done first it closes what is left and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error { return s.group.Shutdown(ctx) }

// Close closes the listeners and all connections at once. Contexts of requests are cancelled; it does not wait for
// their handlers.
func (s *Server) Close() error { return s.group.Close() }

func (s *Server) logger() *slog.Logger {
	if s.Logger != nil {
		return s.Logger
	}
	return slog.Default()
}

// handler is the one for a role, nil if there is none.
func (s *Server) handler(role Role) gateway.Handler {
	switch role {
	case Responder:
		return s.Handler
	case Authorizer:
		return s.Authorizer
	case Filter:
		return s.Filter
	}
	return nil
}

// maxRequests is what GET_VALUES tells of FCGI_MAX_REQS.
func (s *Server) maxRequests() int {
	if s.MaxRequests > 0 {
		return min(s.MaxRequests, maxPerConn)
	}
	return maxPerConn
}
