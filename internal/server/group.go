package server

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/sockets"
)

// A Conn is a connection of a server.
type Conn interface {
	// Stop makes the connection end after the requests that have begun, or that begin within
	// BeginGrace.
	Stop()

	// Close closes the connection at once.
	Close()

	// Sweep is called every few milliseconds while a handler runs, with the group's lock held. It
	// must not block. It returns false if no handler runs; the next call of Busy lists c again.
	Sweep() (again bool)

	// Listed is set while the group sweeps the connection.
	Listed() *atomic.Bool
}

const (
	// sweepEvery is short, so that an abort is noticed within about 10 ms of the handler's start.
	sweepEvery = 3 * time.Millisecond

	// BeginGrace is how long Shutdown waits for the first byte of a request on a connection that
	// carries none: the web server may have sent it already.
	BeginGrace = 100 * time.Millisecond

	// acceptGrace is how long Shutdown waits for one more connection in the listener's queue, which
	// would be reset with the listener. acceptTries is the number of waits in a row that must find
	// none: on a busy machine Accept may begin after its deadline, and returns without a look at
	// the queue. acceptLimit is how long it goes on in all.
	acceptGrace = 20 * time.Millisecond
	acceptTries = 3
	acceptLimit = 500 * time.Millisecond

	// closeGrace limits how long Close waits for the connections to close: one whose peer does not
	// read may take its time, as TLS does.
	closeGrace = time.Second
)

// A Group holds the connections and listeners of one server: it accepts connections, ends them, and
// sweeps them while handlers run. The zero value is ready.
//
// mu guards the fields below it, and is locked before the lock of a connection. No call that can
// block is made while it is held. One goroutine, the sweeper, runs while there is a connection. It
// looks at those alone on which a handler runs, and sleeps, without waking every few milliseconds,
// while there are none.
type Group struct {
	mu        sync.Mutex
	conns     map[Conn]struct{}
	listeners map[net.Listener]struct{}
	pending   int           // connections that were accepted and are not among conns yet
	slots     chan struct{} // one for each connection of all listeners
	stopping  bool          // only connections that were accepted before are served
	closed    bool
	over      chan struct{} // closed when the server stops; nil if it never had a listener
	empty     chan struct{} // closed when the last connection and listener are removed; nil if no caller waits
	sweeping  bool
	listed    []Conn // whose handlers may run

	asleep atomic.Bool // the sweeper waits for wake
	wake   chan struct{}
}

// Options configure Serve.
type Options struct {
	MaxConns int // of all listeners; the first call of Serve counts
	Peers    []netip.Prefix
	Strict   bool // refuse peers without an IP address
	Logger   *slog.Logger
	Observer *Observer
	Serve    func(c net.Conn, ended func(error))
}

// Serve accepts connections until l is closed. It returns gateway.ErrServerClosed after Shutdown or
// Close.
func (g *Group) Serve(l net.Listener, o Options) error {
	over, slots := g.addListener(l, o.MaxConns)
	if over == nil {
		l.Close()
		return gateway.ErrServerClosed
	}
	defer g.removeListener(l)
	var delay time.Duration
	for {
		// The loop waits for a slot before Accept, so that a connection above the limit is not
		// accepted at all, and waits in the listener's queue. It takes the slot afterwards, since
		// another listener must not wait for a peer that may never come.
		if !take(slots, over) {
			return gateway.ErrServerClosed
		}
		<-slots
		c, err := l.Accept()
		if err != nil {
			if g.isStopping() {
				g.acceptWaiting(l, func(c net.Conn) { g.start(c, o, slots, over) })
				return gateway.ErrServerClosed
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			delay = min(max(2*delay, 5*time.Millisecond), time.Second) // rule F48: a lack of descriptors is no busy loop
			o.Logger.Warn("accept failed", "error", err, "retry", delay)
			time.Sleep(delay)
			continue
		}
		delay = 0
		g.start(c, o, slots, over)
	}
}

// start serves a connection that was accepted, unless it is refused.
func (g *Group) start(c net.Conn, o Options, slots chan struct{}, over <-chan struct{}) {
	o.Observer.Accepted()
	if !allowed(c, o) || !take(slots, over) {
		c.Close()
		return
	}
	g.expect(1)
	go o.Serve(c, func(err error) {
		<-slots
		if err != nil {
			o.Logger.Debug("connection ended", "peer", c.RemoteAddr(), "error", err)
		}
	})
}

// expect counts connections that AddAccepted will add.
func (g *Group) expect(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pending += n
}

// acceptWaiting accepts what waits in the queue of l after Shutdown.
func (g *Group) acceptWaiting(l net.Listener, start func(c net.Conn)) {
	d, ok := l.(interface{ SetDeadline(t time.Time) error })
	tries := 0
	for end := time.Now().Add(acceptLimit); ok && tries < acceptTries && time.Now().Before(end) && !g.isClosed(); {
		if d.SetDeadline(time.Now().Add(acceptGrace)) != nil {
			return
		}
		c, err := l.Accept()
		switch {
		case err == nil:
			tries = 0
			start(c)
		case errors.Is(err, os.ErrDeadlineExceeded):
			tries++
		default:
			return
		}
	}
}

// take takes a slot. It returns false if there is none and the server stops.
func take(slots chan struct{}, over <-chan struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	default:
	}
	select {
	case slots <- struct{}{}:
		return true
	case <-over:
		return false
	}
}

// allowed reports whether the peer may connect, and logs a refusal.
func allowed(c net.Conn, o Options) bool {
	addr := c.RemoteAddr()
	_, ip := addr.(*net.TCPAddr)
	ok := (ip || !o.Strict) && sockets.Allowed(o.Peers, addr)
	if !ok {
		o.Observer.RefusedPeer()
		o.Logger.Warn("peer refused", "peer", addr)
	}
	return ok
}

