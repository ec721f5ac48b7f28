package server

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/sockets"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// conn is one connection of a Server, and its one request; the handler's writer is a conn too, and under other names so
// are the body, STDERR and the context. Since no conn is used twice, what a handler keeps of it after it returned is dead.
//
// One goroutine at a time reads from the connection: the one that serves it, until the head is whole; then a Read of the
// handler's body; and the watcher, if the handler runs for more than some milliseconds or somebody asks to be told of its
// end. The watcher queues what comes, up to 64 KiB; more than that waits in the kernel.
type conn struct {
	gateway.WriterBase
	s      *Server
	c      net.Conn
	ctx    context.Context
	waiter *sockets.Waiter
	in     stream.Input // belongs to whoever reads
	req    gateway.Request
	mem    *memory

	mu            sync.Mutex
	changed       sync.Cond
	begun         bool // something of a request has come
	stopping      bool // the server takes no further request
	running       bool // the handler runs
	over          bool // it has returned
	reading       bool // a Read of the body reads
	watching      bool // the watcher reads
	wanted        bool // it is wanted as soon as that Read returns
	swept         bool // the handler ran at the last sweep
	stopped       bool // the watcher is to leave
	left          int64
	lost          error // why nothing more can be read
	fault         error // why the body may not be read any more
	readDeadline  time.Time
	writeDeadline time.Time
	cancelable    *Context

	// Guarded by wmu: the answer.
	wmu      sync.Mutex
	res      gateway.Response
	ans      Response
	out      stream.Output
	hijacked bool
	status   uint32 // of SetAppStatus
	lines    stream.Lines
}

type (
	body   conn
	stderr conn
	source conn
)

var errNoHandler = errors.New("gateway: the server has no Handler")

func newConn(s *Server, ctx context.Context, c net.Conn) *conn {
	if s.ConnContext != nil {
		ctx = s.ConnContext(ctx, c)
	}
	sc := &conn{s: s, c: c, ctx: ctx}
	sc.changed.L = &sc.mu
	sc.in.Reset(c)
	sc.waiter = sockets.NewWaiter(c, func() []byte {
		sc.in.Borrow()
		return sc.in.Space()
	}, sc.in.Return)
	sc.out.Reset(c)
	sc.ans.Reset(&sc.res)
	return sc
}

// equip gives a connection on which something has come the memory for it: one that is idle holds none.
func (c *conn) equip() {
	m := c.s.takeMemory()
	c.mu.Lock()
	c.mem = m
	c.mu.Unlock()
	(*pairs.List)(&c.req.Params).Take(&m.params)
	(*pairs.List)(&c.res.Header).Take(&m.fields)
	c.out.B = m.out[:0]
}

// dismiss empties what a handler may have kept of the request. c.wmu is held.
func (c *conn) dismiss() {
	body := c.req.Body
	c.req.Reset()
	c.req.Body = body // which is dead, and says so
	c.req.SetContextSource((*source)(c))
	c.res.Reset()
	c.mem.params.Take((*pairs.List)(&c.req.Params))
	c.mem.fields.Take((*pairs.List)(&c.res.Header))
	c.mem.params.Reset() // of what somebody may have added in between
	c.mem.fields.Reset()
}

// release gives back what the next connection can use.
func (c *conn) release() {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reading || c.watching {
		return
	}
	c.in.Reset(nil)
	c.in.Return()
	if c.mem == nil {
		return
	}
	if !c.over { // no handler had it
		c.dismiss()
	}
	c.mem.out, c.out.B = c.out.B, nil
	c.mem.queue.Reset()
	c.s.giveMemory(c.mem)
	c.mem = new(memory)
}

// refuse ends a connection whose request has no handler. What is no request at all gets no answer (F49).
func (c *conn) refuse(err error) error {
	if status := refusal(err); status > 0 {
		c.s.Logger().Warn("request refused", "error", err)
		b, _ := c.s.AppendHead(nil, &gateway.Response{Status: status})
		if werr := c.write(b); werr == nil && c.s.Process {
			return nil // its status is said
		}
		c.hangUp()
	}
	c.c.Close()
	return err
}

