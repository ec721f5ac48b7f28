package fastcgi

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/race"
	"github.com/gatehouse-go/gatehouse/internal/server"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// A request is one request of a serverConn. Requests are reused: a handler never holds one, only
// its responseWriter.
type request struct {
	c      *serverConn
	w      *responseWriter
	id     uint16
	begin  Begin
	req    *gateway.Request // that of w
	params pairs.List       // memory for the params of the next request

	aborted atomic.Bool // ABORT_REQUEST has arrived

	// Guarded by c.mu.
	ready         bool // the params are complete
	counted       bool // among the Server's active requests
	observed      bool // the context of the connection stands in for that of the request
	record        *server.Record
	headBytes     int  // that have arrived, while the params are incomplete
	over          bool // END_REQUEST is being written
	headLimit     time.Time
	body, data    inputStream
	pending       [2]stream.Queue // of body and data: content that arrived while the handler did not read
	skipBody      bool            // the rest of the body is discarded
	fault         error           // ends the reading of body and data
	readDeadline  time.Time
	writeDeadline time.Time
	ctx           *server.Context

	// Guarded by the response's lock.
	response   server.Response
	fields     pairs.List // memory for the fields of the next response
	open       int        // offset in response.Out at which the open STDOUT record begins; -1 if none is open
	usedStderr bool
}

// newRequest takes a request from the pool. In builds with the race detector every request is new,
// so that one that is kept too long is dead.
func (s *Server) newRequest(c *serverConn, id uint16, begin Begin) *request {
	r, _ := s.requests.Get().(*request)
	if r == nil || race.Enabled {
		r = new(request)
	}
	w := s.writers.Get(int(s.active.Load()))
	w.Owner, w.role = w, begin.Role
	w.body, w.data, w.source = requestBody{w, TypeStdin}, requestBody{w, TypeData}, contextSource{w}
	w.c.Store(c)
	w.r.Store(r)
	r.c, r.id, r.begin = c, id, begin
	r.record = s.observer.Start(c.carried)
	r.w, r.req = w, &w.req
	r.response.Reset(&w.Head, r, &s.common)
	(*pairs.List)(&w.req.Params).Take(&r.params)
	(*pairs.List)(&w.Head.Header).Take(&r.fields)
	r.req.Role, r.req.Peer, r.req.Local = begin.Role, c.peer, c.local
	r.response.Out.Reset(c.c)
	r.response.Out.Timed = r.record != nil
	r.req.SetContextSource(&w.source)
	return r
}

// start makes r ready for its handler. empty says that the end of STDIN has arrived already.
func (r *request) start(empty bool) {
	r.req.Role = r.begin.Role
	r.body, r.data = inputStreams(r.req)
	if empty && r.req.ContentLength < 0 {
		r.req.ContentLength, r.body.length = 0, 0
	}
	r.req.Body = gateway.NoBody
	if r.req.ContentLength != 0 {
		r.req.Body = &r.w.body
	}
	if r.req.Role == gateway.RoleFilter {
		r.req.Data = &r.w.data
	}
	r.open = -1
}

func (r *request) queueOf(t Type) (*inputStream, *stream.Queue) {
	if t == TypeData {
		return &r.data, &r.pending[1]
	}
	return &r.body, &r.pending[0]
}

// full reports whether no more content may be buffered until the handler reads. c.mu is held.
func (r *request) full() bool {
	return r.fault == nil && (!r.skipBody && r.pending[0].Len() >= server.MaxQueued || r.pending[1].Len() >= server.MaxQueued)
}

// keep buffers content that arrived while the handler did not read, up to the limit, and returns
// how much of b it used. Content beyond a promised length is discarded.
func (r *request) keep(t Type, b []byte) int {
	wanted := t == TypeStdin && !r.skipBody || t == TypeData && r.begin.Role == gateway.RoleFilter
	if !wanted || r.fault != nil {
		return len(b)
	}
	s, q := r.queueOf(t)
	b = b[:min(len(b), max(server.MaxQueued-q.Len(), 1))]
	n := len(b)
	if s.length >= 0 {
		n = int(min(int64(n), max(s.length-s.taken-int64(q.Len()), 0)))
	}
	q.Add(b[:n])
	return len(b)
}

// abort ends the input of the request. It returns the context, which must be canceled without c.mu,
// since that may call functions of the parent context's owner.
func (r *request) abort(err error) *server.Context {
	if r.fault == nil {
		r.fault = err
	}
	if errors.Is(err, gateway.ErrAborted) {
		r.aborted.Store(true)
	}
	return r.ctx
}

