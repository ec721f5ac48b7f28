package fastcgi

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/server"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// The functions of this file are called by the goroutine that reads, except control, finish's call
// of remove, and what these call. They are called without c.mu unless they say that it is held.
// headBytes, of the connection and of a request, belongs to that goroutine alone. Handlers look at
// requests, orphan, drained, limit, heads and closing as well, so these change with c.mu held.
//
// control is called without c.mu, since a write may block.

// step reads one record, or the rest of the current one. It returns a request that has become ready
// to run. Content of the stream of type t of target, whose handler reads it, is left in rec.
func (c *serverConn) step(target *request, t Type) (r *request, err error) {
	if c.rec.left > 0 {
		owner := c.owner()
		if owner != nil && owner == target && c.rec.h.Type == t {
			return nil, nil
		}
		if err := c.queue(owner); err != nil {
			return nil, err
		}
	}
	h, err := c.rec.next()
	if err != nil {
		return nil, err
	}
	// An id of 0 belongs to the connection, any other to a request.
	if h.ID == 0 {
		return nil, c.management(h)
	}
	return c.application(h)
}

// owner returns the request to which the rest of the current record belongs.
func (c *serverConn) owner() *request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.find(c.rec.h.ID)
}

// find returns the active request of that id. A request whose END_REQUEST is being written is over,
// section 3.3. c.mu is held.
func (c *serverConn) find(id uint16) *request {
	for _, r := range c.requests {
		if r.id == id && !r.over {
			return r
		}
	}
	return nil
}

// queue buffers the rest of a record of STDIN or DATA for the handler of r. It waits while the
// buffer is full.
func (c *serverConn) queue(r *request) error {
	for c.rec.left > 0 {
		b, err := c.rec.some()
		if err != nil {
			return err
		}
		c.mu.Lock()
		// The handler's Read makes room. Until then the connection is not read, and the web server
		// stops sending.
		for c.find(c.rec.h.ID) == r && r != nil && r.full() {
			c.changed.Wait()
		}
		if r == nil || c.find(c.rec.h.ID) != r {
			err = c.orphaned(len(b))
		} else {
			b = b[:r.keep(c.rec.h.Type, b)]
			c.changed.Broadcast()
		}
		c.mu.Unlock()
		c.rec.use(len(b))
		if err != nil {
			return err
		}
	}
	return nil
}

// orphaned counts content that will not be read. Too much of it ends the connection: at once, or
// after the other requests. c.mu is held.
func (c *serverConn) orphaned(n int) error {
	if c.drained += n; c.drained <= server.MaxUploadDrain {
		return nil
	}
	c.closing = true
	if len(c.requests) > 0 {
		return nil
	}
	return fmt.Errorf("fastcgi: more than %d bytes for a request that is over: %w", server.MaxUploadDrain, gateway.ErrMalformed)
}

// management handles a record with id 0, section 4.
func (c *serverConn) management(h RecordHeader) error {
	switch {
	case h.Type.application():
		return unexpected(h)
	case h.Type == TypeGetValuesResult || h.Type == TypeUnknown:
		return nil // a response to a record that was not sent
	case h.Type == TypeGetValues:
		return c.getValues()
	}
	b := appendHeader(nil, RecordHeader{Type: TypeUnknown, Length: bodySize})
	return c.control(append(b, byte(h.Type), 0, 0, 0, 0, 0, 0, 0))
}

// getValues responds to GET_VALUES, section 4.1, with each known name once, however often it was
// asked for.
func (c *serverConn) getValues() error {
	content, err := c.rec.whole()
	if err != nil {
		return err
	}
	values := [...]struct {
		name  string
		value int
	}{
		{"FCGI_MAX_CONNS", stream.Limit(c.s.MaxConns, server.DefaultMaxConns)},
		{"FCGI_MAX_REQS", min(stream.Limit(c.s.MaxRequests, maxPerConn), maxPerConn)},
		{"FCGI_MPXS_CONNS", 1},
	}
	b := appendHeader(nil, RecordHeader{Type: TypeGetValuesResult})
	for len(content) > 0 {
		name, _, n := ConsumeParam(content)
		if n <= 0 {
			return fmt.Errorf("fastcgi: GET_VALUES: %w", gateway.ErrMalformed)
		}
		content = content[n:]
		for i, v := range values {
			if v.name == string(name) {
				b = appendPair(b, v.name, strconv.Itoa(v.value))
				values[i].name = "" // rule F32
			}
		}
	}
	setLength(b, 0)
	return c.control(b)
}

// control writes the response to a management record, or the refusal of a request. It takes wmu, so
// that its records do not lie inside a sequence of a handler's.
func (c *serverConn) control(b []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.armWrite(nil)
	_, err := c.c.Write(b)
	c.wrote(err)
	return err
}