// refusal is the status that answers err; 0 stands for none.
func refusal(err error) int {
	switch {
	case errors.Is(err, errNoHandler):
		return 501
	case errors.Is(err, gateway.ErrTooLarge), errors.Is(err, gateway.ErrParam), errors.Is(err, gateway.ErrRefused):
		return gateway.ErrorStatus(err)
	}
	return 0
}

func (c *conn) write(b []byte) error {
	c.c.SetWriteDeadline(time.Now().Add(or(c.s.WriteTimeout, time.Minute)))
	_, err := c.c.Write(b)
	return err
}

// run runs the handler and ends the answer.
func (c *conn) run() (err error) {
	c.start()
	err = ErrGone
	defer func() { err = c.finish(err) }()
	c.s.group.Busy() // until finish, or Hijack
	err = CallHandler(c.s.Handler, c, &c.req, c.s.Logger)
	return err
}

// start makes the request ready for its handler.
func (c *conn) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.req.Peer, c.req.Local = sockets.AddrPort(c.c.RemoteAddr()), sockets.AddrPort(c.c.LocalAddr())
	c.req.SetContextSource((*source)(c))
	if c.left = c.req.ContentLength; c.left > 0 {
		c.req.Body = (*body)(c)
	}
	if c.stopped = c.s.Process; !c.stopped {
		c.req.Upgrade = wantsUpgrade(&c.req)
	}
	c.running = true
}

// wantsUpgrade is the token of a request that asks for an upgrade which Hijack may grant: WebSocket alone, since any other
// token could be one that the front end itself acts on (F31).
func wantsUpgrade(r *gateway.Request) string {
	token, _ := r.Params.Lookup("HTTP_UPGRADE")
	if !strings.EqualFold(string(token), "websocket") {
		return ""
	}
	connection, _ := r.Params.Lookup("HTTP_CONNECTION")
	for field := range strings.SplitSeq(string(connection), ",") {
		if strings.EqualFold(strings.TrimSpace(field), "upgrade") {
			return string(token)
		}
	}
	return ""
}

// RequestContext makes the request's context.
func (s *source) RequestContext() context.Context {
	c := (*conn)(s)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancelable == nil {
		c.cancelable = NewContext(c.ctx, s)
		if c.over || c.lost != nil || c.fault != nil {
			c.cancelable.Cancel(context.Canceled)
		}
	}
	return c.cancelable
}

// Watch makes sure that somebody reads while the handler runs.
func (s *source) Watch() {
	c := (*conn)(s)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watchLocked()
}

// watchLocked starts the watcher, now or when the Read that is under way returns.
func (c *conn) watchLocked() {
	switch {
	case !c.running || c.watching || c.stopped || c.lost != nil:
	case c.reading:
		c.wanted = true
	default:
		c.watching = true
		go c.watch()
	}
}

// Sweep starts the watcher when a handler has run since the last sweep but one.
func (c *conn) Sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.swept && !c.reading {
		c.watchLocked()
	}
	c.swept = c.running
}

// Stop ends the wait for the first byte of a request. It does so with a deadline: a Close could cut a request that has
// been read and not noted yet.
func (c *conn) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping = true
	if !c.begun && c.c.SetReadDeadline(time.Unix(1, 0)) != nil {
		c.c.Close()
	}
}

// Close ends the connection at once.
func (c *conn) Close() {
	c.c.Close()
	c.mu.Lock()
	c.fault = gateway.ErrServerClosed
	ctx := c.cancelable
	c.changed.Broadcast()
	c.mu.Unlock()
	if ctx != nil {
		ctx.Cancel(context.Canceled)
	}
}

