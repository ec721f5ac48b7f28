// Package server is the application's end of a connection. Group accepts connections and ends them,
// for every protocol. Response and ResponseWriter are what handlers respond with. Server serves the
// protocols whose connections carry one request each, SCGI and uwsgi; package fastcgi has its own
// connections, which carry several.
package server

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/race"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Defaults and limits of every server.
const (
	DefaultMaxConns        = 10000
	DefaultReadHeadTimeout = 10 * time.Second
	DefaultIdleTimeout     = 2 * time.Minute
	DefaultWriteTimeout    = time.Minute

	MaxQueued = 64 << 10 // bytes of a request's body that are buffered while its handler does not read
	// Limits of the input that is discarded after a response, so that closing the connection does
	// not become a reset that loses the response: a peer that has sent its request may be slow to
	// close, and one that still sends a body does not read the response yet.
	MaxDrain           = 256 << 10
	DrainTimeout       = time.Second
	MaxUploadDrain     = 16 << 20
	UploadDrainTimeout = 5 * time.Second
)

// Settings are the fields that SCGI's and uwsgi's servers have in common. It is an alias of an
// unnamed struct, so that vet permits literals without field names: then a field that is added here
// and not set in a server does not compile.
type Settings = struct {
	Handler          gateway.Handler
	MaxOpenHeadBytes int
	MaxConns         int
	MaxRequests      int
	SendInterim      bool
	Peers            []netip.Prefix
	ReadHeadTimeout  time.Duration
	IdleTimeout      time.Duration
	WriteTimeout     time.Duration
	BaseContext      func(net.Listener) context.Context
	ConnContext      func(ctx context.Context, c net.Conn) context.Context
	Observe          func(ctx context.Context, r *gateway.Request, x *gateway.ServerExchange)
	Logger           func() *slog.Logger
}

// A Protocol is what differs between protocols.
type Protocol struct {
	Name      string // for the log
	Directive string // how nginx passes requests on in it

	ReadHead   func(in *stream.Input, r *gateway.Request) error // returns io.EOF before the first byte of a head
	AppendHead func(dst []byte, head *gateway.Response) ([]byte, error)

	// Special, if not nil, responds to requests that are not passed to the handler, such as pings.
	Special func(r *gateway.Request) (response []byte, taken bool)
}

// A Server serves the request of each connection.
type Server struct {
	Settings
	Protocol

	common   Common
	observer Observer
	group    Group
	heads    HeadBudget
	active   atomic.Int64
	memory   sync.Pool // of *memory
}

// New returns a Server.
func New(settings Settings, protocol Protocol) *Server {
	s := &Server{
		Settings: settings, Protocol: protocol,
		common: Common{SendInterim: settings.SendInterim, Logger: settings.Logger, AppendHead: protocol.AppendHead},
	}
	s.observer.Observe, s.observer.Logger = settings.Observe, settings.Logger
	return s
}

// A memory is reused by one request after another.
type memory struct {
	params, fields pairs.List
	out            []byte
	queue          stream.Queue
}

func (s *Server) takeMemory() *memory {
	m, _ := s.memory.Get().(*memory)
	if m == nil || race.Enabled {
		m = new(memory)
	}
	return m
}

func (s *Server) giveMemory(m *memory) {
	if !race.Enabled && m.params.Cap()+m.fields.Cap() <= stream.MaxKept && cap(m.out) <= stream.MaxKept && m.queue.Cap() <= stream.MaxKept {
		s.memory.Put(m)
	}
}

// Serve accepts connections from l and serves them.
func (s *Server) Serve(l net.Listener) error {
	ctx := context.Background()
	if s.BaseContext != nil {
		ctx = s.BaseContext(l)
	}
	return s.group.Serve(l, Options{
		MaxConns: stream.Limit(s.MaxConns, DefaultMaxConns),
		Peers:    s.Peers,
		Logger:   s.Logger(),
		Observer: &s.observer,
		Serve: func(c net.Conn, ended func(error)) {
			err := ErrGoexit // unless ServeConn returns
			defer func() { ended(err) }()
			err = s.serveConn(ctx, c, s.group.AddAccepted)
		},
	})
}

// ServeConn serves one connection and closes it, unless the handler took it over.
func (s *Server) ServeConn(ctx context.Context, c net.Conn) error {
	s.observer.Accepted()
	return s.serveConn(ctx, c, s.group.Add)
}

func (s *Server) serveConn(ctx context.Context, c net.Conn, add func(Conn) bool) error {
	sc := newConn(s, ctx, c)
	if !add(sc) {
		c.Close()
		return gateway.ErrServerClosed
	}
	defer s.group.Remove(sc)
	return sc.serve()
}

// Shutdown stops the listeners and waits for the requests.
func (s *Server) Shutdown(ctx context.Context) error { return s.group.Shutdown(ctx) }

// Stats returns the counters since the first use, and the current gauges.
func (s *Server) Stats() gateway.ServerStats { return s.observer.Stats(s.group.Len()) }

// Close closes everything at once.
func (s *Server) Close() error { return s.group.Close() }

func (s *Server) writeDeadline() time.Time {
	return stream.Deadline(s.WriteTimeout, DefaultWriteTimeout)
}
