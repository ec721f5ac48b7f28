package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/sockets"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// A conn is one connection of a Server, with its one request. It is never reused, so that a handler
// that keeps a part of it cannot reach another request.
//
// One goroutine at a time reads from the connection and owns in: the one that serves it, until the
// head is complete; then a Read of the body (requestbody.go) or the watcher (watcher.go), which
// starts when two sweeps have found the handler running, or when Done or AfterFunc of its context
// is first called; then the serving goroutine again, which discards the rest, or the caller of
// Hijack. The watcher stops reading when MaxQueued bytes are buffered.
//
// Lock order: the lock of the Response, the Group's lock, mu, the lock of the Context.
//
//   - The lock of the Response guards the response, and is held while it is written.
//   - mu guards the fields below it. No call that can block is made while it is held.
//
// A conn is the Owner and the Framer of its response.
type conn struct {
	Unframed

	s      *Server
	c      net.Conn
	ctx    context.Context
	waiter *sockets.Waiter
	in     stream.Input
	req    gateway.Request
	mem    *memory

	writer connWriter    // the handler's
	body   requestBody   // the handler's
	source contextSource // of the request's context

	response Response
	hijacked bool // guarded by the response's lock
	record   *Record
	reserved int // bytes of the head that HeadBudget counts; owned by the serving goroutine
	lines    stream.Lines

	listed atomic.Bool // the Group's
	closed atomic.Bool // closeConn was called

	mu            sync.Mutex
	changed       sync.Cond
	begun         bool // a byte of the request has arrived
	stopping      bool // the server takes no further request
	running       bool // the handler runs
	over          bool // the handler has returned
	reading       bool // a Read of the body reads
	watching      bool // the watcher reads
	wanted        bool // the watcher is to start when that Read returns
	swept         bool // the handler ran at the last sweep
	stopped       bool // the watcher is to end
	left          int64
	lost          error // why nothing more can be read
	fault         error // why the body may not be read any more
	readDeadline  time.Time
	writeDeadline time.Time
	cancelable    *Context
	observed      bool // the context of the connection stands in for that of the request
}

func newConn(s *Server, ctx context.Context, c net.Conn) *conn {
	if s.ConnContext != nil {
		ctx = s.ConnContext(ctx, c)
	}
	sc := &conn{s: s, c: c, ctx: ctx}
	sc.changed.L = &sc.mu
	sc.writer.c, sc.writer.Owner, sc.body.c, sc.source.c = sc, sc, sc, sc
	sc.in.Reset(c)
	sc.waiter = sockets.NewWaiter(c, func() []byte {
		sc.in.Borrow()
		return sc.in.Space()
	}, sc.in.Return)
	sc.response.Out.Reset(c)
	sc.response.Reset(&sc.writer.Head, sc, &s.common)
	return sc
}

// serve reads the request, runs its handler and ends the connection. An error says why no handler
// ran, or that the response was not sent whole.
func (c *conn) serve() error {
	defer c.release()
	err := c.readHead()
	switch {
	case err == io.EOF:
		c.s.observer.Drop(c.record)
		c.closeConn()
		return nil // nothing was sent
	case err != nil:
		return c.refuse(err)
	}
	if c.s.Special != nil {
		if response, taken := c.s.Special(&c.req); taken {
			c.s.observer.Drop(c.record)
			c.write(response)
			c.hangUp(false)
			c.closeConn()
			return nil
		}
	}
	if c.s.Handler == nil {
		return c.refuse(ErrNoHandler)
	}
	if n, most := c.s.active.Add(1), int64(c.s.MaxRequests); most > 0 && n > most {
		c.s.active.Add(-1)
		return c.refuse(gateway.ErrRefused)
	}
	return c.run()
}

// readHead reads the head of the request under its time limits.
func (c *conn) readHead() error {
	if err := c.first(); err != nil {
		return err
	}
	c.s.observer.Busy()
	c.record = c.s.observer.Start(false)
	c.response.Out.Timed = c.record != nil
	c.equip()
	c.c.SetReadDeadline(stream.Deadline(c.s.ReadHeadTimeout, DefaultReadHeadTimeout)) // rule F33
	var start [16]byte
	n := copy(start[:], c.in.Buffered())
	c.in.Budget = c
	err := c.s.ReadHead(&c.in, &c.req)
	c.in.Budget = nil
	c.s.heads.Give(c.reserved)
	if err != nil {
		WarnOfHTTP(c.s.Logger(), c.s.Name, c.s.Directive, start[:n])
		return err
	}
	c.record.HeadDone()
	c.c.SetReadDeadline(time.Time{})
	return nil
}

