package uwsgi

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/server"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Server answers requests with Handler. Set its fields before the first use and leave them; its methods may be called
// by several goroutines at once.
//
// It takes one request on each connection and closes it after the answer, whatever else comes. An answer begins with an
// HTTP status line, as Apache wants it, of a version of our own, whatever the request says (F13). An answer that is cut
// after part of it has left shows as a reset; on a Unix socket only a Content-Length shows it.
//
// What comes of a body while its handler does something else waits in memory up to 64 KiB; more waits in the connection,
// and then the end of the peer, which lies behind it, is not seen before it is read.
type Server struct {
	Handler         gateway.Handler
	MaxHeadBytes    int                                                   // of a request's vars; 0 stands for 65,535, all that a packet can hold
	MaxConns        int                                                   // 0 stands for 10000; more wait in the listener's queue
	MaxRequests     int                                                   // at once; 0 stands for no bound; above it a request is answered 503
	Interim         bool                                                  // the peer takes 1xx answers; nginx, Apache and lighttpd do not
	Peers           []netip.Prefix                                        // who may connect by IP; empty stands for anyone
	SocketMode      fs.FileMode                                           // of a unix: address; 0 stands for 0660
	ReadHeadTimeout time.Duration                                         // from the first byte to the last of the head; 0 stands for 10 s
	IdleTimeout     time.Duration                                         // before the first byte; 0 stands for 2 min
	WriteTimeout    time.Duration                                         // of one write; 0 stands for 1 min
	ShutdownTimeout time.Duration                                         // of Run; 0 stands for 30 s
	BaseContext     func(net.Listener) context.Context                    // of what comes through a listener; nil stands for context.Background
	ConnContext     func(ctx context.Context, c net.Conn) context.Context // of a connection; nil stands for ctx
	Modifiers       []uint8                                               // the modifier1 that are taken; nil stands for 0 alone. A packet with another is closed on
	Ping            bool                                                  // answer pings (modifier1 100); false: they are closed on, as those of any other modifier
	Logger          *slog.Logger                                          // nil stands for slog.Default; takes what handlers write to Stderr, too

	once sync.Once
	core *server.Server
}

// Listen opens a listener on "host:port", "unix:/path" (mode is that of the socket, 0 stands for 0660; a socket that
// nobody listens on is replaced, anything else there is an error), "fd:N" (inherited) or "systemd:NAME" (LISTEN_FDS and
// LISTEN_FDNAMES; NAME may be empty, which takes the first).
func Listen(addr string, mode fs.FileMode) (net.Listener, error) {
	return server.Listen("uwsgi", addr, mode)
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
func (s *Server) Serve(l net.Listener) error { return s.server().Serve(l) }

// ServeConn serves one connection and closes it, unless the handler took it over with Hijack. It returns when the
// handler has returned: nil if the answer was sent whole or nothing came at all, else what went wrong. ctx is the parent
// of the request's context.
func (s *Server) ServeConn(ctx context.Context, c net.Conn) error {
	return s.server().ServeConn(ctx, c)
}

// Shutdown closes the listeners and the connections on which no request has begun, and waits for active requests to
// finish. If ctx is done first it closes what is left and returns ctx's error. Connections that a handler took over are
// the handler's.
func (s *Server) Shutdown(ctx context.Context) error { return s.server().Shutdown(ctx) }

// Close closes the listeners and all connections at once. Contexts of requests are cancelled; it does not wait for
// their handlers.
func (s *Server) Close() error { return s.server().Close() }

func (s *Server) logger() *slog.Logger {
	if s.Logger != nil {
		return s.Logger
	}
	return slog.Default()
}

// server returns the core of s, which is made of the fields when it is first asked for.
func (s *Server) server() *server.Server {
	s.once.Do(func() {
		s.core = server.New(
			server.Settings{
				s.Handler, s.MaxConns, s.MaxRequests, s.Interim, s.Peers, s.ReadHeadTimeout, s.IdleTimeout,
				s.WriteTimeout, s.BaseContext, s.ConnContext, s.logger,
			},
			server.Protocol{ReadHead: s.readHead, AppendHead: gateway.AppendHTTPResponse, Special: s.pong},
		)
	})
	return s.core
}

// readHead closes on a modifier that is not taken before it waits for any vars: HTTP and TLS look like one.
func (s *Server) readHead(in *stream.Input, r *gateway.Request) error {
	h, err := readHeader(in)
	if err != nil {
		return err
	}
	if !s.takes(h) {
		return fmt.Errorf("uwsgi: modifier %d, %d: %w", h.Modifier1, h.Modifier2, gateway.ErrMalformed)
	}
	return readVars(in, r, h, s.MaxHeadBytes)
}

func (s *Server) takes(h PacketHeader) bool {
	if isPing(h) {
		return s.Ping
	}
	if s.Modifiers == nil {
		return h.Modifier1 == ModifierWSGI
	}
	return slices.Contains(s.Modifiers, h.Modifier1)
}

func isPing(h PacketHeader) bool { return h.Modifier1 == ModifierPing && h.Modifier2 == 0 }

// pong answers a ping.
func (s *Server) pong(r *gateway.Request) (answer []byte, taken bool) {
	if !isPing(PacketHeader{Modifier1: r.Modifier1, Modifier2: r.Modifier2}) {
		return nil, false
	}
	return AppendHeader(nil, PacketHeader{Modifier1: ModifierPing, Modifier2: 1}), true
}
