package client

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/params"
	"github.com/gatehouse-go/gatehouse/internal/stream"
	"github.com/gatehouse-go/gatehouse/internal/upgrade"
)

// An exchange is one RoundTrip of a Client with its connection, and then the Body of the response.
// It is never reused.
//
// One goroutine reads: the one in RoundTrip, and then the one in a method of the Body, which holds
// rmu. It also writes out, unless sendBody runs; then that goroutine owns out until Upload.Done.
// Lock order: rmu, and then the Upload's or the Pool's lock.
type exchange struct {
	client   *Client
	ctx      context.Context
	open     Open
	socket   Socket // memory for c
	c        Conn
	granted  bool // the pool counts it
	stop     func() bool
	started  time.Time
	asked    time.Time
	x        gateway.Exchange
	head     *[]byte // the memory of the request's head
	headSize int
	body     io.Reader // the request's; nil if there is none
	length   int64     // of body
	res      *gateway.Response

	rmu      sync.Mutex // held while the response is read or closed
	in       stream.Input
	response stream.Response
	bodyless bool // the response is to HEAD, or a 204 or 304
	done     bool
	draining atomic.Bool // the drain owns the response; set with rmu held
	closed   atomic.Bool // Close was called; a Read in progress closes the Body when it leaves

	out stream.Output
	up  Upload
}

// prepare checks and encodes what does not depend on a connection.
func (x *exchange) prepare(r *gateway.Request) error {
	c := x.client
	x.body, x.length = params.Body(r.Body, r.ContentLength)
	switch {
	case c.fault != nil:
		return c.fault
	case r.Role > gateway.RoleResponder:
		return fmt.Errorf("%s: role %v: %w", c.Protocol, r.Role, gateway.ErrParam)
	case x.length < 0 && x.body != nil:
		return fmt.Errorf("%s: %w", c.Protocol, gateway.ErrLengthRequired)
	case x.length > 0 && x.body == nil:
		return params.ErrShortBody
	}
	x.head = c.heads.Get()
	var err error
	*x.head, x.open, err = c.prepare((*x.head)[:0], r)
	x.headSize = len(*x.head)
	return err
}

// roundTrip does the work of RoundTrip. It returns the phase in which it failed.
func (x *exchange) roundTrip(r *gateway.Request, res *gateway.Response) (gateway.Phase, error) {
	c := x.client
	if err := x.prepare(r); err != nil {
		return gateway.PhaseRequest, err
	}
	// The request is checked before it waits, so that a wrong one takes no place.
	begun := c.clock().Now()
	if _, _, err := c.pool.Get(x.ctx); err != nil {
		return gateway.PhaseWait, err
	}
	x.granted = true
	x.x.Wait = c.clock().Since(begun)
	begun = c.clock().Now()
	conn, err := x.open(x.ctx, &x.socket)
	x.x.Dial = c.clock().Since(begun)
	if err != nil {
		return gateway.PhaseDial, err
	}
	c.count.Dialed()
	x.attach(conn)
	if err := x.send(); err != nil {
		return x.phase(gateway.PhaseRequest), err
	}
	if err := x.readHead(r, res); err != nil {
		return x.phase(gateway.PhaseHead), err
	}
	return 0, nil
}

// phase returns PhaseSend if the application accepts no more of the request, or else phase.
func (x *exchange) phase(phase gateway.Phase) gateway.Phase {
	if x.up.Stuck() {
		return gateway.PhaseSend
	}
	return phase
}

// observe calls Observe. err is nil if the exchange succeeded.
func (x *exchange) observe(err error) {
	if x.client.Observe == nil {
		return
	}
	x.x.Addr = x.client.Addr
	x.x.Total = time.Since(x.started)
	x.x.Sent = x.out.Content.Load()
	x.x.Err = err
	x.client.Observe(x.ctx, &x.x)
}

