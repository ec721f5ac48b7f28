package fastcgi

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/race"
	"github.com/gatehouse-go/gatehouse/internal/server"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// request is one request of a Server's connection. It is reused; what a handler gets to hold is the handle.
type request struct {
	c      *serverConn
	h      *responseWriter
	id     uint16
	begin  Begin
	req    *gateway.Request // the handle's
	params pairs.List       // memory for the params of the next one

	// Guarded by c.mu.
	ready         bool // the params are whole
	over          bool // END_REQUEST is being written
	headLimit     time.Time
	body, data    inputStream
	pending       [2]stream.Queue // of body and data: what came while somebody else read
	skipBody      bool            // nobody wants the rest of the body
	fault         error           // ends the reading of body and data
	readDeadline  time.Time
	writeDeadline time.Time
	ctx           *server.Context

	aborted atomic.Bool // ABORT_REQUEST has come

	// Guarded by wmu, as is the rest of the answer.
	wmu        sync.Mutex
	ans        server.Response // its head is the handle's
	fields     pairs.List      // memory for the next one
	out        output
	open       int // where the open STDOUT record begins in out.B; -1 if none is open
	usedStderr bool
	appStatus  uint32
}

// newRequest takes a request from the pool. In builds with the race detector every request is new, so that one kept
// too long is dead.
func (s *Server) newRequest(c *serverConn, id uint16, begin Begin) *request {
	r, _ := s.requests.Get().(*request)
	if r == nil || race.Enabled {
		r = new(request)
	}
	h := s.handles.Get(int(s.active.Load()) - 1)
	h.c.Store(c)
	h.r.Store(r)
	r.c, r.id, r.begin = c, id, begin
	r.h, r.req = h, &h.req
	r.ans.Reset(&h.res)
	(*pairs.List)(&h.req.Params).Take(&r.params)
	(*pairs.List)(&h.res.Header).Take(&r.fields)
	r.req.Role, r.req.Peer, r.req.Local = begin.Role, c.peer, c.local
	r.out.Reset(c.c)
	r.req.SetContextSource((*contextSource)(h))
	return r
}

// start makes r ready for its handler; empty says that the end of STDIN has come already.
func (r *request) start(empty bool) {
	r.req.Role = r.begin.Role
	r.body = inputStream{length: r.req.ContentLength}
	r.data = inputStream{ended: true}
	switch {
	case r.req.Role == Authorizer:
		// mod_authnz_fcgi sends no STDIN at all.
		r.req.ContentLength, r.body = 0, inputStream{length: -1, ended: true}
	case empty && r.req.ContentLength < 0:
		r.req.ContentLength, r.body.length = 0, 0
	}
	if r.req.ContentLength != 0 {
		r.req.Body = (*bodyHandle)(r.h)
	}
	if r.req.Role == Filter {
		r.data = inputStream{length: dataLength(r.req)}
		r.req.Data = (*dataHandle)(r.h)
	}
	r.open = -1
}

func (r *request) queueOf(t Type) (*inputStream, *stream.Queue) {
	if t == TypeData {
		return &r.data, &r.pending[1]
	}
	return &r.body, &r.pending[0]
}

// full reports whether what waits is enough.
func (r *request) full() bool {
	return r.fault == nil && (!r.skipBody && r.pending[0].Len() >= maxQueued || r.pending[1].Len() >= maxQueued)
}

// keep takes content that arrived while the handler did not read, as much as may wait, and returns how much it took.
// What goes beyond a promised length is dropped.
func (r *request) keep(t Type, b []byte) int {
	wanted := t == TypeStdin && !r.skipBody || t == TypeData && r.begin.Role == Filter
	if !wanted || r.fault != nil {
		return len(b)
	}
	s, q := r.queueOf(t)
	b = b[:min(len(b), max(maxQueued-q.Len(), 1))]
	n := len(b)
	if s.length >= 0 {
		n = int(min(int64(n), max(s.length-s.taken-int64(q.Len()), 0)))
	}
	q.Add(b[:n])
	return len(b)
}

// abort ends the request's input, and returns what cancels its context, to be called without c.mu.
func (r *request) abort(err error) (cancel func()) {
	if r.fault == nil {
		r.fault = err
	}
	if errors.Is(err, gateway.ErrAborted) {
		r.aborted.Store(true)
	}
	ctx := r.ctx
	return func() {
		if ctx != nil {
			ctx.Cancel(context.Canceled)
		}
	}
}

// run calls the handler and ends the answer.
func (r *request) run() {
	err := server.ErrGone
	defer func() { r.finish(err) }()
	err = server.CallHandler(r.c.s.handler(r.begin.Role), r.h, r.req, r.c.s.logger)
}

