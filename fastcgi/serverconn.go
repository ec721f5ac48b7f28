package fastcgi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/server"
	"github.com/gatehouse-go/gatehouse/internal/sockets"
)

// A serverConn is one connection of a Server. It carries one or more requests.
//
// One goroutine at a time reads from the connection and owns rec: the leader or, while reading is
// set, a Read of the inline request's body. The leader (lead) reads records until the params of a
// request are complete, and then runs its handler itself (runInline), so that one request at a time
// needs no second goroutine. While the handler runs, only a Read of its body (readInline) reads
// from the connection. Such a Read handles the records of other requests too; if one becomes ready,
// its handler runs in its own goroutine (runDetached).
//
// promote makes another goroutine the leader: when Sweep has found the handler running twice, or
// when Done or AfterFunc of its context is first called. If a Read is in progress, it does so when
// that returns. The old leader ends with its handler. The last goroutine to leave closes the
// connection.
//
// Lock order: the lock of a request's response, wmu, mu, the lock of a server.Context.
//
//   - The lock of a response guards the response of one request.
//   - wmu is held while a sequence of records is written.
//   - mu guards the fields below it, and the fields of its requests that say so. No call that can
//     block is made while it is held.
type serverConn struct {
	s           *Server
	c           net.Conn
	ctx         context.Context
	peer, local netip.AddrPort
	ended       func(err error) // called once, when the connection is over
	source      deadlineReader
	rec         recordReader // reads from source
	waiter      *sockets.Waiter

	listed atomic.Bool // the Group's
	closed atomic.Bool // closeConn was called

	wmu sync.Mutex // one sequence of records is written at a time

	mu         sync.Mutex
	changed    sync.Cond
	requests   []*request // that have begun and not ended
	heads      int        // the number of them whose params are incomplete
	headBytes  int        // the bytes of these; owned by the goroutine that reads
	inline     *request   // the request whose handler runs in the leader's goroutine
	turn       uint64     // the number of leaders before this one
	swept      bool       // inline was set at the last sweep
	reading    bool       // a handler's Read reads from rec
	wanted     bool       // a new leader is to start when that Read returns
	leaders    int        // the goroutines that lead or run a handler
	limit      time.Time  // the deadline of a drain, or of a record that belongs to no request
	idle       time.Time  // the deadline for the next request to begin
	deadline   time.Time  // the read deadline that is set
	writer     *request   // the request whose response is being written
	writeLimit time.Time  // the write deadline that is set
	orphan     uint16     // the id of a request that ended before its STDIN did
	drained    int        // the bytes of such STDIN since
	carried    bool       // a request has begun before
	closing    bool       // no further request is accepted
	stopping   bool       // the server stops: the next request is the last
	stopAt     time.Time  // the deadline for that to begin
	lost       error      // why nothing more can be read
}

func newServerConn(s *Server, ctx context.Context, c net.Conn, ended func(error)) *serverConn {
	if s.ConnContext != nil {
		ctx = s.ConnContext(ctx, c)
	}
	sc := &serverConn{
		s: s, c: c, ctx: ctx,
		peer: sockets.AddrPort(c.RemoteAddr()), local: sockets.AddrPort(c.LocalAddr()),
		ended: ended, leaders: 1,
	}
	sc.changed.L = &sc.mu
	sc.source.c = sc
	sc.rec.reset(&sc.source)
	sc.waiter = sockets.NewWaiter(c, func() []byte {
		sc.rec.in.Borrow()
		return sc.rec.in.Space()
	}, sc.rec.in.Return)
	return sc
}

// lead reads and serves until the connection ends or another goroutine leads.
func (c *serverConn) lead() {
	for {
		r, err := c.next()
		if err != nil {
			c.lose(err)
			c.rec.in.Reset(nil)
			c.rec.in.Return()
			c.leave()
			return
		}
		if r != nil && !c.runInline(r) {
			c.leave()
			return
		}
	}
}

// next reads until a request is ready to run, and returns it. An error ends the reading.
func (c *serverConn) next() (*request, error) {
	for {
		if err := c.await(); err != nil {
			return nil, err
		}
		if done, err := c.isDone(); done {
			return nil, err
		}
		r, err := c.step(nil, 0)
		if r != nil || err != nil {
			return r, err
		}
	}
}

