package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/sockets"
)

// A Conn is a connection of a server.
type Conn interface {
	// Stop makes the connection end after the requests that have begun.
	Stop()

	// Close closes the connection at once.
	Close()

	// Sweep is called every few milliseconds while a handler of the group runs, with the group's
	// lock held. It must not block.
	Sweep()
}

// sweepEvery is short, so that an abort is noticed within about 10 ms of the handler's start.
const sweepEvery = 3 * time.Millisecond

// A Group holds the connections and listeners of one server: it accepts connections, ends them, and
// sweeps them while handlers run. The zero value is ready.
//
// mu guards the fields below it, and is locked before the lock of a connection. No call that can
// block is made while it is held. One goroutine, the sweeper, runs while there is a connection. It
// sleeps, without waking every few milliseconds, while no handler runs.
type Group struct {
	mu        sync.Mutex
	conns     []Conn
	index     map[Conn]int
	listeners map[net.Listener]struct{}
	closed    bool
	over      chan struct{} // closed with the group; nil if it never had a listener
	empty     chan struct{} // closed when the last connection is removed; nil if no caller waits
	sweeping  bool

	busy   atomic.Int64 // handlers that run
	asleep atomic.Bool  // the sweeper waits for wake
	wake   chan struct{}
}

// Options configure Serve.
type Options struct {
	MaxConns int
	Peers    []netip.Prefix
	Strict   bool // refuse peers without an IP address
	Logger   *slog.Logger
	Serve    func(c net.Conn, ended func(error))
}

// Serve accepts connections until l is closed. It returns gateway.ErrServerClosed after Close.
func (g *Group) Serve(l net.Listener, o Options) error {
	over := g.addListener(l)
	if over == nil {
		l.Close()
		return gateway.ErrServerClosed
	}
	defer g.removeListener(l)
	slots := make(chan struct{}, o.MaxConns)
	var delay time.Duration
	for {
		// A slot is taken before Accept, so that a connection above the limit is not accepted at
		// all.
		select {
		case slots <- struct{}{}: // above the limit peers wait in the listener's queue
		case <-over:
			return gateway.ErrServerClosed
		}
		c, err := l.Accept()
		if err != nil {
			if g.isClosed() {
				return gateway.ErrServerClosed
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			<-slots
			delay = min(max(2*delay, 5*time.Millisecond), time.Second) // rule F48: a lack of descriptors is no busy loop
			o.Logger.Warn("accept failed", "error", err, "retry", delay)
			time.Sleep(delay)
			continue
		}
		delay = 0
		if !allowed(c, o) {
			c.Close()
			<-slots
			continue
		}
		go o.Serve(c, func(err error) {
			<-slots
			if err != nil {
				o.Logger.Debug("connection ended", "peer", c.RemoteAddr(), "error", err)
			}
		})
	}
}

// allowed reports whether the peer may connect, and logs a refusal.
func allowed(c net.Conn, o Options) bool {
	addr := c.RemoteAddr()
	_, ip := addr.(*net.TCPAddr)
	ok := (ip || !o.Strict) && sockets.Allowed(o.Peers, addr)
	if !ok {
		o.Logger.Warn("peer refused", "peer", addr)
	}
	return ok
}

// addListener returns a channel that is closed with the group, or nil if it is closed already.
func (g *Group) addListener(l net.Listener) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	if g.listeners == nil {
		g.listeners, g.over = make(map[net.Listener]struct{}), make(chan struct{})
	}
	g.listeners[l] = struct{}{}
	return g.over
}

func (g *Group) removeListener(l net.Listener) {
	g.mu.Lock()
	delete(g.listeners, l)
	g.mu.Unlock()
	l.Close()
}

func (g *Group) isClosed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

// Add adds c to the group. It returns false if the server is closed.
func (g *Group) Add(c Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	if g.index == nil {
		g.index = make(map[Conn]int)
		g.wake = make(chan struct{}, 1)
	}
	g.index[c] = len(g.conns) // so that Remove need not search
	g.conns = append(g.conns, c)
	if !g.sweeping {
		g.sweeping = true
		go g.sweep()
	}
	return true
}

// Remove removes c.
func (g *Group) Remove(c Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	// The last connection moves to the place of the removed one.
	i, ok := g.index[c]
	if !ok {
		return
	}
	last := len(g.conns) - 1
	g.conns[i] = g.conns[last]
	g.index[g.conns[i]] = i
	g.conns[last] = nil
	g.conns = g.conns[:last]
	delete(g.index, c)
	if last > 0 {
		return
	}
	if g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
	g.rouse() // the sweeper ends with the last connection
}

// Busy notes that a handler begins.
func (g *Group) Busy() {
	g.busy.Add(1)
	if g.asleep.Load() {
		g.rouse()
	}
}

// Done notes that a handler has ended.
func (g *Group) Done() { g.busy.Add(-1) }

// rouse wakes the sweeper.
func (g *Group) rouse() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// sweep calls Sweep of every connection while handlers run. One goroutine does it for all of them,
// so that a short request costs nothing.
func (g *Group) sweep() {
	for idle := 0; ; {
		if g.busy.Load() > 0 {
			idle = 0
		} else if idle++; idle > 100 {
			g.nap()
			idle = 0
		}
		if !g.sweepOnce(idle == 0) {
			return
		}
		time.Sleep(sweepEvery)
	}
}

// nap waits until a handler begins or the last connection is removed.
func (g *Group) nap() {
	g.asleep.Store(true)
	defer g.asleep.Store(false)
	if g.busy.Load() > 0 { // a handler began before asleep was set
		return
	}
	<-g.wake
}

// sweepOnce returns false if there are no connections.
func (g *Group) sweepOnce(busy bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.conns) == 0 {
		g.sweeping = false
		return false
	}
	if busy {
		for _, c := range g.conns {
			c.Sweep()
		}
	}
	return true
}

// Shutdown closes the listeners, stops every connection, and waits until all have ended or ctx is
// done. Then it closes the remaining connections and returns context.Cause(ctx).
func (g *Group) Shutdown(ctx context.Context) error {
	conns := g.close()
	for _, c := range conns {
		c.Stop()
	}
	select {
	case <-g.emptied():
		return nil
	case <-ctx.Done(): // handlers still run: their connections are closed under them
		g.Close()
		return context.Cause(ctx)
	}
}

// Close closes everything at once.
func (g *Group) Close() error {
	for _, c := range g.close() {
		c.Close()
	}
	return nil
}

// close closes the listeners and returns the connections.
func (g *Group) close() []Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed && g.over != nil {
		close(g.over)
	}
	g.closed = true
	for l := range g.listeners {
		l.Close()
	}
	return slices.Clone(g.conns)
}

// emptied returns a channel that is closed when there is no connection.
func (g *Group) emptied() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	empty := g.empty
	if empty == nil {
		empty = make(chan struct{})
		if len(g.conns) > 0 {
			g.empty = empty
		} else {
			close(empty)
		}
	}
	return empty
}