// finish ends the answer: END_REQUEST once, and nothing of this request after it.
func (r *request) finish(err error) {
	c := r.c
	r.wmu.Lock()
	cut := r.complete(err)
	c.wmu.Lock()
	c.mu.Lock()
	r.over = true
	c.s.active.Add(-1) // before the web server can know of the end
	ctx := r.ctx
	r.h.r.Store(nil)                   // rule F36
	left := c.reading && c.inline == r // the handler left a goroutine behind that still reads
	c.changed.Broadcast()
	c.mu.Unlock()
	r.dismiss() // before the web server can know of the end
	if cut {
		c.c.Close()
	} else {
		c.armWrite(r)
		err = r.out.Flush()
		c.wrote(err)
		cut = err != nil
	}
	c.wmu.Unlock()
	r.wmu.Unlock()
	c.mu.Lock()
	c.remove(r)
	c.orphanOf(r)
	c.changed.Broadcast()
	c.mu.Unlock()
	if ctx != nil {
		ctx.Cancel(context.Canceled)
	}
	keep := r.begin.KeepConn && !cut
	if !left {
		r.recycle()
	}
	c.afterAnswer(keep)
}

// orphanOf notes that the rest of r's STDIN may still come.
func (c *serverConn) orphanOf(r *request) {
	if !r.body.ended && r.begin.KeepConn && c.find(r.id) == nil {
		c.orphan, c.drained, c.limit = r.id, 0, time.Time{}
	}
}

// complete puts the end of the answer into the buffer. It returns true if the answer must be cut instead, because what
// has left cannot be taken back.
func (r *request) complete(err error) (cut bool) {
	if err == nil {
		err = r.ans.Failed
	}
	if err == nil {
		err = r.commit(200) // rule F38
	}
	if err == nil && r.ans.Short(r.req) {
		err = server.ErrShort
	}
	switch sent := r.out.Sent.Load(); {
	case err == nil:
	case r.out.Failed != nil, sent && !r.aborted.Load():
		r.c.s.logger().Debug("answer cut", "error", err)
		return true
	case !sent:
		r.replace(err)
	}
	r.closeRecord()
	r.out.B = appendHeader(r.out.B, RecordHeader{Type: TypeStdout, ID: r.id})
	if r.usedStderr {
		r.out.B = appendHeader(r.out.B, RecordHeader{Type: TypeStderr, ID: r.id})
	}
	r.out.B, _ = AppendEnd(r.out.B, r.id, End{AppStatus: r.appStatus})
	return false
}

// replace makes the answer one of err's status: nothing of it has left.
func (r *request) replace(err error) {
	status := r.ans.Replace(err)
	if !errors.Is(err, gateway.ErrAborted) {
		r.c.s.logger().Warn("handler failed", "status", status, "error", err)
	}
	r.out.B = r.out.B[:0]
	if errors.Is(err, server.ErrPanic) {
		r.out.B, _ = AppendRecord(r.out.B, TypeStderr, r.id, []byte("handler panicked"))
		r.usedStderr = true
	}
	r.open = -1
	r.commit(status)
}

// dismiss parts r from its handle, which is empty and dead from now on, and takes the memory for the next request.
func (r *request) dismiss() {
	h, body := r.h, r.req.Body
	h.c.Store(nil)
	h.req.Reset()
	h.req.Body = body // which is dead, and says so
	h.req.SetContextSource((*contextSource)(h))
	h.res.Reset()
	r.params.Take((*pairs.List)(&h.req.Params))
	r.fields.Take((*pairs.List)(&h.res.Header))
	r.params.Reset() // of what somebody may have added in between
	r.fields.Reset()
	r.h, r.req = nil, nil
	r.ans.Reset(nil)
}

// recycle gives r back to the pool, unless it has grown large.
func (r *request) recycle() {
	s := r.c.s
	small := r.params.Cap()+r.fields.Cap() <= stream.MaxKept && cap(r.out.B) <= stream.MaxKept &&
		r.pending[0].Cap()+r.pending[1].Cap() <= stream.MaxKept
	if race.Enabled || !small {
		return
	}
	// The locks and c stay as they are: a dead handle may still be on its way to see that it is dead.
	r.ready, r.over, r.skipBody, r.fault, r.ctx = false, false, false, nil, nil
	r.headLimit, r.readDeadline, r.writeDeadline = time.Time{}, time.Time{}, time.Time{}
	for i := range r.pending {
		r.pending[i].Reset()
	}
	r.aborted.Store(false)
	r.usedStderr, r.appStatus = false, 0
	r.out.Reset(nil)
	s.requests.Put(r)
}