// attach gives x its connection.
func (x *exchange) attach(conn Conn) {
	x.c = conn
	x.up.SetTimeouts(x.client.HeadTimeout, x.client.BodyTimeout)
	x.up.Reset(conn, &x.out)
	x.up.Begin()
	x.in.Reset(&x.up)
	x.in.Borrow()
	x.response.Reset(&x.in)
	x.asked = x.client.clock().Now()
	x.out.Timeout = stream.Timeout(x.client.SendTimeout, DefaultSendTimeout)
	if conn.Started() {
		x.up.StartHead() // it may respond without reading its input
		x.out.Reset(programWriter{conn, &x.up})
	} else {
		x.out.Reset(conn.Writer())
	}
	x.out.B = *x.head
	if x.ctx.Done() != nil { // from here on the end of the context closes the connection
		x.stop = context.AfterFunc(x.ctx, func() { conn.Close() })
	}
}

// send sends the request, or starts a sender. A connection that no longer accepts data is not an
// error yet, since a response may have arrived. An error of the body is one, and so is a connection
// that accepts nothing for the SendTimeout.
func (x *exchange) send() error {
	if x.body != nil && !stream.SmallMemory(x.body) {
		// The sender owns out from here on.
		x.up.Start(stream.InMemory(x.body))
		go x.sendBody()
		return nil
	}
	x.sentAll(stream.WriteBody(&x.out, x.body, x.length))
	return x.up.Fault()
}

// sendBody sends the request in the sender.
func (x *exchange) sendBody() {
	if x.sentAll(stream.WriteBody(&x.out, x.body, x.length)) {
		x.c.Close()
	}
}

// sentAll notes the end of sending, and returns the memory of the head. It reports whether the
// exchange has failed.
func (x *exchange) sentAll(err error) (failed bool) {
	if err == nil || x.out.Failed != nil {
		x.c.EndRequest()
	}
	*x.head, x.out.B = x.out.B[:0], nil
	x.client.heads.Put(x.head)
	return x.up.Done(err)
}

// readHead reads the head of the response and sets its Body.
func (x *exchange) readHead(r *gateway.Request, res *gateway.Response) error {
	x.response.Interim, x.response.Upgrade = r.Interim, r.Upgrade
	x.response.Line, x.response.Chunks = x.c.StatusLine(), x.client.chunks
	err := x.response.ReadHead(res, x.client.MaxHeadBytes)
	x.up.HeadDone()
	if err != nil {
		return x.cause(err)
	}
	x.x.Head, x.x.Status = x.client.clock().Since(x.asked), res.Status
	if res.Status == 101 {
		return x.switched(res)
	}
	method, _ := r.Params.Lookup("REQUEST_METHOD")
	x.bodyless = string(method) == "HEAD" || res.Status == 204 || res.Status == 304
	x.response.Bare = x.bodyless
	x.res, res.Body = res, x
	return nil
}

// switched makes the connection the Body of the response.
func (x *exchange) switched(res *gateway.Response) error {
	conn := x.c.NetConn()
	if conn == nil || !x.up.Await(x.ctx, time.Second) { // after a 101 the application does not need the rest of the body
		return errNotStream
	}
	// The buffer goes back to the pool, so what it holds of the stream is copied.
	early := append([]byte(nil), x.in.Buffered()...)
	x.in.Discard(len(early))
	x.in.Return()
	conn.SetDeadline(time.Time{})
	res.Body = &upgrade.Stream{Conn: conn, Early: early, Closed: func() {
		x.rmu.Lock()
		defer x.rmu.Unlock()
		if !x.done {
			x.finish(io.EOF)
		}
	}}
	return nil
}

// received reports whether any part of a response has arrived.
func (x *exchange) received() bool { return x.in.Offset() > 0 || x.in.Len() > 0 }

// Read reads the body of the response.
func (x *exchange) Read(p []byte) (int, error) {
	if x.closed.Load() {
		return 0, stream.ErrClosed
	}
	x.rmu.Lock()
	defer x.leave()
	if x.draining.Load() {
		return 0, stream.ErrClosed
	}
	x.up.BeginRead()
	n, err := x.response.Read(p)
	if x.done {
		return n, err
	}
	x.x.Received += int64(n)
	// A program may run on after its last output.
	if x.c.Started() && n > 0 && err == io.EOF {
		return n, nil // the bytes need not wait for the end of the program
	}
	if err != nil {
		err = x.finish(err)
	}
	return n, err
}

