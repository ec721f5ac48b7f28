package single

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/inbuf"
	"github.com/gatehouse-go/gatehouse/internal/outbuf"
	"github.com/gatehouse-go/gatehouse/internal/plain"
	"github.com/gatehouse-go/gatehouse/internal/pool"
)

// exchange is one RoundTrip of a Client and its connection, and then the Body of the answer. It is not used again, so
// that what is kept of it is dead.
type exchange struct {
	client   *Client
	ctx      context.Context
	c        Conn
	granted  bool // the pool counts it
	stop     func() bool
	started  time.Time
	asked    time.Time
	x        gateway.Exchange
	head     *[]byte // the memory of the request's head
	headSize int
	plan     any
	res      *gateway.Response

	rmu    sync.Mutex // held while the answer is read or closed
	in     inbuf.Buffer
	answer plain.Answer
	done   bool

	out outbuf.Buffer

	mu       sync.Mutex
	sent     sync.Cond
	sending  bool // a goroutine writes the body
	inMemory bool // the body's bytes are there already: writing them waits for the connection alone
	waiting  bool // for the answer's head
	sendErr  error
	limit    time.Time // of the head
	deadline time.Time // that is set
}

// attach gives x its connection.
func (x *exchange) attach(conn Conn) {
	x.c = conn
	x.sent.L = &x.mu
	x.in.Reset((*timedReader)(x))
	x.in.Borrow()
	x.answer.Reset(&x.in)
	x.waiting = true
	if _, ok := conn.(Process); ok && x.client.HeadTimeout > 0 {
		x.limit = time.Now().Add(x.client.HeadTimeout) // from its start: it may answer without reading its input
	}
	x.asked = x.client.clock().Now()
	x.out.Reset(conn)
	x.out.B = *x.head
	if x.ctx.Done() != nil {
		x.stop = context.AfterFunc(x.ctx, func() { conn.Close() })
	}
}

// timedReader reads from the connection under the deadline of what is waited for.
type timedReader exchange

func (t *timedReader) Read(p []byte) (int, error) {
	x := (*exchange)(t)
	x.arm()
	return x.c.Read(p)
}

func (x *exchange) arm() {
	x.mu.Lock()
	defer x.mu.Unlock()
	var t time.Time
	switch idle := x.client.IdleTimeout; {
	case x.waiting:
		t = x.limit
	case idle > 0:
		t = time.Now().Add(idle)
	}
	x.setDeadline(t)
}

func (x *exchange) setDeadline(t time.Time) {
	if !t.Equal(x.deadline) {
		x.deadline = t
		x.c.SetReadDeadline(t)
	}
}

// send sends the request, or begins to. A connection that takes no more may still hold an answer, so that is no error
// yet; one of the body is.
func (x *exchange) send(r *gateway.Request) error {
	if r.Body != nil && !outbuf.SmallMemory(r.Body) {
		x.sending, x.inMemory = true, outbuf.InMemory(r.Body)
		go x.sendBody(r.Body, r.ContentLength)
		return nil
	}
	err := plain.Write(&x.out, r.Body, r.ContentLength)
	x.sentAll(err)
	if x.out.Failed == nil {
		return err
	}
	return nil
}

// sendBody sends the request from a goroutine of its own.
func (x *exchange) sendBody(body io.Reader, length int64) {
	err := plain.Write(&x.out, body, length)
	atFault := err != nil && x.out.Failed == nil
	x.sentAll(err)
	if atFault {
		x.c.Close() // nobody may take what was sent of the body for the whole
	}
}

// sentAll notes the end of sending. From now on the head is waited for with a limit.
func (x *exchange) sentAll(err error) {
	if e, ok := x.c.(Process); ok && (err == nil || x.out.Failed != nil) {
		e.CloseWrite()
	}
	*x.head, x.out.B = x.out.B[:0], nil
	x.client.giveHead(x.head)
	x.mu.Lock()
	defer x.mu.Unlock()
	if timeout := x.client.HeadTimeout; timeout > 0 && x.waiting && x.limit.IsZero() {
		x.limit = time.Now().Add(timeout)
		if x.sending {
			x.setDeadline(x.limit)
		}
	}
	x.sending, x.sendErr = false, err
	x.sent.Broadcast()
}

// readHead reads the answer's head and gives the answer its Body.
func (x *exchange) readHead(r *gateway.Request, res *gateway.Response) error {
	x.answer.Interim, x.answer.Upgrade = r.Interim, r.Upgrade
	if p, ok := x.c.(Process); ok {
		x.answer.Line = p.StatusLine()
	}
	limit := x.client.MaxHeadBytes
	if limit <= 0 {
		limit = plain.DefaultAnswerHead
	}
	err := x.answer.ReadHead(res, limit)
	x.mu.Lock()
	x.waiting, x.limit = false, time.Time{}
	err = x.cause(err)
	x.mu.Unlock()
	if err != nil {
		return err
	}
	x.x.Head, x.x.Status = x.client.clock().Since(x.asked), res.Status
	if res.Status == 101 {
		return x.switched(res)
	}
	method, _ := r.Params.Lookup("REQUEST_METHOD")
	x.answer.Bare = string(method) == "HEAD" || res.Status == 204 || res.Status == 304
	x.res, res.Body = res, x
	return nil
}

