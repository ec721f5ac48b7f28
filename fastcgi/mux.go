package fastcgi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/race"
	"github.com/gatehouse-go/gatehouse/internal/sockets"
)

// serverConn is one connection of a Server, with one request on it or several.
//
// Exactly one goroutine at a time may read from it: the leader. The leader reads records until a request's head is
// whole and then runs its handler itself, so that the common request, alone on its connection, costs no second
// goroutine. While the handler runs nobody reads, unless the handler reads its body, in which case it takes apart
// whatever comes, for itself and for others. When the handler has run for some milliseconds, or somebody asks to be
// told of its end, the connection gets a new leader (promote) and the handler's goroutine leaves when it is done.
//
// rec belongs to whoever reads: the leader outside of a handler, or, while reading is true, a handler's Read.
type serverConn struct {
	s           *Server
	c           net.Conn
	ctx         context.Context
	peer, local netip.AddrPort
	ended       func(err error) // called once, when the connection is over
	rec         recordReader
	waiter      *sockets.Waiter

	wmu sync.Mutex // one sequence of records is written at a time

	mu         sync.Mutex
	changed    sync.Cond
	requests   []*request // begun and not ended
	heads      int        // of them, those whose params are not whole
	inline     *request   // whose handler runs in the leader's goroutine
	turn       uint64     // how many leaders there were before this one
	swept      bool       // inline was there at the last sweep
	reading    bool       // a handler reads from rec
	wanted     bool       // a leader is wanted as soon as that read returns
	leaders    int        // goroutines that lead, or run a handler
	limit      time.Time  // by when a drain, or a record that is no request's, must be over
	idle       time.Time  // by when the next request must begin
	deadline   time.Time  // that is set
	writer     *request   // whose answer is being written
	writeLimit time.Time  // the write deadline that is set
	orphan     uint16     // id of a request that ended before its STDIN did
	drained    int        // bytes of such STDIN since
	closing    bool       // no further request
	lost       error      // why nobody reads any more
}

func newServerConn(s *Server, ctx context.Context, c net.Conn, ended func(error)) *serverConn {
	if s.ConnContext != nil {
		ctx = s.ConnContext(ctx, c)
	}
	sc := &serverConn{
		s: s, c: c, ctx: ctx,
		peer: sockets.AddrPort(c.RemoteAddr()), local: sockets.AddrPort(c.LocalAddr()),
		ended: ended, leaders: 1,
	}
	sc.changed.L = &sc.mu
	sc.rec.reset((*deadlineReader)(sc))
	sc.waiter = sockets.NewWaiter(c, func() []byte {
		sc.rec.in.Borrow()
		return sc.rec.in.Space()
	}, sc.rec.in.Return)
	return sc
}

// lead reads and serves until the connection ends or somebody else leads.
func (c *serverConn) lead() {
	for {
		r, err := c.next()
		if err != nil {
			c.lose(err)()
			c.rec.in.Reset(nil)
			c.rec.in.Return()
			c.leave()
			return
		}
		if r != nil && !c.runInline(r) {
			c.leave()
			return
		}
	}
}

// next reads until a request's head is whole. It returns nil without an error when that is for somebody else to do.
func (c *serverConn) next() (*request, error) {
	for {
		if err := c.await(); err != nil {
			return nil, err
		}
		if done, err := c.isDone(); done {
			return nil, err
		}
		r, err := c.step(nil, 0)
		if r != nil || err != nil {
			return r, err
		}
	}
}

// await waits for input without holding a buffer.
func (c *serverConn) await() error {
	if c.rec.left > 0 || c.rec.pad > 0 || c.rec.in.Len() > 0 {
		return nil
	}
	c.rec.in.Return()
	if c.waiter == nil {
		c.rec.in.Borrow()
		return c.rec.in.Fill(1)
	}
	c.setDeadline(atRecord)
	n, err := c.waiter.Read()
	if err != nil {
		return err
	}
	c.rec.in.Add(n)
	return nil
}