// application handles a record of a request.
func (c *serverConn) application(h RecordHeader) (ready *request, err error) {
	if h.Type == TypeBegin {
		return nil, c.begin(h)
	}
	if TypeGetValues <= h.Type && h.Type <= TypeUnknown {
		return nil, unexpected(h)
	}
	c.mu.Lock()
	r := c.find(h.ID)
	c.mu.Unlock()
	if r == nil {
		return nil, c.stray(h)
	}
	switch h.Type {
	case TypeParams:
		return c.params(r, h)
	case TypeStdin, TypeData:
		return nil, c.input(r, h)
	case TypeAbort:
		c.abort(r)
	}
	return nil, nil // other types are ignored, section 4.2
}

// stray handles a record of a request that is not active. It is ignored (section 3.3), except that
// an empty STDIN ends the orphan.
func (c *serverConn) stray(h RecordHeader) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.ID == c.orphan && h.Type == TypeStdin && h.Length == 0 {
		c.orphan, c.drained, c.limit = 0, 0, time.Time{}
	}
	return nil
}

// begin handles BEGIN_REQUEST, section 5.1.
func (c *serverConn) begin(h RecordHeader) error {
	if h.Length != bodySize {
		return unexpected(h)
	}
	content, err := c.rec.whole()
	if err != nil {
		return err
	}
	begin, _ := ConsumeBegin(content)
	c.mu.Lock()
	if c.find(h.ID) != nil {
		c.mu.Unlock()
		return fmt.Errorf("fastcgi: BEGIN_REQUEST of an active id: %w", gateway.ErrMalformed)
	}
	if c.orphan == h.ID { // the id is used again, so its old STDIN is over
		c.orphan = 0
	}
	// The web server goes on, so the input of the request that ended before is over.
	c.drained = 0
	status, end := c.mayBegin(begin)
	if status == 0 { // its head has a limit of time of its own from now on
		c.limit = time.Time{}
		c.heads++
		c.requests = append(c.requests, c.s.newRequest(c, h.ID, begin))
		if len(c.requests) == 1 {
			c.s.observer.Busy()
		}
	}
	carried := c.carried
	c.mu.Unlock()
	if status != 0 {
		c.s.logger().LogAttrs(c.ctx, server.LevelOf(status), "request refused", slog.Int("status", status), slog.Any("role", begin.Role), slog.Any("peer", c.c.RemoteAddr()))
		return c.refuse(refusal{c.s.observer.Start(carried), h.ID, begin, status, end, fmt.Errorf("fastcgi: %w", gateway.ErrRefused)})
	}
	return nil
}

// mayBegin decides whether a request is accepted. status is 0 if it is. A request counts among
// MaxRequests when its params are complete: a few bytes for each must not fill the server. c.mu is
// held.
func (c *serverConn) mayBegin(b Begin) (status int, end ProtocolStatus) {
	switch {
	case c.s.handler(b.Role) == nil:
		return 501, StatusUnknownRole
	case c.closing, len(c.requests) >= maxPerConn:
		return 503, StatusOverloaded
	}
	return 0, StatusComplete
}

// A refusal is the response to a request that is not accepted.
type refusal struct {
	record *server.Record
	id     uint16
	begin  Begin
	status int
	end    ProtocolStatus
	err    error
}

// refuse responds to a request that is not accepted. Apache makes an empty 200 of a bare
// END_REQUEST with a protocolStatus, and HAProxy waits forever, so the default is a complete
// response.
func (c *serverConn) refuse(r refusal) error {
	var b []byte
	if c.s.BareEnd {
		b, _ = AppendEnd(nil, r.id, End{Status: r.end})
	} else {
		b = appendBareResponse(nil, r.id, r.status)
	}
	o := &c.s.observer
	o.Request()
	err := c.control(b)
	o.End(r.record, c.ctx, server.Outcome{Status: r.status, First: time.Now(), Err: cmp.Or(err, r.err), Refused: true})
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.orphan, c.drained, c.limit = r.id, 0, time.Time{} // its body may still be on its way
	c.mu.Unlock()
	c.afterResponse(r.begin.KeepConn)
	return nil
}

// appendBareResponse appends a response without a body.
func appendBareResponse(dst []byte, id uint16, status int) []byte {
	start := len(dst)
	dst = appendHeader(dst, RecordHeader{Type: TypeStdout, ID: id})
	dst, _ = gateway.AppendResponse(dst, &gateway.Response{Status: status})
	setLength(dst, start)
	dst = appendHeader(dst, RecordHeader{Type: TypeStdout, ID: id})
	dst, _ = AppendEnd(dst, id, End{})
	return dst
}

