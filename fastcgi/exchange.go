package fastcgi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/client"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// exchange sends the request and reads the head of the response. On an error the connection is
// closed, and x keeps its place.
func (cc *clientConn) exchange(x *roundTrip) error {
	returned := false
	defer func() {
		if !returned { // Interim or Stderr has panicked
			cc.endWatch()
			cc.c.Close()
			cc.up.Settle()
		}
	}()
	cc.begin(x)
	phase := gateway.PhaseRequest
	err := cc.send(x)
	if err == nil {
		phase = gateway.PhaseHead
		err = cc.readHead(x)
	}
	if err == nil {
		returned = true
		cc.attach(x)
		return nil
	}
	if cc.up.Stuck() {
		phase = gateway.PhaseSend
	}
	err = x.fail(phase, cc, err) // before drop, which ends the sender that it asks
	cc.endWatch()
	cc.drop()
	returned = true
	return err
}

// begin makes the connection ready for an exchange. From now on the end of the context closes it.
func (cc *clientConn) begin(x *roundTrip) {
	cc.id++ // so that a record of the last exchange is an error in this one
	cc.rec.in.Borrow()
	cc.response.reset()
	cc.response.strict = x.r.Role == gateway.RoleAuthorizer // F64
	cc.response.id = cc.id
	cc.response.interim = x.r.Interim
	cc.response.stderr = cc.takeError
	cc.ctx, cc.stderr = x.ctx, x.r.Stderr
	cc.about.set(x.r)
	cc.up.Begin()
	cc.out.Begin()
	cc.started, cc.asked = x.started, cc.client.clock().Now()
	if x.ctx.Done() != nil {
		cc.stop = context.AfterFunc(x.ctx, cc.cancel)
	}
}

// send sends the request, or starts a sender. A connection that no longer accepts data is not an
// error yet, since a response may have arrived. An error of the body is one, and so is a connection
// that accepts nothing for the SendTimeout.
func (cc *clientConn) send(x *roundTrip) error {
	if err := x.encode(cc); err != nil {
		return err
	}
	x.touched = x.body != nil || x.r.Data != nil
	if x.body != nil && !stream.SmallMemory(x.body) || x.r.Role == gateway.RoleFilter {
		// A large body is sent while the response is read: the application may respond before it
		// has read all of it, and neither end may wait for the other.
		cc.up.Start(stream.InMemory(x.body) && x.r.Role != gateway.RoleFilter)
		go cc.sendBody(sending{x.body, x.length, x.r.Data, dataLength(x.r), x.r.Role}, x.head) // rule F34
		x.head = nil
		return nil
	}
	// A small one is sent here, in one write with the head.
	err := cc.writeRequest(sending{x.body, x.length, nil, 0, x.r.Role})
	*x.head, cc.out.B = cc.out.B[:0], nil // the memory is free again: a flush keeps nothing of it
	cc.up.Done(err)
	return cc.up.Fault()
}

// A sending holds the streams that follow the head of a request: STDIN, and the DATA of a Filter.
type sending struct {
	body       io.Reader
	length     int64
	data       io.Reader
	dataLength int64
	role       gateway.Role
}

// writeRequest writes the head, which is in the buffer, and the streams of the request.
func (cc *clientConn) writeRequest(s sending) error {
	// An authorizer gets an empty STDIN: FCGI.pm and others wait for it.
	if err := cc.out.stream(TypeStdin, cc.id, s.body, s.length); err != nil {
		return err
	}
	if s.role == gateway.RoleFilter {
		if err := cc.out.Flush(); err != nil {
			return err
		}
		if err := cc.out.stream(TypeData, cc.id, s.data, s.dataLength); err != nil {
			return err
		}
	}
	cc.out.Final.Store(true)
	return cc.out.Flush()
}

// sendBody runs writeRequest in the sender.
func (cc *clientConn) sendBody(s sending, head *[]byte) {
	err := cc.writeRequest(s)
	*head, cc.out.B = cc.out.B[:0], nil
	cc.client.heads.Put(head)
	if cc.up.Done(err) { // a partial body must not look complete
		cc.cancel()
	}
}

// readHead reads the head of the response, for at most HeadTimeout.
func (cc *clientConn) readHead(x *roundTrip) error {
	err := cc.response.readHead(&cc.rec, x.res, cc.client.MaxHeadBytes)
	cc.up.HeadDone()
	return cc.cause(err)
}

