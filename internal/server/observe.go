package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// An Observer counts what a server does, and calls its Observe.
type Observer struct {
	Observe func(ctx context.Context, r *gateway.Request, x *gateway.ServerExchange) // nil if nothing is observed
	Logger  func() *slog.Logger

	accepted, requests, refused, malformed, aborted, panics, received, sent atomic.Uint64
	inFlight, busy                                                          atomic.Int64
	records                                                                 sync.Pool // of *Record
}

// A Record is what Observe will be told of a request. Nil means that nothing is observed.
type Record struct {
	x   gateway.ServerExchange
	req gateway.Request
}

// An Outcome is how a request ended.
type Outcome struct {
	Status         int // 0 if no head was sent
	AppStatus      uint32
	Received, Sent int64     // bytes of bodies
	First          time.Time // when the first byte of the response was written
	Err            error     // nil if the response was sent completely
	Refused        bool      // no handler was called
	Hijacked       bool
}

// Accepted counts a connection.
func (o *Observer) Accepted() { o.accepted.Add(1) }

// RefusedPeer counts a connection that Peers does not allow.
func (o *Observer) RefusedPeer() { o.refused.Add(1) }

// Malformed counts a connection that is closed because of err, if that means that its bytes are not
// a message.
func (o *Observer) Malformed(err error) {
	if errors.Is(err, gateway.ErrMalformed) {
		o.malformed.Add(1)
	}
}

// Busy counts a connection that carries requests, and Free one that no longer does.
func (o *Observer) Busy() { o.busy.Add(1) }
func (o *Observer) Free() { o.busy.Add(-1) }

// Start returns a Record for a request whose first byte has arrived.
func (o *Observer) Start(reused bool) *Record {
	if o.Observe == nil {
		return nil
	}
	rec, _ := o.records.Get().(*Record)
	if rec == nil {
		rec = new(Record)
	}
	rec.x = gateway.ServerExchange{Start: time.Now(), Reused: reused}
	return rec
}

// HeadDone notes that the params are complete.
func (rec *Record) HeadDone() {
	if rec != nil {
		rec.x.Head = time.Since(rec.x.Start)
	}
}

// Keep copies r, whose memory is taken from its handler now.
func (rec *Record) Keep(r *gateway.Request) {
	if rec != nil {
		rec.req.CopyFrom(r)
		rec.req.Body, rec.req.Data, rec.req.Stderr = gateway.NoBody, nil, nil
	}
}

// Request counts a request whose params are complete, or that is refused before they are.
func (o *Observer) Request() {
	o.requests.Add(1)
	o.inFlight.Add(1)
}

// Drop forgets a Record of what was no request.
func (o *Observer) Drop(rec *Record) {
	if rec != nil {
		rec.req.Reset()
		o.records.Put(rec)
	}
}

// End counts the end of a request, and calls Observe.
func (o *Observer) End(rec *Record, ctx context.Context, out Outcome) {
	o.received.Add(uint64(out.Received))
	o.sent.Add(uint64(out.Sent))
	switch {
	case out.Refused && (out.Status == 501 || out.Status == 503):
		o.refused.Add(1)
	case out.Refused && out.Status < 500:
		o.malformed.Add(1)
	case errors.Is(out.Err, gateway.ErrPanic):
		o.panics.Add(1)
	case errors.Is(out.Err, gateway.ErrAborted), errors.Is(out.Err, gateway.ErrDisconnected):
		o.aborted.Add(1)
	}
	if rec != nil {
		o.call(rec, ctx, out)
		o.Drop(rec)
	}
	o.inFlight.Add(-1)
}

// call calls Observe. A panic of it ends nothing else.
func (o *Observer) call(rec *Record, ctx context.Context, out Outcome) {
	defer func() {
		if v := recover(); v != nil {
			o.Logger().Error("Observe panicked", "panic", v, "stack", string(debug.Stack()))
		}
	}()
	x := &rec.x
	x.Total = time.Since(x.Start)
	if !out.First.IsZero() {
		x.FirstByte = out.First.Sub(x.Start)
	}
	x.Status, x.AppStatus, x.Received, x.Sent = out.Status, out.AppStatus, out.Received, out.Sent
	x.Hijacked, x.Refused, x.Err = out.Hijacked, out.Refused, out.Err
	o.Observe(ctx, &rec.req, x)
}

// Stats returns the counters. open is the number of open connections.
func (o *Observer) Stats(open int) gateway.ServerStats {
	return gateway.ServerStats{
		Accepted: o.accepted.Load(), Requests: o.requests.Load(), Refused: o.refused.Load(), Malformed: o.malformed.Load(),
		Aborted: o.aborted.Load(), Panics: o.panics.Load(), Received: o.received.Load(), Sent: o.sent.Load(),
		Open: open, Idle: max(open-int(o.busy.Load()), 0), InFlight: int(o.inFlight.Load()),
	}
}

// Cause returns err, with the reason why the input of its request failed: the server was closed, or
// the web server has aborted the request or is gone.
func Cause(err, reason error) error {
	switch {
	case err == nil:
		return nil
	case reason == nil && (errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)):
		reason = gateway.ErrDisconnected
	case reason == nil || errors.Is(err, reason):
		return err
	}
	return fmt.Errorf("%w: %w", reason, err)
}