// await waits for input without holding a buffer.
func (c *serverConn) await() error {
	if c.rec.left > 0 || c.rec.pad > 0 || c.rec.in.Len() > 0 {
		return nil
	}
	c.rec.in.Return()
	if c.waiter == nil {
		c.rec.in.Borrow()
		return c.rec.in.Fill(1)
	}
	c.setDeadline(atRecord)
	n, err := c.waiter.Read()
	if err != nil {
		return err
	}
	c.rec.in.Add(n)
	return nil
}

// isDone reports whether no further record is handled, because the last response has been sent or
// the input failed.
func (c *serverConn) isDone() (done bool, err error) {
	c.mu.Lock()
	lost, last, most := c.lost, c.closing && len(c.requests) == 0, server.MaxDrain
	if c.orphan != 0 {
		most = server.MaxUploadDrain
	}
	c.mu.Unlock()
	switch {
	case lost != nil:
		return true, lost
	case last:
		c.rec.in.Drain(most) // so that the last response is not lost to a reset
		return true, io.EOF
	}
	return false, nil
}

// afterResponse decides what becomes of the connection after a response. Without FCGI_KEEP_CONN it
// is closed, section 3.5.
func (c *serverConn) afterResponse(keep bool) {
	c.mu.Lock()
	c.closing = c.closing || !keep || c.stopping
	last := c.closing && len(c.requests) == 0
	c.mu.Unlock()
	if last {
		c.closeWrite() // without mu, since it may block
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.requests) > 0 {
		return
	}
	if last {
		c.limit = time.Time{}
	}
	if c.inline == nil || c.reading {
		// A goroutine may be blocked in a read that had no deadline.
		c.arm(c.readDeadline(atRecord))
	}
}

func (c *serverConn) closeWrite() {
	if hc, ok := c.c.(interface{ CloseWrite() error }); ok {
		hc.CloseWrite()
		return
	}
	c.closeConn()
}

// closeConn closes the connection, once: its type may be the caller's.
func (c *serverConn) closeConn() {
	if !c.closed.Swap(true) {
		c.c.Close()
	}
}

// runInline runs the handler of r in the leader's goroutine. It returns false if another goroutine
// leads now. If the handler ends its goroutine (runtime.Goexit), another one continues.
func (c *serverConn) runInline(r *request) (leads bool) {
	c.mu.Lock()
	c.inline, c.swept, c.wanted = r, false, false
	turn := c.turn
	c.mu.Unlock()
	returned := false
	defer func() {
		leads = c.endTurn(turn)
		switch {
		case returned:
		case leads:
			go c.lead()
		default:
			c.leave()
		}
	}()
	c.s.group.Busy(c)
	r.run()
	returned = true
	return false // endTurn sets the result
}

// endTurn waits until no Read of the handler reads, and reports whether the goroutine still leads.
func (c *serverConn) endTurn(turn uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.turn == turn && c.reading {
		c.changed.Wait() // a goroutine of the handler still reads
	}
	if c.turn != turn {
		return false
	}
	c.inline = nil
	return true
}

// runDetached runs the handler of a request that became ready while another handler read.
func (c *serverConn) runDetached(r *request) {
	c.mu.Lock()
	c.leaders++
	c.mu.Unlock()
	go func() {
		defer c.leave()
		r.run()
	}()
}

// promote starts a new leader while a handler runs in the goroutine of the old one. c.mu is held.
func (c *serverConn) promote() {
	if c.inline == nil || c.lost != nil {
		return
	}
	if c.reading {
		c.wanted = true // the handler's Read is the reader for now; a leader takes over when it returns
		return
	}
	c.inline = nil
	c.turn++
	c.leaders++
	go c.lead()
}

