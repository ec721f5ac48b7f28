// Package single is both ends of a protocol whose connections carry one request each: SCGI and uwsgi, and CGI, whose
// connection is a process. What differs between them, the head of a request and that of an answer, they bring along.
package server

import (
	"context"
	"io"
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

// Limits of a server whose fields are 0, and those that have no field.
const (
	DefaultMaxConns = 10000
	maxQueued       = 64 << 10  // bytes of a body that wait for its handler
	maxDrain        = 256 << 10 // bytes that are read after an answer, to be dropped
	drainTimeout    = time.Second
)

// Server answers the request of each connection. Its fields are set before the first use.
type Server struct {
	Handler         gateway.Handler
	ReadHead        func(in *stream.Input, r *gateway.Request) error     // reads a head; io.EOF before its first byte
	Special         func(r *gateway.Request) (answer []byte, taken bool) // a request that is not the handler's; may be nil
	AppendHead      AppendHead
	MaxConns        int
	MaxRequests     int
	Interim         bool
	Peers           []netip.Prefix
	ReadHeadTimeout time.Duration
	IdleTimeout     time.Duration
	WriteTimeout    time.Duration
	BaseContext     func(net.Listener) context.Context
	ConnContext     func(ctx context.Context, c net.Conn) context.Context
	Logger          func() *slog.Logger
	Stderr          io.Writer // takes what handlers write to Stderr; nil stands for Logger, line by line
	Process         bool      // the connection is the input and output of this process: no head comes over it, and its end tells nothing

	group  Group
	active atomic.Int64
	memory sync.Pool // of *memory
	warned atomic.Bool
}

// memory is what one request after another uses.
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
		MaxConns: or(s.MaxConns, DefaultMaxConns),
		Peers:    s.Peers,
		Logger:   s.Logger(),
		Serve: func(c net.Conn, ended func(error)) {
			err := ErrGone // unless ServeConn returns: a handler may end its goroutine
			defer func() { ended(err) }()
			err = s.ServeConn(ctx, c)
		},
	})
}

// ServeConn serves one connection and closes it, unless the handler took it over.
func (s *Server) ServeConn(ctx context.Context, c net.Conn) error {
	sc := newConn(s, ctx, c)
	if !s.group.Add(sc) {
		c.Close()
		return gateway.ErrServerClosed
	}
	defer s.group.Remove(sc)
	return sc.serve()
}

// ServeProcess answers the request of this process, whose input and output c is, and returns the status that the handler
// set for its exit.
func (s *Server) ServeProcess(ctx context.Context, c net.Conn) (status uint32, err error) {
	sc := newConn(s, ctx, c)
	err = sc.serve()
	return sc.status, err
}

// Shutdown closes the listeners and the connections that have sent no request, and waits for the others.
func (s *Server) Shutdown(ctx context.Context) error { return s.group.Shutdown(ctx) }

// Close closes everything at once.
func (s *Server) Close() error { return s.group.Close() }

func or[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// readHead reads the head of c's request under its time limits.
func (c *conn) readHead() error {
	s := c.s
	if s.Process {
		c.equip()
		c.in.Borrow()
		return s.ReadHead(&c.in, &c.req)
	}
	if err := c.first(); err != nil {
		return err
	}
	c.equip()
	c.c.SetReadDeadline(time.Now().Add(or(s.ReadHeadTimeout, 10*time.Second))) // rule F33
	err := s.ReadHead(&c.in, &c.req)
	if err == nil {
		c.c.SetReadDeadline(time.Time{})
	}
	return err
}

// first waits for the first bytes of a request. io.EOF: none will come, or the server takes no further request.
func (c *conn) first() error {
	c.mu.Lock()
	if !c.stopping {
		c.c.SetReadDeadline(time.Now().Add(or(c.s.IdleTimeout, 2*time.Minute)))
	}
	c.mu.Unlock()
	err := c.await()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun = err == nil
	if err != nil && c.stopping {
		return io.EOF
	}
	return err
}

// await waits for input without holding a buffer, where the type of the connection allows.
func (c *conn) await() error {
	if c.waiter == nil {
		c.in.Borrow()
		return c.in.Fill(1)
	}
	n, err := c.waiter.Read()
	if err == nil {
		c.in.Add(n)
	}
	return err
}

// serve reads the request, runs its handler and ends the connection. An error says why no handler ran, or that the
// answer did not leave whole.
func (c *conn) serve() error {
	defer c.release()
	err := c.readHead()
	switch {
	case err == io.EOF:
		c.c.Close()
		return nil // a probe
	case err != nil:
		return c.refuse(err)
	}
	if c.s.Special != nil {
		if answer, taken := c.s.Special(&c.req); taken {
			c.write(answer)
			c.hangUp()
			c.c.Close()
			return nil
		}
	}
	if c.s.Handler == nil {
		return c.refuse(errNoHandler)
	}
	if n, most := c.s.active.Add(1), int64(c.s.MaxRequests); most > 0 && n > most {
		c.s.active.Add(-1)
		return c.refuse(gateway.ErrRefused)
	}
	return c.run()
}