// params handles a PARAMS record. The empty one makes r ready.
func (c *serverConn) params(r *request, h RecordHeader) (ready *request, err error) {
	if r.ready {
		return nil, unexpected(h)
	}
	err = c.reserve(r, int(h.Length))
	if err == nil {
		err = takeParams(&c.rec, r.req, c.s.MaxHeadBytes)
	}
	if err == nil && h.Length > 0 {
		return nil, nil
	}
	if err == nil {
		err = c.finishHead(r)
	}
	if err == nil {
		return r, nil
	}
	status := server.Refusal(err)
	if status == 0 {
		return nil, err
	}
	r.req.SetContext(c.ctx)
	server.LogRequest(c.s.logger(), server.LevelOf(status), "request refused", r.req, slog.Int("status", status), slog.Any("error", err))
	begin := r.begin
	record := r.record
	record.Keep(r.req)
	c.mu.Lock()
	c.remove(r)
	if !errors.Is(err, errBusy) { // the rest of its input is not worth reading
		c.closing = true
		begin = Begin{}
	}
	c.mu.Unlock()
	return nil, c.refuse(refusal{record, r.id, begin, status, StatusOverloaded, err})
}

// errBusy means that MaxRequests requests run.
var errBusy = fmt.Errorf("fastcgi: too many requests: %w", gateway.ErrRefused)

// reserve counts n bytes of the head of r, which is incomplete.
func (c *serverConn) reserve(r *request, n int) error {
	if c.headBytes+n > 4*stream.Limit(c.s.MaxHeadBytes, defaultRequestHead) {
		return fmt.Errorf("fastcgi: incomplete heads of one connection: %w", gateway.ErrRefused)
	}
	if err := c.s.open.Take(n, c.s.MaxOpenHeadBytes); err != nil {
		return fmt.Errorf("fastcgi: %w", err)
	}
	r.headBytes += n
	c.headBytes += n
	return nil
}

// release undoes reserve.
func (c *serverConn) release(r *request) {
	c.s.open.Give(r.headBytes)
	c.headBytes -= r.headBytes
	r.headBytes = 0
}

// finishHead makes r ready to run.
func (c *serverConn) finishHead(r *request) error {
	if err := finishParams(r.req); err != nil {
		return err
	}
	// If the empty STDIN has arrived as well, a missing CONTENT_LENGTH means that there is no body.
	h, peeked := c.rec.peek()
	c.mu.Lock()
	defer c.mu.Unlock()
	// The count and the check are one step, so that connections that begin at once do not exceed
	// it.
	if n := c.s.active.Add(1); c.s.MaxRequests > 0 && n > int64(c.s.MaxRequests) {
		c.s.active.Add(-1)
		return errBusy
	}
	r.ready, r.counted = true, true
	r.record.HeadDone()
	c.s.observer.Request()
	c.release(r)
	c.heads--
	r.start(peeked && h.Type == TypeStdin && h.ID == r.id && h.Length == 0)
	return nil
}

// input handles the header of a STDIN or DATA record. Its content is left in rec.
func (c *serverConn) input(r *request, h RecordHeader) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.Type == TypeData && r.begin.Role != gateway.RoleFilter {
		return nil // its content is discarded
	}
	s, _ := r.queueOf(h.Type)
	if !r.ready || s.ended && h.Length > 0 || h.Type == TypeData && !r.body.ended {
		return unexpected(h)
	}
	s.record(h)
	if s.excess() {
		// The handler gets CONTENT_LENGTH bytes.
		c.closing = true // the body does not match CONTENT_LENGTH, so the connection is not reused (F2)
	}
	if h.Length == 0 {
		c.changed.Broadcast() // a Read returns io.EOF
	}
	return nil
}

// abort handles ABORT_REQUEST, section 5.4. One END_REQUEST follows when the handler returns.
func (c *serverConn) abort(r *request) {
	c.mu.Lock()
	if !r.ready { // no handler runs that could end it
		record := r.record
		c.remove(r)
		c.mu.Unlock() // the refusal is a write, which may block
		c.refuse(refusal{record, r.id, r.begin, 500, StatusComplete, fmt.Errorf("fastcgi: %w", gateway.ErrAborted)})
		return
	}
	ctx := r.abort(gateway.ErrAborted)
	c.changed.Broadcast() // a Read of its body returns
	c.mu.Unlock()
	ctx.Cancel(gateway.ErrAborted)
}

// remove makes the id of r inactive. c.mu is held.
func (c *serverConn) remove(r *request) {
	if i := slices.Index(c.requests, r); i >= 0 {
		c.requests = slices.Delete(c.requests, i, i+1)
		c.carried = true
		if len(c.requests) == 0 {
			c.s.observer.Free()
		}
		if r.counted && !r.over {
			c.s.active.Add(-1)
		}
		if !r.ready { // no handler has it
			c.release(r)
			c.heads--
			r.dismiss()
		}
	}
}

// orphanOf notes that the rest of r's STDIN may still arrive. On a connection that ends the empty
// STDIN alone does not matter.
func (c *serverConn) orphanOf(r *request) {
	if !r.body.ended && (r.begin.KeepConn || r.body.length != 0) && c.find(r.id) == nil {
		c.orphan, c.drained, c.limit = r.id, 0, time.Time{}
	}
}
