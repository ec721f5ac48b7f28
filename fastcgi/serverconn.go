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
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/server"
	"github.com/gatehouse-go/gatehouse/internal/sockets"
)

// serverConn is one connection of a Server, with one request on it or several.
//
// Exactly one goroutine at a time may read from it: the leader. The leader reads records until a request's head is
// whole and then runs its handler itself, so that the common request, alone on its connection, costs no second
// goroutine. While the handler runs nobody reads, unless the handler reads its body, in which case it takes apart
// whatever comes, for itself and for others. When the handler has run for some milliseconds, or somebody asks to be
// told of its end, the connection gets a new leader (promote) and the handler's goroutine leaves when it is done.
//
// rec belongs to whoever reads: the leader outside of a handler, or, while reading is true, a handler's Read.
type serverConn struct {
	s           *Server
	c           net.Conn
	ctx         context.Context
	peer, local netip.AddrPort
	ended       func(err error) // called once, when the connection is over
	rec         recordReader
	waiter      *sockets.Waiter

	wmu sync.Mutex // one sequence of records is written at a time

	mu         sync.Mutex
	changed    sync.Cond
	requests   []*request // begun and not ended
	heads      int        // of them, those whose params are not whole
	inline     *request   // whose handler runs in the leader's goroutine
	turn       uint64     // how many leaders there were before this one
	swept      bool       // inline was there at the last sweep
	reading    bool       // a handler reads from rec
	wanted     bool       // a leader is wanted as soon as that read returns
	leaders    int        // goroutines that lead, or run a handler
	limit      time.Time  // by when a drain, or a record that is no request's, must be over
	idle       time.Time  // by when the next request must begin
	deadline   time.Time  // that is set
	writer     *request   // whose answer is being written
	writeLimit time.Time  // the write deadline that is set
	orphan     uint16     // id of a request that ended before its STDIN did
	drained    int        // bytes of such STDIN since
	closing    bool       // no further request
	lost       error      // why nobody reads any more
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
	sc.rec.reset((*deadlineReader)(sc))
	sc.waiter = sockets.NewWaiter(c, func() []byte {
		sc.rec.in.Borrow()
		return sc.rec.in.Space()
	}, sc.rec.in.Return)
	return sc
}

// lead reads and serves until the connection ends or somebody else leads.
func (c *serverConn) lead() {
	for {
		r, err := c.next()
		if err != nil {
			c.lose(err)()
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

// next reads until a request's head is whole. It returns nil without an error when that is for somebody else to do.
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

// isDone reports whether no further record counts: after the last answer, or after a record that broke the protocol.
func (c *serverConn) isDone() (done bool, err error) {
	c.mu.Lock()
	lost, last := c.lost, c.closing && len(c.requests) == 0
	c.mu.Unlock()
	switch {
	case lost != nil:
		return true, lost
	case last:
		return true, c.drain()
	}
	return false, nil
}

// drain reads what still comes after the last answer, within bounds, so that the answer is not lost to a reset.
func (c *serverConn) drain() error {
	for total := 0; total < server.MaxDrain; {
		n := c.rec.in.Len()
		c.rec.in.Discard(n)
		total += n
		if err := c.rec.in.Fill(1); err != nil {
			return io.EOF
		}
	}
	return io.EOF
}

// afterResponse decides what becomes of the connection after an answer: without FCGI_KEEP_CONN it is closed, section 3.5.
func (c *serverConn) afterResponse(keep bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = c.closing || !keep
	if len(c.requests) > 0 {
		return
	}
	if c.closing {
		c.closeWrite()
		c.limit = time.Time{}
	}
	if c.inline == nil || c.reading {
		// Somebody may be blocked in a read that was to have no end.
		c.arm(c.readDeadline(atRecord))
	}
}

func (c *serverConn) closeWrite() {
	if hc, ok := c.c.(interface{ CloseWrite() error }); ok {
		hc.CloseWrite()
		return
	}
	c.c.Close()
}

// runInline runs r's handler in the leader's goroutine. It returns false if somebody else has come to lead. A handler that
// ends its goroutine (runtime.Goexit) leaves the connection to another.
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
	c.s.group.Busy()
	defer c.s.group.Done()
	r.run()
	returned = true
	return false // endTurn says
}

// endTurn waits until nobody reads for the leader, and reports whether it still leads.
func (c *serverConn) endTurn(turn uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.turn == turn && c.reading {
		c.changed.Wait() // the handler left a goroutine behind that still reads
	}
	if c.turn != turn {
		return false
	}
	c.inline = nil
	return true
}

// runDetached runs the handler of a request that became ready while another's handler read.
func (c *serverConn) runDetached(r *request) {
	c.mu.Lock()
	c.leaders++
	c.mu.Unlock()
	go func() {
		defer c.leave()
		c.s.group.Busy()
		defer c.s.group.Done()
		r.run()
	}()
}

// promote gives the connection a leader while a handler runs in the goroutine of the last one.
func (c *serverConn) promote() {
	if c.inline == nil || c.lost != nil {
		return
	}
	if c.reading {
		c.wanted = true // whoever reads sees what comes; later nobody would
		return
	}
	c.inline = nil
	c.turn++
	c.leaders++
	go c.lead()
}

// lose says that nothing more can be read, and why. The end of the input does not end the answers: a peer that has
// closed its sending side still takes them. It returns what is to be called without c.mu.
func (c *serverConn) lose(err error) (cancel func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost == nil {
		c.lost = err
		if len(c.requests) == 0 && (c.closing || errors.Is(err, os.ErrDeadlineExceeded)) {
			c.lost = io.EOF
		}
	}
	var cancels []func()
	for _, r := range slices.Clone(c.requests) {
		if r.ready {
			cancels = append(cancels, r.abort(errLost))
		} else {
			c.remove(r)
		}
	}
	if err != io.EOF || len(c.requests) == 0 {
		c.c.Close()
	}
	c.changed.Broadcast()
	return func() {
		for _, cancel := range cancels {
			cancel()
		}
	}
}

var errLost = fmt.Errorf("fastcgi: web server gone: %w", io.ErrUnexpectedEOF)

// leave ends a goroutine's part in the connection; the last one ends the connection.
func (c *serverConn) leave() {
	c.mu.Lock()
	c.leaders--
	last := c.leaders == 0
	c.mu.Unlock()
	if !last {
		return
	}
	c.c.Close()
	c.s.group.Remove(c)
	err := c.lost
	if err == io.EOF {
		err = nil
	}
	c.ended(err)
}

// Sweep promotes a leader when a handler has run since the last sweep but one.
func (c *serverConn) Sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inline == nil || c.reading {
		return
	}
	if c.swept {
		c.promote()
	}
	c.swept = true
}

// Stop lets the connection end after its requests.
func (c *serverConn) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.requests) == 0 && !c.closing {
		c.c.Close() // else the last answer may still be on its way
	}
	c.closing = true
}

// Close ends the connection at once.
func (c *serverConn) Close() {
	c.c.Close()
	c.mu.Lock()
	var cancels []func()
	for _, r := range c.requests {
		cancels = append(cancels, r.abort(gateway.ErrServerClosed))
	}
	c.closing = true
	c.changed.Broadcast()
	c.mu.Unlock()
	for _, cancel := range cancels {
		cancel()
	}
}

// readInline makes the handler's goroutine the reader for one step. c.mu is held before and after. r, which is b's request
// before, may be over after.
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
		c.lose(err)()
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