// lose notes why nothing more can be read. The end of the input does not end the responses: a peer
// that has closed its sending side still receives them.
func (c *serverConn) lose(err error) {
	if err != io.EOF {
		c.mu.Lock()
		known, first := c.lost != nil, !c.carried && len(c.requests) == 0
		c.mu.Unlock()
		if !known {
			c.s.observer.Malformed(err)
		}
		if first {
			server.WarnOfHTTP(c.s.logger(), "FastCGI", "fastcgi_pass", c.rec.in.Buffered())
		}
	}
	c.mu.Lock()
	if c.lost == nil {
		c.lost = err
		if len(c.requests) == 0 && (c.closing || errors.Is(err, os.ErrDeadlineExceeded)) {
			c.lost = io.EOF
		}
	}
	var contexts []*server.Context
	for _, r := range slices.Clone(c.requests) {
		if r.ready {
			contexts = append(contexts, r.abort(errLost))
		} else {
			c.remove(r)
		}
	}
	over := err != io.EOF || len(c.requests) == 0
	c.changed.Broadcast()
	c.mu.Unlock()
	if over {
		c.closeConn()
	}
	for _, ctx := range contexts {
		ctx.Cancel(gateway.ErrDisconnected)
	}
}

var errLost = fmt.Errorf("fastcgi: %w: %w", gateway.ErrDisconnected, io.ErrUnexpectedEOF)

// leave is called by each goroutine that leads or runs a handler, when it is finished with the
// connection. The last one closes it.
func (c *serverConn) leave() {
	c.mu.Lock()
	c.leaders--
	last := c.leaders == 0
	c.mu.Unlock()
	if !last {
		return
	}
	c.closeConn()
	c.s.group.Remove(c)
	err := c.lost
	if err == io.EOF {
		err = nil
	}
	c.ended(err)
}

// Sweep promotes a leader if the handler has run since the last sweep. It does nothing if mu is
// held: the Group's lock never waits for that of a connection, and the next sweep comes soon.
func (c *serverConn) Sweep() (again bool) {
	if !c.mu.TryLock() {
		return true
	}
	defer c.mu.Unlock()
	if c.inline != nil && !c.reading {
		if c.swept {
			c.promote()
		}
		c.swept = true
	}
	return c.inline != nil && c.lost == nil
}

// Listed is the group's mark.
func (c *serverConn) Listed() *atomic.Bool { return &c.listed }

// Stop makes the connection end after the requests that have begun, or that begin within
// server.BeginGrace: the web server may have sent one already.
func (c *serverConn) Stop() {
	c.mu.Lock()
	c.stopping = true
	c.closing = c.closing || len(c.requests) > 0
	c.stopAt = time.Now().Add(server.BeginGrace)
	var err error
	if len(c.requests) == 0 && !c.closing { // otherwise the last response may still be in flight
		c.deadline = c.stopAt
		err = c.c.SetReadDeadline(c.stopAt)
	}
	c.mu.Unlock()
	if err != nil {
		c.closeConn()
	}
}

// Close ends the connection at once.
func (c *serverConn) Close() {
	c.mu.Lock() // before the connection is closed, which would look like the web server's doing
	var contexts []*server.Context
	for _, r := range c.requests {
		contexts = append(contexts, r.abort(gateway.ErrServerClosed))
	}
	c.closing = true
	c.changed.Broadcast()
	c.mu.Unlock()
	for _, ctx := range contexts {
		ctx.Cancel(gateway.ErrServerClosed)
	}
	c.closeConn()
}

// readInline reads one step in the handler's goroutine. c.mu is held at the call and at the return,
// but not in between, so r may be over when it returns.
func (c *serverConn) readInline(b *requestBody, r *request, p []byte) (n int, err error) {
	c.reading = true
	id := r.id
	c.mu.Unlock()
	if c.rec.left > 0 && c.rec.h.ID == id && c.rec.h.Type == b.t {
		n, err = c.rec.read(p)
	} else {
		var ready *request
		if ready, err = c.step(r, b.t); ready != nil {
			c.runDetached(ready)
		}
	}
	resumable := !c.inControl()
	c.mu.Lock()
	live := b.w.r.Load() == r
	late := errors.Is(err, os.ErrDeadlineExceeded) && live && resumable && passed(r.readDeadline)
	if err != nil && !late {
		c.mu.Unlock()
		c.lose(err)
		c.mu.Lock()
		live = b.w.r.Load() == r
	}
	c.reading = false
	c.changed.Broadcast()
	if c.wanted {
		c.wanted = false
		c.promote()
	}
	if !live {
		return 0, server.ErrOver
	}
	if err != nil && !late {
		err = r.fault
	}
	s, _ := r.queueOf(b.t)
	s.taken += int64(n)
	return n, err
}