// isDone reports whether no further record counts: after the last answer, or after a record that broke the protocol.
func (c *serverConn) isDone() (done bool, err error) {
	c.mu.Lock()
	lost, last := c.lost, c.closing && len(c.requests) == 0
	c.mu.Unlock()
	switch {
	case lost != nil:
		return true, lost
	case last:
		return true, c.drain()
	}
	return false, nil
}

// drain reads what still comes after the last answer, within bounds, so that the answer is not lost to a reset.
func (c *serverConn) drain() error {
	for total := 0; total < maxDrain; {
		n := c.rec.in.Len()
		c.rec.in.Discard(n)
		total += n
		if err := c.rec.in.Fill(1); err != nil {
			return io.EOF
		}
	}
	return io.EOF
}

// deadlineReader reads from the connection under the deadline that its state asks for.
type deadlineReader serverConn

func (d *deadlineReader) Read(p []byte) (int, error) {
	c := (*serverConn)(d)
	at := atRecord
	if c.rec.left > 0 || c.rec.pad > 0 || c.rec.in.Len() > 0 {
		at = inRecord
	}
	if c.inControl() {
		at = inControl
	}
	c.setDeadline(at)
	return c.c.Read(p)
}

// inControl reports whether the rest of the current record cannot be left for later, as that of a stream can.
func (c *serverConn) inControl() bool {
	return c.rec.left > 0 && c.rec.h.Type != TypeStdin && c.rec.h.Type != TypeData
}

// place is where in the input a read begins.
type place uint8

const (
	atRecord  place = iota // between two records
	inRecord               // inside one
	inControl              // inside the content of one that is not of an input stream
)

// setDeadline sets the deadline of the next read.
func (c *serverConn) setDeadline(at place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arm(c.readDeadline(at))
}

func (c *serverConn) readDeadline(at place) time.Time {
	active := len(c.requests) > 0
	switch {
	case !active && (c.closing || c.orphan != 0):
		return c.within(drainTimeout)
	case !active && at == atRecord:
		c.limit = time.Time{}
		c.idle = renew(c.idle, cmp.Or(c.s.IdleTimeout, 2*time.Minute))
		return c.idle
	case !active || at == inControl && c.heads == 0:
		return c.within(c.headTimeout())
	}
	t := c.headLimit()
	if at == inControl || !c.reading || c.inline == nil {
		return t
	}
	return earlier(t, c.inline.readDeadline)
}

func (c *serverConn) headTimeout() time.Duration { return cmp.Or(c.s.ReadHeadTimeout, 10*time.Second) }

// within is the end of a time that began when it was first asked for since limit was cleared.
func (c *serverConn) within(d time.Duration) time.Time {
	if c.limit.IsZero() {
		c.limit = time.Now().Add(d)
	}
	return c.limit
}

// headLimit is by when the first of the heads that are open must be whole; zero if none is.
func (c *serverConn) headLimit() (t time.Time) {
	for _, r := range c.requests {
		if r.ready || c.heads == 0 {
			continue
		}
		if r.headLimit.IsZero() {
			r.headLimit = time.Now().Add(c.headTimeout())
		}
		t = earlier(t, r.headLimit)
	}
	return t
}

// earlier is the earlier of two times of which zero stands for never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// renew is t while it is nearly d away, else a new time: a deadline need not be set again for each of many requests.
func renew(t time.Time, d time.Duration) time.Time {
	now := time.Now()
	if left := t.Sub(now); left > d-d/8 && left <= d {
		return t
	}
	return now.Add(d)
}

// arm sets the deadline if it is another.
func (c *serverConn) arm(t time.Time) {
	if !t.Equal(c.deadline) {
		c.deadline = t
		c.c.SetReadDeadline(t)
	}
}

// step takes one record, or what is left of the current one. r is a request that is ready to run. target is the request
// whose handler reads its stream of type t: content of that is left in rec.
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
	if h.ID == 0 {
		return nil, c.management(h)
	}
	return c.application(h)
}

// owner is the request to which what is left of the current record belongs.
func (c *serverConn) owner() *request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.find(c.rec.h.ID)
}

// find is the active request of that id. One whose END_REQUEST is being written is over, section 3.3.
func (c *serverConn) find(id uint16) *request {
	for _, r := range c.requests {
		if r.id == id && !r.over {
			return r
		}
	}
	return nil
}