// cause maps an error of reading to the error that the caller can test for.
func (cc *clientConn) cause(err error) error {
	if err == nil || err == io.EOF && cc.response.started {
		return err
	}
	// The sender closes the connection if the body cannot be read. The reader then sees the close.
	if fault := cc.up.Fault(); fault != nil {
		return fault // other errors follow from it
	}
	switch {
	case cc.silent() && (err == io.EOF || errors.Is(err, syscall.ECONNRESET)):
		if sendErr := cc.up.Err(); sendErr != nil {
			err = sendErr
		}
		return fmt.Errorf("fastcgi: %w (%w)", gateway.ErrNoResponse, err)
	case errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("fastcgi: %w (%w)", gateway.ErrTruncated, err)
	}
	return err
}

// silent reports whether no part of a response has arrived. Management records are not part of one.
func (cc *clientConn) silent() bool { return cc.response.seen == 0 && cc.rec.in.Len() == 0 }

// attach gives the response its Body.
func (cc *clientConn) attach(x *roundTrip) {
	cc.bodyless = x.bodyless || x.res.Status == 204 || x.res.Status == 304
	cc.response.bare = cc.bodyless
	if cc.client.Observe != nil {
		cc.x = gateway.Exchange{
			Addr: cc.client.Addr, Reused: cc.reused, Wait: x.waited, Dial: x.dialed,
			Head: time.Since(cc.asked), Status: x.res.Status,
		}
	}
	b := cc.client.bodies.Get(cc.client.count.InFlight() - 1)
	b.cc.Store(cc)
	// b is the Body from here on. interrupt may close the connection under it.
	cc.bmu.Lock()
	cc.body = b
	cc.bmu.Unlock()
	x.res.Body = b
}

// finish ends the exchange. err is what Read returns from now on.
func (cc *clientConn) finish(err error) error {
	// A context that is done has closed the connection, or is about to.
	watched := cc.endWatch()
	good := err == io.EOF && cc.reusable() && watched
	if !good {
		cc.c.Close()
	}
	cc.up.Settle()
	if err = cc.bodyError(err); err != io.EOF {
		end := err
		cc.body.end.CompareAndSwap(nil, &end)
	}
	// The Body is over before the connection carries another exchange, so that a Read or a Close
	// that comes late does not reach it. It is over before Observe, which may close it.
	cc.body.cc.Store(nil)
	gave := false
	defer func() {
		if !gave { // Stderr has panicked
			cc.giveBack(good)
		}
	}()
	cc.lines.Flush(cc.stderrLine)
	gave = true
	if cc.client.Observe == nil {
		cc.giveBack(good)
		return err
	}
	cc.report(err, good)
	return err
}

// giveBack returns the connection, or its place, to the pool.
func (cc *clientConn) giveBack(good bool) {
	cc.bmu.Lock()
	cc.body = nil
	cc.bmu.Unlock()
	cc.ctx, cc.stderr, cc.response.res, cc.response.interim = nil, nil, nil, nil
	cc.client.count.End()
	if !good {
		cc.client.pool.Drop()
		return
	}
	cc.rec.in.Return() // an idle connection holds no buffer
	cc.client.pool.Put(cc)
}

// endWatch stops watching the context. It returns false if the context was done.
func (cc *clientConn) endWatch() bool {
	if cc.stop == nil {
		return true
	}
	stopped := cc.stop()
	cc.stop = nil
	return stopped
}

// drop closes a connection on which no response began.
func (cc *clientConn) drop() {
	cc.c.Close()
	cc.up.Settle()
	cc.lines.Flush(cc.stderrLine)
}

// reusable reports whether the exchange left the connection clean (F2).
func (cc *clientConn) reusable() bool {
	if !cc.keep || cc.dead.Load() {
		return false
	}
	if cc.out.Final.Load() {
		// The response can arrive before the sender has been told that its last write succeeded.
		cc.up.Await(context.Background(), 2*time.Millisecond)
	}
	a := &cc.response
	cc.rec.dropBuffered()
	return cc.up.Sent() && a.ended && !a.dirty && a.end.Status == StatusComplete &&
		cc.rec.left == 0 && cc.rec.pad == 0 && cc.rec.in.Len() == 0 && cc.young()
}

// bodyError returns the error that the Body returns for err.
func (cc *clientConn) bodyError(err error) error {
	if err == io.EOF || err == errClosed {
		return err
	}
	e := client.NewError(cc.ctx, gateway.PhaseBody, cc.client.Addr, cc.cause(err))
	e.Reused, e.Sent, e.Received = cc.reused, true, true
	cc.client.count.Failed(e)
	return e
}

// report gives the connection back and calls Observe, which may send another request over it.
func (cc *clientConn) report(err error, good bool) {
	x, c, ctx := cc.x, cc.client, cc.ctx
	x.Total = time.Since(cc.started)
	x.Sent = cc.out.Content.Load()
	x.AppStatus = cc.response.end.AppStatus
	if err != io.EOF && err != errClosed {
		x.Err = err
	}
	cc.giveBack(good)
	c.Observe(ctx, &x)
}