// switched makes the connection the answer's Body.
func (x *exchange) switched(res *gateway.Response) error {
	conn, ok := x.c.(net.Conn)
	if !ok || !x.sentSoon() {
		return errNotStream
	}
	early := append([]byte(nil), x.in.Buffered()...)
	x.in.Discard(len(early))
	x.in.Return()
	conn.SetDeadline(time.Time{})
	s := NewStream(conn, early)
	s.done = func() {
		x.rmu.Lock()
		defer x.rmu.Unlock()
		if !x.done {
			x.finish(io.EOF)
		}
	}
	res.Body = s
	return nil
}

// sentSoon waits for the goroutine that writes the body, of which the application, since it has switched, needs no more.
func (x *exchange) sentSoon() bool {
	wake := func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.sent.Broadcast()
	}
	limit := time.Now().Add(time.Second)
	defer time.AfterFunc(time.Until(limit), wake).Stop()
	defer context.AfterFunc(x.ctx, wake)()
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.sending && x.ctx.Err() == nil && time.Now().Before(limit) {
		x.sent.Wait()
	}
	return !x.sending
}

// cause makes of an error of reading what the caller can branch on. x.mu is held.
func (x *exchange) cause(err error) error {
	silent := !x.received()
	switch {
	case err == nil:
		return nil
	case x.sendErr != nil && x.out.Failed == nil:
		return x.sendErr // of the body; the rest followed from it
	case silent && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)):
		return x.silence(err)
	}
	return fmt.Errorf("%s: %w", x.client.Protocol, err)
}

// silence is the error for a connection that was closed without one byte of an answer.
func (x *exchange) silence(err error) error {
	if x.sendErr != nil {
		err = x.sendErr
	}
	hint := ""
	if x.client.Silence != nil {
		hint = x.client.Silence(x.c, x.headSize)
	}
	return fmt.Errorf("%s: %w%s (%w)", x.client.Protocol, gateway.ErrNoResponse, hint, err)
}

// received reports whether anything of an answer has come.
func (x *exchange) received() bool { return x.in.Offset() > 0 || x.in.Len() > 0 }

// Read reads the answer's body.
func (x *exchange) Read(p []byte) (int, error) {
	x.rmu.Lock()
	defer x.rmu.Unlock()
	n, err := x.answer.Read(p)
	if x.done {
		return n, err
	}
	x.x.Received += int64(n)
	if _, ends := x.c.(Process); ends && n > 0 && err == io.EOF {
		return n, nil // the end may take its time; the bytes need not wait for it
	}
	if err != nil {
		err = x.finish(err)
	}
	return n, err
}

// Ready reports whether Read would not have to wait: gateway.Proxy and gatewayhttp.Proxy ask, to send on what they have
// before they wait.
func (x *exchange) Ready() bool {
	x.rmu.Lock()
	defer x.rmu.Unlock()
	return x.done || x.answer.Ready()
}

// Close ends the exchange; what is left of the answer is dropped.
func (x *exchange) Close() error {
	if !x.rmu.TryLock() {
		x.c.Close() // under a Read that must not keep Close waiting
		x.rmu.Lock()
	}
	defer x.rmu.Unlock()
	if !x.done {
		x.finish(plain.ErrClosed)
	}
	return nil
}

// finish ends the exchange: err is what Read returned. It returns what Read is to return instead.
func (x *exchange) finish(err error) error {
	x.done = true
	whole := err == io.EOF
	if e, ok := x.c.(Process); ok && whole {
		x.x.AppStatus, err = e.Wait()
		if err == nil {
			err = io.EOF
		}
		if x.res != nil {
			x.res.AppStatus = x.x.AppStatus
		}
	}
	x.drop()
	failure := err
	switch {
	case err == io.EOF || err == plain.ErrClosed:
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
		x.answer.Fail(err)
	}
	return err
}

// bodyError makes err what Body returns.
func (x *exchange) bodyError(err error) error {
	x.mu.Lock()
	if x.sendErr != nil && x.out.Failed == nil {
		err = x.sendErr
	} else {
		err = fmt.Errorf("%s: %w", x.client.Protocol, err)
	}
	x.mu.Unlock()
	if cause := context.Cause(x.ctx); cause != nil {
		err = cause
	}
	return &gateway.Error{Phase: gateway.PhaseBody, Addr: x.client.Addr, Sent: true, Received: true, Err: err}
}

// drop closes the connection, if there is one, and gives back what the exchange had.
func (x *exchange) drop() {
	if x.stop != nil {
		x.stop()
		x.stop = nil
	}
	if x.c != nil {
		x.c.Close()
		x.settleSender()
		x.in.Discard(x.in.Len())
		x.in.Return()
	} else {
		x.client.giveHead(x.head)
	}
	if x.granted {
		x.giveBack()
	}
}

// giveBack gives the place among MaxConns back: that of a process, when it is gone.
func (x *exchange) giveBack() {
	e, ok := x.c.(Process)
	if !ok {
		x.client.pool.Drop()
		return
	}
	select {
	case <-e.Gone():
		x.client.pool.Drop()
	default:
		go func(p *pool.Pool[*exchange]) {
			<-e.Gone()
			p.Drop()
		}(&x.client.pool)
	}
}

// settleSender waits for the goroutine that writes the body where it cannot be kept waiting: its bytes are in memory and
// its connection is closed. One that waits for a Read of the caller's body is left behind; it will not read again.
func (x *exchange) settleSender() {
	x.out.Stopped.Store(true)
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.sending && x.inMemory {
		x.sent.Wait()
	}
}