// queue keeps what is left of a record of STDIN or DATA for the handler of r, and waits while that has enough.
func (c *serverConn) queue(r *request) error {
	for c.rec.left > 0 {
		b, err := c.rec.some()
		if err != nil {
			return err
		}
		c.mu.Lock()
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

// orphaned counts content that nobody will read. Too much of it ends the connection: at once, or after the requests that
// have done nothing wrong.
func (c *serverConn) orphaned(n int) error {
	if c.drained += n; c.drained <= maxDrain {
		return nil
	}
	c.closing = true
	if len(c.requests) > 0 {
		return nil
	}
	return fmt.Errorf("fastcgi: more than %d bytes for a request that is over: %w", maxDrain, gateway.ErrMalformed)
}

// management takes a record with id 0, section 4.
func (c *serverConn) management(h RecordHeader) error {
	switch {
	case h.Type.application():
		return unexpected(h)
	case h.Type == TypeGetValuesResult || h.Type == TypeUnknown:
		return nil // an answer to nothing we asked
	case h.Type == TypeGetValues:
		return c.getValues()
	}
	b := appendHeader(nil, RecordHeader{Type: TypeUnknown, Length: bodySize})
	return c.control(append(b, byte(h.Type), 0, 0, 0, 0, 0, 0, 0))
}

// getValues answers GET_VALUES, section 4.1: each name we know once, whatever was asked.
func (c *serverConn) getValues() error {
	content, err := c.rec.whole()
	if err != nil {
		return err
	}
	values := [...]struct {
		name  string
		value int
	}{
		{"FCGI_MAX_CONNS", cmp.Or(c.s.MaxConns, defaultMaxConns)},
		{"FCGI_MAX_REQS", c.s.maxRequests()},
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

// control writes an answer to a management record, and what refuses a request.
func (c *serverConn) control(b []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.armWrite(nil)
	_, err := c.c.Write(b)
	c.wrote(err)
	return err
}

// armWrite sets the deadline for a write of r's answer; nil stands for a write of nobody's.
func (c *serverConn) armWrite(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writer = r
	var t time.Time
	if r != nil {
		t = r.writeDeadline
	}
	if t.IsZero() {
		t = renew(c.writeLimit, cmp.Or(c.s.WriteTimeout, time.Minute))
	}
	if !t.Equal(c.writeLimit) {
		c.writeLimit = t
		c.c.SetWriteDeadline(t)
	}
}

// wrote ends what armWrite began. After a write that failed the connection is closed before another begins: what it
// left is part of a record.
func (c *serverConn) wrote(err error) {
	if err != nil {
		c.c.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writer = nil
}

// application takes a record of a request.
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
	return nil, nil // others are not for us, section 4.2
}

// stray takes a record of a request that is not active, section 3.3.
func (c *serverConn) stray(h RecordHeader) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.ID == c.orphan && h.Type == TypeStdin && h.Length == 0 {
		c.orphan, c.drained, c.limit = 0, 0, time.Time{}
	}
	return nil
}

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
	if c.orphan == h.ID {
		c.orphan = 0
	}
	c.drained = 0
	status, end := c.mayBegin(begin)
	if status == 0 {
		c.limit = time.Time{}
		c.heads++
		c.requests = append(c.requests, c.s.newRequest(c, h.ID, begin))
	}
	c.mu.Unlock()
	if status != 0 {
		return c.refuse(h.ID, begin, status, end)
	}
	return nil
}

// mayBegin decides whether a request is taken, and counts it; status is 0 if it is.
func (c *serverConn) mayBegin(b Begin) (status int, end ProtocolStatus) {
	switch s := c.s; {
	case s.handler(b.Role) == nil:
		return 501, UnknownRole
	case c.closing, len(c.requests) >= maxPerConn:
		return 503, Overloaded
	case s.active.Add(1) > int64(s.MaxRequests) && s.MaxRequests > 0:
		s.active.Add(-1)
		return 503, Overloaded
	}
	return 0, Complete
}

// refuse answers a request that is not taken. Apache makes an empty 200 of a bare END_REQUEST with a protocolStatus, and
// HAProxy waits for ever, so by default it is a real answer.
func (c *serverConn) refuse(id uint16, begin Begin, status int, end ProtocolStatus) error {
	var b []byte
	if c.s.BareEnd {
		b, _ = AppendEnd(nil, id, End{Status: end})
	} else {
		b = appendBareAnswer(nil, id, status)
	}
	if err := c.control(b); err != nil {
		return err
	}
	c.afterAnswer(begin.KeepConn)
	return nil
}

// appendBareAnswer appends an answer that is a head alone.
func appendBareAnswer(dst []byte, id uint16, status int) []byte {
	start := len(dst)
	dst = appendHeader(dst, RecordHeader{Type: TypeStdout, ID: id})
	dst, _ = gateway.AppendResponse(dst, &gateway.Response{Status: status})
	setLength(dst, start)
	dst = appendHeader(dst, RecordHeader{Type: TypeStdout, ID: id})
	dst, _ = AppendEnd(dst, id, End{})
	return dst
}

// afterAnswer decides what becomes of the connection after an answer: without FCGI_KEEP_CONN it is closed, section 3.5.
func (c *serverConn) afterAnswer(keep bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = c.closing || !keep
	if len(c.requests) > 0 {
		return
	}
	if c.closing {
		c.closeWrite()
		c.limit = time.Time{}
	}
	if c.inline == nil || c.reading {
		// Somebody may be blocked in a read that was to have no end.
		c.arm(c.readDeadline(atRecord))
	}
}

func (c *serverConn) closeWrite() {
	if hc, ok := c.c.(interface{ CloseWrite() error }); ok {
		hc.CloseWrite()
		return
	}
	c.c.Close()
}

// params takes a PARAMS record; the empty one makes r ready.
func (c *serverConn) params(r *request, h RecordHeader) (ready *request, err error) {
	if r.ready {
		return nil, unexpected(h)
	}
	err = takeParams(&c.rec, r.req, orDefault(c.s.MaxHeadBytes, defaultRequestHead))
	if err == nil && h.Length > 0 {
		return nil, nil
	}
	if err == nil {
		err = c.finishHead(r)
	}
	if err == nil {
		return r, nil
	}
	if !errors.Is(err, gateway.ErrTooLarge) && !errors.Is(err, gateway.ErrParam) {
		return nil, err
	}
	c.s.logger().Warn("request refused", "error", err)
	c.mu.Lock()
	c.remove(r)
	c.closing = true
	c.mu.Unlock()
	return nil, c.refuse(r.id, Begin{}, gateway.ErrorStatus(err), Overloaded)
}

// finishHead makes r ready to run.
func (c *serverConn) finishHead(r *request) error {
	if err := finishParams(r.req); err != nil {
		return err
	}
	h, peeked := c.rec.peek()
	c.mu.Lock()
	defer c.mu.Unlock()
	r.ready = true
	c.heads--
	r.start(peeked && h.Type == TypeStdin && h.ID == r.id && h.Length == 0)
	return nil
}

// input takes the header of a STDIN or DATA record; its content is left in rec.
func (c *serverConn) input(r *request, h RecordHeader) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.Type == TypeData && r.begin.Role != Filter {
		return nil // its content is dropped
	}
	s, _ := r.queueOf(h.Type)
	if !r.ready || s.ended && h.Length > 0 || h.Type == TypeData && !r.body.ended {
		return unexpected(h)
	}
	s.record(h)
	if s.excess() {
		c.closing = true // body bytes equal CONTENT_LENGTH, or this connection is not used again (F2)
	}
	if h.Length == 0 {
		c.changed.Broadcast()
	}
	return nil
}

// abort takes ABORT_REQUEST, section 5.4. END_REQUEST follows when the handler returns, and once.
func (c *serverConn) abort(r *request) {
	c.mu.Lock()
	if !r.ready {
		c.remove(r)
		c.mu.Unlock()
		c.refuse(r.id, r.begin, 500, Complete)
		return
	}
	cancel := r.abort(gateway.ErrAborted)
	c.changed.Broadcast()
	c.mu.Unlock()
	cancel()
}

// remove makes r's id inactive.
func (c *serverConn) remove(r *request) {
	if i := slices.Index(c.requests, r); i >= 0 {
		c.requests = slices.Delete(c.requests, i, i+1)
		if !r.over {
			c.s.active.Add(-1)
		}
		if !r.ready { // no handler has it
			c.heads--
			r.dismiss()
		}
	}
}

// runInline runs r's handler in the leader's goroutine. It returns false if somebody else has come to lead. A handler that
// ends its goroutine (runtime.Goexit) leaves the connection to another.
func (c *serverConn) runInline(r *request) (leads bool) {
	c.mu.Lock()
	c.inline, c.swept, c.wanted = r, false, false
	turn := c.turn
	c.mu.Unlock()
	returned := false
	defer func() {
		leads = c.endTurn(turn)
		switch {
		case returned:
		case leads:
			go c.lead()
		default:
			c.leave()
		}
	}()
	c.s.group.Busy()
	defer c.s.group.Done()
	r.run()
	returned = true
	return false // endTurn says
}

// endTurn waits until nobody reads for the leader, and reports whether it still leads.
func (c *serverConn) endTurn(turn uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.turn == turn && c.reading {
		c.changed.Wait() // the handler left a goroutine behind that still reads
	}
	if c.turn != turn {
		return false
	}
	c.inline = nil
	return true
}

// runDetached runs the handler of a request that became ready while another's handler read.
func (c *serverConn) runDetached(r *request) {
	c.mu.Lock()
	c.leaders++
	c.mu.Unlock()
	go func() {
		defer c.leave()
		c.s.group.Busy()
		defer c.s.group.Done()
		r.run()
	}()
}

// promote gives the connection a leader while a handler runs in the goroutine of the last one.
func (c *serverConn) promote() {
	if c.inline == nil || c.lost != nil {
		return
	}
	if c.reading {
		c.wanted = true // whoever reads sees what comes; later nobody would
		return
	}
	c.inline = nil
	c.turn++
	c.leaders++
	go c.lead()
}

// lose says that nothing more can be read, and why. The end of the input does not end the answers: a peer that has
// closed its sending side still takes them. It returns what is to be called without c.mu.
func (c *serverConn) lose(err error) (cancel func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost == nil {
		c.lost = err
		if len(c.requests) == 0 && (c.closing || errors.Is(err, os.ErrDeadlineExceeded)) {
			c.lost = io.EOF
		}
	}
	var cancels []func()
	for _, r := range slices.Clone(c.requests) {
		if r.ready {
			cancels = append(cancels, r.abort(errLost))
		} else {
			c.remove(r)
		}
	}
	if err != io.EOF || len(c.requests) == 0 {
		c.c.Close()
	}
	c.changed.Broadcast()
	return func() {
		for _, cancel := range cancels {
			cancel()
		}
	}
}

var errLost = fmt.Errorf("fastcgi: web server gone: %w", io.ErrUnexpectedEOF)

// leave ends a goroutine's part in the connection; the last one ends the connection.
func (c *serverConn) leave() {
	c.mu.Lock()
	c.leaders--
	last := c.leaders == 0
	c.mu.Unlock()
	if !last {
		return
	}
	c.c.Close()
	c.s.group.Remove(c)
	err := c.lost
	if err == io.EOF {
		err = nil
	}
	c.ended(err)
}

// Sweep promotes a leader when a handler has run since the last sweep but one.
func (c *serverConn) Sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inline == nil || c.reading {
		return
	}
	if c.swept {
		c.promote()
	}
	c.swept = true
}

// Stop lets the connection end after its requests.
func (c *serverConn) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.requests) == 0 && !c.closing {
		c.c.Close() // else the last answer may still be on its way
	}
	c.closing = true
}

// Close ends the connection at once.
func (c *serverConn) Close() {
	c.c.Close()
	c.mu.Lock()
	var cancels []func()
	for _, r := range c.requests {
		cancels = append(cancels, r.abort(gateway.ErrServerClosed))
	}
	c.closing = true
	c.changed.Broadcast()
	c.mu.Unlock()
	for _, cancel := range cancels {
		cancel()
	}
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