// addListener returns a channel that is closed when the server stops, or nil if it has stopped
// already, and the slots.
func (g *Group) addListener(l net.Listener, maxConns int) (over <-chan struct{}, slots chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopping {
		return nil, nil
	}
	if g.listeners == nil {
		g.listeners, g.over = make(map[net.Listener]struct{}), make(chan struct{})
		g.slots = make(chan struct{}, maxConns)
	}
	g.listeners[l] = struct{}{}
	return g.over, g.slots
}

func (g *Group) removeListener(l net.Listener) {
	l.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.listeners, l)
	g.checkEmpty()
}

func (g *Group) isClosed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

func (g *Group) isStopping() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stopping
}

// Add adds c, which a program has accepted, to the group. It returns false if the server stops.
func (g *Group) Add(c Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.stopping && g.add(c)
}

// AddAccepted adds c, which Serve has accepted, to the group. It returns false if the server is
// closed. If it stops, c serves the request that may have arrived.
func (g *Group) AddAccepted(c Conn) bool {
	g.mu.Lock()
	stopping, added := g.stopping, g.add(c)
	g.pending--
	g.checkEmpty()
	g.mu.Unlock()
	if added && stopping {
		c.Stop()
	}
	return added
}

// add adds c, unless the server is closed. mu is held.
func (g *Group) add(c Conn) bool {
	if g.closed {
		return false
	}
	if g.conns == nil {
		g.conns = make(map[Conn]struct{})
		g.wake = make(chan struct{}, 1)
	}
	g.conns[c] = struct{}{}
	if !g.sweeping {
		g.sweeping = true
		go g.sweep()
	}
	return true
}

// Len returns the number of connections.
func (g *Group) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.conns)
}

// Remove removes c.
func (g *Group) Remove(c Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
	if len(g.conns) == 0 && g.sweeping {
		g.rouse() // the sweeper ends with the last connection
	}
	g.checkEmpty()
}

// checkEmpty tells the callers of Shutdown when all has ended. mu is held.
func (g *Group) checkEmpty() {
	if g.empty != nil && len(g.conns) == 0 && len(g.listeners) == 0 && g.pending == 0 {
		close(g.empty)
		g.empty = nil
	}
}

// Busy notes that a handler of c begins.
func (g *Group) Busy(c Conn) {
	if c.Listed().Swap(true) {
		return
	}
	g.mu.Lock()
	g.listed = append(g.listed, c)
	g.mu.Unlock()
	if g.asleep.Load() {
		g.rouse()
	}
}

// rouse wakes the sweeper.
func (g *Group) rouse() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// sweep calls Sweep of the connections on which handlers run. One goroutine does it for all of
// them, so that a short request costs nothing.
func (g *Group) sweep() {
	for idle := 0; ; {
		listed, over := g.sweepOnce()
		if over {
			return
		}
		if idle++; listed {
			idle = 0
		}
		if idle > 100 {
			g.nap()
			idle = 0
		}
		time.Sleep(sweepEvery)
	}
}

// nap waits until a handler begins or the last connection is removed.
func (g *Group) nap() {
	g.asleep.Store(true)
	defer g.asleep.Store(false)
	g.mu.Lock()
	nothing := len(g.listed) == 0 && len(g.conns) > 0
	g.mu.Unlock()
	if nothing { // or else something came before asleep was set
		<-g.wake
	}
}

// sweepOnce reports whether handlers run, and whether the last connection is gone.
func (g *Group) sweepOnce() (listed, over bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	kept := g.listed[:0]
	for _, c := range g.listed {
		// The mark is taken first: a handler that begins after Sweep lists c again.
		c.Listed().Store(false)
		if c.Sweep() && !c.Listed().Swap(true) {
			kept = append(kept, c)
		}
	}
	clear(g.listed[len(kept):])
	g.listed = kept
	g.sweeping = len(g.conns) > 0
	return len(kept) > 0, !g.sweeping
}

// Shutdown stops the listeners and every connection, and waits until all have ended or ctx is done.
// Then it closes the remaining connections and returns context.Cause(ctx).
func (g *Group) Shutdown(ctx context.Context) error {
	listeners, conns := g.stop(false)
	for _, l := range listeners {
		d, ok := l.(interface{ SetDeadline(t time.Time) error })
		if !ok || d.SetDeadline(time.Unix(1, 0)) != nil { // ends Accept; Serve goes on with acceptWaiting
			l.Close()
		}
	}
	for _, c := range conns {
		go c.Stop() // it may wait for the lock of a connection whose peer does not read
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
	listeners, conns := g.stop(true)
	for _, l := range listeners {
		l.Close()
	}
	var closing sync.WaitGroup
	for _, c := range conns {
		closing.Go(c.Close)
	}
	closed := make(chan struct{})
	go func() {
		closing.Wait()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(closeGrace):
	}
	return nil
}

// stop notes that the server stops, or is closed, and returns what it has.
func (g *Group) stop(closed bool) (listeners []net.Listener, conns []Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.stopping && g.over != nil {
		close(g.over)
	}
	g.stopping, g.closed = true, g.closed || closed
	return slices.Collect(maps.Keys(g.listeners)), slices.Collect(maps.Keys(g.conns))
}

// emptied returns a channel that is closed when there is no connection and no listener.
func (g *Group) emptied() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.empty == nil {
		g.empty = make(chan struct{})
	}
	empty := g.empty
	g.checkEmpty()
	return empty
}