// Ready reports whether Read can return without waiting. gateway.Proxy and gatewayhttp.Proxy flush
// before a Read that has to wait.
func (x *exchange) Ready() bool {
	if x.closed.Load() {
		return true
	}
	x.rmu.Lock()
	defer x.leave()
	return x.done || x.draining.Load() || x.response.Ready()
}

// leave unlocks the response, and closes the Body if that was asked for in between.
func (x *exchange) leave() {
	x.rmu.Unlock()
	if x.closed.Load() {
		x.Close()
	}
}

// Close ends the exchange. The rest of the response is discarded: that of one without a body in the
// background, so that the application can finish.
func (x *exchange) Close() error {
	x.closed.Store(true)
	if x.draining.Load() {
		return nil
	}
	if !x.rmu.TryLock() {
		x.c.Close() // interrupts a Read, so that Close need not wait for it
		return nil
	}
	defer x.rmu.Unlock()
	switch {
	case x.done || x.draining.Load():
	case x.bodyless && x.up.Await(context.Background(), senderGrace) && x.unwatch():
		x.startDrain()
	default:
		x.finish(stream.ErrClosed)
	}
	return nil
}

// senderGrace is how long Close waits for a sender whose last write may have succeeded already. One
// that still runs is stopped with the exchange: the body of the request is the caller's again.
const senderGrace = 2 * time.Millisecond

// startDrain takes the response from its caller and reads the rest of it.
func (x *exchange) startDrain() {
	started := false
	defer func() {
		if !started { // Stderr has panicked at a line without an end
			x.finish(stream.ErrClosed)
		}
	}()
	x.c.Detach()
	started = true
	x.draining.Store(true)
	x.res = nil // it is the caller's
	x.client.drains.Start(x.c, &x.response, x.drained)
}

// drained ends the exchange after its drain.
func (x *exchange) drained(err error) {
	x.rmu.Lock()
	defer x.rmu.Unlock()
	if x.done {
		return
	}
	if err != io.EOF {
		err = stream.ErrClosed // the caller is no longer interested in an error
	}
	x.finish(err)
}

// unwatch stops watching the context. It returns false if the context was done.
func (x *exchange) unwatch() bool {
	stop := x.stop
	x.stop = nil
	return stop == nil || stop()
}

// finish ends the exchange because of err, and returns the error for the caller of Read.
func (x *exchange) finish(err error) error {
	x.done = true
	whole := err == io.EOF
	if whole {
		x.x.AppStatus, err = x.c.EndResponse()
		if err == nil {
			err = io.EOF
		}
		if x.res != nil {
			x.res.AppStatus = x.x.AppStatus
		}
	}
	// The connection and its place are given back before Observe is called, which may send another
	// request.
	x.drop()
	failure := err
	switch {
	case err == io.EOF || err == stream.ErrClosed:
		failure = nil
	default:
		failure = x.bodyError(err)
		err = failure
		x.client.count.Failed(failure)
	}
	x.res = nil
	x.client.count.End()
	x.observe(failure)
	if err != io.EOF {
		x.response.Fail(err)
	}
	return err
}

// bodyError returns the error that the Body returns for err.
func (x *exchange) bodyError(err error) error {
	if fault := x.up.Fault(); fault != nil {
		err = fault
	} else {
		err = fmt.Errorf("%s: %w", x.client.Protocol, err)
	}
	e := NewError(x.ctx, gateway.PhaseBody, x.client.Addr, err)
	e.Sent, e.Received = true, true
	return e
}

// drop closes the connection, if there is one, and returns what the exchange holds.
func (x *exchange) drop() {
	x.unwatch()
	if x.c != nil {
		x.c.Close() // the sender's write, if there is one, returns
		x.up.Settle()
		x.in.Discard(x.in.Len())
		x.in.Return()
	} else {
		x.client.heads.Put(x.head)
	}
	if x.granted {
		x.giveBack()
	}
}

// giveBack returns the place among MaxConns: for a program, once its process group is gone.
func (x *exchange) giveBack() {
	var gone <-chan struct{}
	if x.c != nil {
		gone = x.c.Gone()
	}
	if gone == nil {
		x.client.pool.Drop()
		return
	}
	select {
	case <-gone:
		x.client.pool.Drop()
	default:
		go func(p *Pool[*exchange]) {
			<-gone
			p.Drop()
		}(&x.client.pool)
	}
}