// Reserve counts n bytes of the head, which is incomplete.
func (c *conn) Reserve(n int) error {
	err := c.s.heads.Take(n, c.s.MaxOpenHeadBytes)
	if err == nil {
		c.reserved += n
	}
	return err
}

// first waits for the first bytes of a request. It returns io.EOF if none will come, or if the
// server takes no further request.
func (c *conn) first() error {
	c.mu.Lock()
	if !c.stopping {
		c.c.SetReadDeadline(stream.Deadline(c.s.IdleTimeout, DefaultIdleTimeout))
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

// await waits for input without holding a buffer, where the type of the connection allows it.
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

// equip gives the conn the memory for a request. A connection on which nothing has arrived holds
// none.
func (c *conn) equip() {
	m := c.s.takeMemory()
	c.mu.Lock()
	c.mem = m
	c.mu.Unlock()
	(*pairs.List)(&c.req.Params).Take(&m.params)
	(*pairs.List)(&c.writer.Head.Header).Take(&m.fields)
	c.response.Out.B = m.out[:0]
}

// dismiss empties what a handler may have kept of the request. The response is locked.
func (c *conn) dismiss() {
	body := c.req.Body
	c.req.Reset()
	c.req.Body = body // its Read returns ErrOver
	c.req.SetContextSource(&c.source)
	c.writer.Head.Reset()
	c.mem.params.Take((*pairs.List)(&c.req.Params))
	c.mem.fields.Take((*pairs.List)(&c.writer.Head.Header))
	c.mem.params.Reset() // of what a goroutine of the handler may have added in between
	c.mem.fields.Reset()
}

// release returns the memory of the connection.
func (c *conn) release() {
	c.response.Lock()
	defer c.response.Unlock()
	if c.begun && !c.hijacked {
		c.s.observer.Free()
	}
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
	c.mem.out, c.response.Out.B = c.response.Out.B, nil
	c.mem.queue.Reset()
	c.s.giveMemory(c.mem)
	c.mem = new(memory)
}

// refuse ends a connection whose request has no handler.
func (c *conn) refuse(err error) error {
	status := Refusal(err)
	if status == 0 {
		c.s.observer.Malformed(err)
		c.s.observer.Drop(c.record)
		c.closeConn()
		return err
	}
	c.s.observer.Request()
	c.req.SetContext(c.ctx)
	LogRequest(c.s.Logger(), LevelOf(status), "request refused", &c.req, slog.Int("status", status), slog.Any("error", err))
	b, _ := c.s.AppendHead(nil, &gateway.Response{Status: status})
	first := c.write(b)
	c.record.Keep(&c.req)
	c.s.observer.End(c.record, c.ctx, Outcome{Status: status, First: first, Err: err, Refused: true})
	c.hangUp(true)
	c.closeConn()
	return err
}

// write writes a whole response, and returns when it did.
func (c *conn) write(b []byte) time.Time {
	c.c.SetWriteDeadline(c.s.writeDeadline())
	c.c.Write(b)
	return time.Now()
}

// run runs the handler and ends the response.
func (c *conn) run() (err error) {
	c.start()
	c.s.observer.Request()
	err = ErrGoexit
	defer func() { err = c.finish(err) }()
	c.s.group.Busy(c)
	err = CallHandler(c.s.Handler, &c.writer, &c.req, c.s.Logger)
	return err
}

// start makes the request ready for its handler.
func (c *conn) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.req.Peer, c.req.Local = sockets.AddrPort(c.c.RemoteAddr()), sockets.AddrPort(c.c.LocalAddr())
	c.req.SetContextSource(&c.source)
	c.req.Body = gateway.NoBody
	if c.left = c.req.ContentLength; c.left > 0 {
		c.req.Body = &c.body
	}
	c.req.Upgrade = wantsUpgrade(&c.req)
	c.running = true
}

// finish ends the response and the connection. The web server learns of the end last: by then the
// request no longer counts, and its memory is no longer the handler's.
func (c *conn) finish(err error) error {
	c.s.active.Add(-1)
	c.response.Lock()
	hijacked := c.hijacked
	cut := !hijacked && c.response.Complete(&c.req, err)
	c.mu.Lock()
	c.over, c.running = true, false
	ctx, reason := c.cancelable, c.reason()
	received := max(c.req.ContentLength, 0) - c.left + min(c.left, int64(c.mem.queue.Len()))
	c.changed.Broadcast()
	c.mu.Unlock()
	out := c.outcome(hijacked, received, err)
	seen := c.observedContext()
	c.record.Keep(&c.req)
	c.lines.Flush(c.logLine)
	c.dismiss()
	if !cut && !hijacked {
		_, err = c.Send(nil)
		out.Err = cmp.Or(out.Err, err)
	}
	out.First, out.Err = c.response.Out.First, Cause(out.Err, reason)
	c.response.Unlock()
	ctx.Cancel(context.Canceled)
	c.s.observer.End(c.record, seen, out)
	if hijacked {
		return nil
	}
	switch {
	case cut:
		c.reset()
		return fmt.Errorf("response cut: %w", out.Err)
	case err != nil: // the last bytes were not sent
		c.reset()
		return err
	}
	c.end()
	return nil
}

// end closes the connection after a complete response. Input may still be on its way, so the
// connection is hung up, unless the peer has closed its side or is gone.
func (c *conn) end() {
	c.mu.Lock()
	stopped := c.stopReading()
	lost, uploading := c.lost != nil, c.left > int64(c.mem.queue.Len())
	c.mu.Unlock()
	if stopped && !lost {
		c.hangUp(uploading)
	}
	c.closeConn()
}

// hangUp shuts down the sending side and discards input within bounds: closing a connection with
// unread input resets it, which may cost the peer the end of the response. uploading means that a
// body is still on its way.
func (c *conn) hangUp(uploading bool) {
	hc, ok := c.c.(interface{ CloseWrite() error })
	if !ok || hc.CloseWrite() != nil {
		return
	}
	most, limit := MaxDrain, DrainTimeout
	if uploading {
		most, limit = MaxUploadDrain, UploadDrainTimeout
	}
	if c.c.SetReadDeadline(time.Now().Add(limit)) == nil {
		c.in.Drain(most)
	}
}

// reset closes the connection so that the peer can see that the response is incomplete: a TCP
// connection with a reset, TLS without its closing alert. A Unix socket has no reset; there only a
// Content-Length shows it.
func (c *conn) reset() {
	conn := c.c
	t, secure := conn.(interface{ NetConn() net.Conn })
	if secure {
		conn = t.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	if secure {
		conn.Close()
	}
	c.shut()
}

// shut closes the connection and waits until its readers have ended. Closing alone does not wake a
// watcher that waits for room.
func (c *conn) shut() {
	c.closeConn()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopReading()
}

// closeConn closes the connection, once: its type may be the caller's.
func (c *conn) closeConn() {
	if !c.closed.Swap(true) {
		c.c.Close()
	}
}

// Stop limits the wait for the first byte of a request. It sets a deadline, since Close could cut a
// request that has been read and is not noted yet.
func (c *conn) Stop() {
	c.mu.Lock()
	c.stopping = true
	var err error
	if !c.begun {
		err = c.c.SetReadDeadline(time.Now().Add(BeginGrace))
	}
	c.mu.Unlock()
	if err != nil {
		c.closeConn()
	}
}

// Listed is the group's mark.
func (c *conn) Listed() *atomic.Bool { return &c.listed }

// Close ends the connection at once.
func (c *conn) Close() {
	c.mu.Lock() // before the connection is closed, which would look like the peer's doing
	c.fault = gateway.ErrServerClosed
	ctx := c.cancelable
	c.changed.Broadcast()
	c.mu.Unlock()
	ctx.Cancel(gateway.ErrServerClosed)
	c.closeConn()
}

var errHijacked = errors.New("gateway: the connection was taken over by Hijack")

// Acquire locks the response.
func (c *conn) Acquire() (*Response, error) {
	c.response.Lock()
	c.mu.Lock()
	over := c.over
	c.mu.Unlock()
	switch {
	case over:
		c.response.Unlock()
		return nil, ErrOver
	case c.hijacked:
		c.response.Unlock()
		return nil, errHijacked
	}
	return &c.response, nil
}