// watch reads what comes while the handler runs, until the end of the input.
func (c *conn) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.c.SetReadDeadline(time.Time{})
	c.mem.queue.Add(c.in.Buffered())
	c.in.Discard(c.in.Len())
	c.changed.Broadcast() // a Read may have come before
	for c.lost == nil && !c.stopped {
		if c.mem.queue.Len() >= maxQueued {
			c.changed.Wait()
			continue
		}
		c.mu.Unlock()
		err := c.in.Fill(1)
		c.mu.Lock()
		c.mem.queue.Add(c.in.Buffered())
		c.in.Discard(c.in.Len())
		if err != nil && !(c.stopped && errors.Is(err, os.ErrDeadlineExceeded)) {
			c.loseLocked(err)
		}
		c.changed.Broadcast()
	}
	c.watching = false
	c.changed.Broadcast()
}

// loseLocked says that nothing more can be read. The end of the input does not end the answer: a peer that has closed
// its sending side still takes it.
func (c *conn) loseLocked(err error) {
	if c.lost == nil {
		c.lost = err
	}
	if ctx := c.cancelable; ctx != nil {
		go ctx.Cancel(context.Canceled)
	}
}

// stopReading makes the watcher leave, and a Read that the handler left behind. c.mu is held.
func (c *conn) stopReading() {
	c.stopped = true
	c.changed.Broadcast()
	for c.watching || c.reading {
		c.c.SetReadDeadline(time.Unix(1, 0))
		c.changed.Wait()
	}
}

// Read reads the request's body.
func (b *body) Read(p []byte) (int, error) {
	c := (*conn)(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch q := &c.mem.queue; {
		case c.over:
			return 0, ErrOver
		case c.fault != nil:
			return 0, c.fault
		case c.left == 0:
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		case q.Len() > 0:
			n := q.Take(p[:min(int64(len(p)), c.left)])
			c.left -= int64(n)
			c.changed.Broadcast() // the watcher may wait for room
			return n, nil
		case c.lost == io.EOF:
			return 0, stream.ErrBodyCut
		case c.lost != nil:
			return 0, c.lost
		case c.reading || c.watching:
			if err := c.waitUntil(c.readDeadline); err != nil {
				return 0, err
			}
		default:
			if n, err := c.readDirect(p[:min(int64(len(p)), c.left)]); n > 0 || err != nil {
				return n, err
			}
		}
	}
}

// readDirect reads the body straight from the connection. c.mu is held before and after.
func (c *conn) readDirect(p []byte) (n int, err error) {
	c.reading = true
	c.c.SetReadDeadline(c.readDeadline)
	c.mu.Unlock()
	n, err = c.in.Read(p)
	c.mu.Lock()
	c.reading = false
	c.left -= int64(n)
	c.changed.Broadcast()
	late := errors.Is(err, os.ErrDeadlineExceeded)
	if err != nil && !late {
		c.loseLocked(err)
	}
	if !late || c.over {
		err = nil // Read says what of
	}
	if c.wanted {
		c.wanted = false
		c.watchLocked()
	}
	return n, err
}

// waitUntil waits for a change.
func (c *conn) waitUntil(t time.Time) error {
	if t.IsZero() {
		c.changed.Wait()
		return nil
	}
	left := time.Until(t)
	if left <= 0 {
		return os.ErrDeadlineExceeded
	}
	timer := time.AfterFunc(left, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.changed.Broadcast()
	})
	defer timer.Stop()
	c.changed.Wait()
	return nil
}

// hangUp closes the connection in a way that does not cost the peer the end of the answer: a close while input is
// unread resets the connection.
func (c *conn) hangUp() {
	hc, ok := c.c.(interface{ CloseWrite() error })
	if !ok || hc.CloseWrite() != nil {
		return
	}
	c.c.SetReadDeadline(time.Now().Add(drainTimeout))
	for total := 0; total < maxDrain; {
		n := c.in.Len()
		c.in.Discard(n)
		total += n
		if c.in.Fill(1) != nil {
			return
		}
	}
}