// run calls the handler and ends the response.
func (r *request) run() {
	err := server.ErrGoexit
	defer func() { r.finish(err) }()
	err = server.CallHandler(r.c.s.handler(r.begin.Role), r.w, r.req, r.c.s.logger)
}

// finish ends the response: END_REQUEST once, and nothing of this request after it. The web server
// learns of the end last: by then the request no longer counts, and its memory is no longer the
// handler's.
func (r *request) finish(err error) {
	c := r.c
	seen := r.observedContext() // while the request can still tell
	r.response.Lock()
	cut := r.response.Complete(r.req, err)
	c.wmu.Lock()
	c.mu.Lock()
	r.over = true
	c.s.active.Add(-1)
	ctx, reason := r.ctx, r.reason()
	out := r.outcome()
	r.w.r.Store(nil)                   // rule F36
	left := c.reading && c.inline == r // a goroutine of the handler still reads
	c.changed.Broadcast()
	c.mu.Unlock()
	r.record.Keep(r.req)
	record := r.record
	r.dismiss()
	if cut {
		c.closeConn()
	} else {
		c.armWrite(r)
		err = r.response.Out.Flush()
		c.wrote(err)
		cut = err != nil
		out.Err = cmp.Or(out.Err, err)
	}
	out.First, out.Err = r.response.Out.First, server.Cause(out.Err, reason)
	c.wmu.Unlock()
	r.response.Unlock()
	c.mu.Lock()
	c.remove(r)
	c.orphanOf(r)
	c.changed.Broadcast()
	c.mu.Unlock()
	ctx.Cancel(context.Canceled)
	c.s.observer.End(record, seen, out)
	keep := r.begin.KeepConn && !cut
	if !left {
		r.recycle()
	}
	c.afterResponse(keep)
}

// outcome returns how the response ended, so far. The response and c.mu are locked.
func (r *request) outcome() server.Outcome {
	out := r.response.Outcome()
	out.Received = r.body.taken + int64(r.pending[0].Len())
	return out
}

// reason returns why the input of r has failed, or nil. c.mu is held.
func (r *request) reason() error {
	if r.fault == nil || r.fault == errLost && r.c.lost == io.EOF {
		return nil // a web server that ends its input still receives the response
	}
	return causeOf(r.fault)
}

// observedContext returns the context for Observe: that of SetContext, or that of the connection.
// It does not create that of the request.
func (r *request) observedContext() context.Context {
	if r.record == nil {
		return r.c.ctx
	}
	r.observe(true)
	defer r.observe(false)
	return r.req.Context()
}

func (r *request) observe(observed bool) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	r.observed = observed
}

// dismiss separates r from its responseWriter, which is empty and dead from now on, and takes its
// memory for the next request.
func (r *request) dismiss() {
	w, body := r.w, r.req.Body
	w.c.Store(nil)
	w.req.Reset()
	w.req.Body = body // its Read returns ErrOver
	w.req.SetContextSource(&w.source)
	w.Head.Reset()
	r.params.Take((*pairs.List)(&w.req.Params))
	r.fields.Take((*pairs.List)(&w.Head.Header))
	r.params.Reset() // of what a goroutine of the handler may have added in between
	r.fields.Reset()
	r.w, r.req = nil, nil
	r.response.Reset(nil, r, &r.c.s.common)
}

// recycle returns r to the pool, unless it has grown large.
func (r *request) recycle() {
	s, out := r.c.s, &r.response.Out
	small := r.params.Cap()+r.fields.Cap() <= stream.MaxKept && cap(out.B) <= stream.MaxKept &&
		r.pending[0].Cap()+r.pending[1].Cap() <= stream.MaxKept
	if race.Enabled || !small {
		return
	}
	// The locks and c stay as they are: a dead responseWriter may be about to find out that it is
	// dead.
	r.record, r.observed = nil, false
	r.ready, r.counted, r.over, r.skipBody, r.fault, r.ctx = false, false, false, false, nil, nil
	r.headLimit, r.readDeadline, r.writeDeadline = time.Time{}, time.Time{}, time.Time{}
	for i := range r.pending {
		r.pending[i].Reset()
	}
	r.aborted.Store(false)
	r.usedStderr = false
	out.Reset(nil)
	s.requests.Put(r)
}
