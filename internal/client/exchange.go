package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/stream"
	"github.com/gatehouse-go/gatehouse/internal/upgrade"
)

// exchange is one RoundTrip of a Client and its connection, and then the Body of the answer. It is not used again, so
// that what is kept of it is dead.
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

	rmu    sync.Mutex // held while the answer is read or closed
	in     stream.Input
	answer stream.Response
	done   bool

	out stream.Output
	up  Upload
}

// attach gives x its connection.
func (x *exchange) attach(conn Conn) {
	x.c = conn
	x.up.HeadTimeout, x.up.BodyTimeout = x.client.HeadTimeout, x.client.BodyTimeout
	x.up.Reset(conn, &x.out)
	x.up.Begin()
	x.in.Reset(&x.up)
	x.in.Borrow()
	x.answer.Reset(&x.in)
	if conn.Started() {
		x.up.StartHead() // it may respond without reading its input
	}
	x.asked = x.client.clock().Now()
	x.out.Timeout = stream.Timeout(x.client.SendTimeout, DefaultSendTimeout)
	x.out.Reset(conn.Writer())
	x.out.B = *x.head
	if x.ctx.Done() != nil {
		x.stop = context.AfterFunc(x.ctx, func() { conn.Close() })
	}
}

// send sends the request, or begins to. A connection that takes no more may still hold an answer, so that is no error
// yet; one of the body is, and so is a connection that takes nothing for the SendTimeout.
func (x *exchange) send() error {
	if x.body != nil && !stream.SmallMemory(x.body) {
		x.up.Start(stream.InMemory(x.body))
		go x.sendBody()
		return nil
	}
	x.sentAll(stream.WriteBody(&x.out, x.body, x.length))
	return x.up.Fault()
}

// sendBody sends the request in a goroutine of its own.
func (x *exchange) sendBody() {
	if x.sentAll(stream.WriteBody(&x.out, x.body, x.length)) {
		x.c.Close()
	}
}

// sentAll notes the end of sending, and gives the memory of the head back. It reports whether the exchange has failed.
func (x *exchange) sentAll(err error) (failed bool) {
	if err == nil || x.out.Failed != nil {
		x.c.EndRequest()
	}
	*x.head, x.out.B = x.out.B[:0], nil
	x.client.giveHead(x.head)
	return x.up.Done(err)
}

// readHead reads the answer's head and gives the answer its Body.
func (x *exchange) readHead(r *gateway.Request, res *gateway.Response) error {
	x.answer.Interim, x.answer.Upgrade = r.Interim, r.Upgrade
	x.answer.Line = x.c.StatusLine()
	limit := x.client.MaxHeadBytes
	if limit <= 0 {
		limit = stream.DefaultResponseHead
	}
	err := x.answer.ReadHead(res, limit)
	x.up.HeadDone()
	if err != nil {
		return x.cause(err)
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
	conn := x.c.NetConn()
	if conn == nil || !x.up.Await(x.ctx, time.Second) { // the application has switched: it needs no more of the body
		return errNotStream
	}
	early := append([]byte(nil), x.in.Buffered()...)
	x.in.Discard(len(early))
	x.in.Return()
	conn.SetDeadline(time.Time{})
	res.Body = upgrade.NewStream(conn, early, func() {
		x.rmu.Lock()
		defer x.rmu.Unlock()
		if !x.done {
			x.finish(io.EOF)
		}
	})
	return nil
}

// cause maps an error of reading to the error that the caller can test for.
func (x *exchange) cause(err error) error {
	if fault := x.up.Fault(); fault != nil {
		return fault // the rest followed from it
	}
	if !x.received() && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) {
		return x.silence(err)
	}
	return fmt.Errorf("%s: %w", x.client.Protocol, err)
}

// silence is the error for a connection that was closed without one byte of an answer.
func (x *exchange) silence(err error) error {
	if sendErr := x.up.Err(); sendErr != nil {
		err = sendErr
	}
	return fmt.Errorf("%s: %w%s (%w)", x.client.Protocol, gateway.ErrNoResponse, x.c.Silence(x.headSize), err)
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
	if x.c.Started() && n > 0 && err == io.EOF {
		return n, nil // the bytes need not wait for the end of the program
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
		x.finish(stream.ErrClosed)
	}
	return nil
}

// finish ends the exchange: err is what Read returned. It returns what Read is to return instead.
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
		x.answer.Fail(err)
	}
	return err
}

// bodyError makes err what Body returns.
func (x *exchange) bodyError(err error) error {
	if fault := x.up.Fault(); fault != nil {
		err = fault
	} else {
		err = fmt.Errorf("%s: %w", x.client.Protocol, err)
	}
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
		x.up.Settle()
		x.in.Discard(x.in.Len())
		x.in.Return()
	} else {
		x.client.giveHead(x.head)
	}
	if x.granted {
		x.giveBack()
	}
}

// giveBack gives the place among MaxConns back: that of a program when nothing is left of it.
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
