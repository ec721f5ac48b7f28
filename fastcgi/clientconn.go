package fastcgi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/client"
	"github.com/gatehouse-go/gatehouse/internal/sockets"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// clientConn is a connection of a Client. One request at a time uses it: exchange begins with it, and the Body of the
// answer ends it. A later kind that carries several would take answers apart by their id here.
type clientConn struct {
	client *Client
	c      net.Conn
	peeker *sockets.Peeker
	born   time.Time
	id     uint16 // of the last request; they count up, so that a late answer is an error
	reused bool
	keep   bool

	rec    recordReader
	answer responseReader
	out    output

	// Of the current exchange.
	up      client.Upload
	rmu     sync.Mutex // held while the answer's Body is read or closed
	ctx     context.Context
	stop    func() bool // undoes the watch on ctx; nil if there is none
	stderr  io.Writer
	lines   stream.Lines
	bmu     sync.Mutex // guards body
	body    *clientBody
	x       gateway.Exchange
	started time.Time
	asked   time.Time

	cancel    func() // closes the connection; kept so that watching a context allocates no more than it must
	takeError func(p []byte)
}

func newClientConn(c *Client, conn net.Conn) *clientConn {
	cc := &clientConn{client: c, c: conn, peeker: sockets.NewPeeker(conn), born: time.Now(), keep: c.MaxIdle > 0}
	cc.out.Timeout = stream.Timeout(c.SendTimeout, client.DefaultSendTimeout)
	cc.out.Reset(conn)
	cc.up.HeadTimeout, cc.up.BodyTimeout = c.HeadTimeout, c.IdleTimeout
	cc.up.Reset(conn, &cc.out.Output)
	cc.rec.reset(&cc.up)
	cc.cancel = func() { conn.Close() }
	cc.takeError = cc.stderrBytes
	return cc
}

// Close closes the connection.
func (cc *clientConn) Close() error { return cc.c.Close() }

// usable reports whether a kept connection can take another request.
func (cc *clientConn) usable() bool {
	return cc.young() && !cc.peeker.Stale()
}

func (cc *clientConn) young() bool {
	age := cc.client.MaxLifetime
	return cc.id < 1<<16-1 && (age <= 0 || time.Since(cc.born) < age)
}

// exchange sends x's request and reads its answer's head. On an error the connection is closed; its place is x's.
func (cc *clientConn) exchange(x *attempt) error {
	cc.begin(x)
	phase, err := cc.send(x)
	if err == nil {
		phase = gateway.PhaseHead
		err = cc.readHead(x)
	}
	if err == nil {
		cc.attach(x)
		return nil
	}
	if cc.up.Stuck() {
		phase = gateway.PhaseSend
	}
	err = x.fail(phase, cc, err)
	cc.endWatch()
	cc.drop()
	return err
}

func (cc *clientConn) begin(x *attempt) {
	cc.id++
	cc.rec.in.Borrow()
	cc.answer.reset()
	cc.answer.id = cc.id
	cc.answer.interim = x.r.Interim
	cc.answer.stderr = cc.takeError
	cc.ctx, cc.stderr = x.ctx, x.r.Stderr
	cc.up.Begin()
	cc.out.Begin()
	cc.started, cc.asked = x.started, cc.client.clock().Now()
	if x.ctx.Done() != nil {
		cc.stop = context.AfterFunc(x.ctx, cc.cancel)
	}
}

// send sends the request, or begins to. A connection that takes no more may still hold an answer, so that is no error
// yet; one of the body is.
func (cc *clientConn) send(x *attempt) (gateway.Phase, error) {
	if err := x.encode(cc); err != nil {
		return gateway.PhaseRequest, err
	}
	x.touched = x.body != nil || x.r.Data != nil
	if x.body != nil && !stream.SmallMemory(x.body) || x.r.Role == Filter {
		cc.up.Start(stream.InMemory(x.body) && x.r.Role != Filter)
		go cc.sendBody(sending{x.body, x.r.ContentLength, x.r.Data, dataLength(x.r), x.r.Role}, x.head) // rule F34
		x.head = nil
		return 0, nil
	}
	err := cc.writeRequest(sending{x.body, x.r.ContentLength, nil, 0, x.r.Role})
	*x.head, cc.out.B = cc.out.B[:0], nil
	cc.up.Done(err)
	return gateway.PhaseRequest, cc.up.Fault()
}

// sending is what is sent after a request's head.
type sending struct {
	body       io.Reader
	length     int64
	data       io.Reader
	dataLength int64
	role       Role
}

// writeRequest writes what is in the buffer, the head, and the streams of the request.
func (cc *clientConn) writeRequest(s sending) error {
	// An authorizer gets an empty STDIN: FCGI.pm and others wait for it.
	if err := cc.out.stream(TypeStdin, cc.id, s.body, s.length); err != nil {
		return err
	}
	if s.role == Filter {
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

// sendBody is writeRequest in a goroutine of its own.
func (cc *clientConn) sendBody(s sending, head *[]byte) {
	err := cc.writeRequest(s)
	*head, cc.out.B = cc.out.B[:0], nil
	if cap(*head) <= stream.MaxKept {
		cc.client.heads.Put(head)
	}
	if cc.up.Done(err) {
		cc.cancel()
	}
}

// encode puts the head into the connection's buffer, under the id of this exchange.
func (x *attempt) encode(cc *clientConn) error {
	b := *x.head
	if len(b) == 0 { // the second time
		var err error
		if b, err = appendRequest(b, 1, cc.keep, x.r, x.c.env); err != nil {
			return err
		}
	}
	setIDs(b, cc.id)
	if x.c.Multiplex && cc.id == 1 {
		b = slices.Insert(b, 0, getValues...)
	}
	cc.out.B = b
	*x.head = nil
	return nil
}

// getValues asks for what section 4.1 names.
var getValues = func() []byte {
	b := appendHeader(nil, RecordHeader{Type: TypeGetValues})
	for _, name := range []string{"FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"} {
		b = appendPair(b, name, "")
	}
	setLength(b, 0)
	return b
}()

// setIDs writes id into every record of b.
func setIDs(b []byte, id uint16) {
	for len(b) > 0 {
		binary.BigEndian.PutUint16(b[2:], id)
		b = b[headerSize+int(binary.BigEndian.Uint16(b[4:]))+int(b[6]):]
	}
}

func (cc *clientConn) readHead(x *attempt) error {
	err := cc.answer.readHead(&cc.rec, x.res, orDefault(cc.client.MaxHeadBytes, defaultAnswerHead))
	cc.up.HeadDone()
	return cc.cause(err)
}

// cause maps an error of reading to the error that the caller can test for.
func (cc *clientConn) cause(err error) error {
	if err == nil || err == io.EOF && cc.answer.started {
		return err
	}
	if fault := cc.up.Fault(); fault != nil {
		return fault // the rest followed from it
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

// silent reports whether nothing of an answer has come; management records are none of it.
func (cc *clientConn) silent() bool { return cc.answer.seen == 0 && cc.rec.in.Len() == 0 }

// stderrBytes takes what the application says on STDERR.
func (cc *clientConn) stderrBytes(p []byte) {
	if cc.stderr != nil {
		cc.stderr.Write(p)
		return
	}
	cc.lines.Write(p, cc.stderrLine)
}

func (cc *clientConn) stderrLine(line []byte) {
	if cc.client.Stderr != nil {
		cc.client.Stderr(cc.ctx, line)
		return
	}
	client.Logger(cc.client.Logger).LogAttrs(cc.ctx, slog.LevelWarn, "application", slog.String("addr", cc.client.Addr), slog.String("stderr", string(line)))
}

// attach gives the answer its Body.
func (cc *clientConn) attach(x *attempt) {
	cc.answer.bare = x.bodyless || x.res.Status == 204 || x.res.Status == 304
	if cc.client.Observe != nil {
		cc.x = gateway.Exchange{
			Addr: cc.client.Addr, Reused: cc.reused, Wait: x.waited, Dial: x.dialed,
			Head: time.Since(cc.asked), Status: x.res.Status,
		}
	}
	b := cc.client.bodies.Get(cc.client.count.InFlight() - 1)
	b.cc.Store(cc)
	cc.bmu.Lock()
	cc.body = b
	cc.bmu.Unlock()
	x.res.Body = b
}

// clientBody is the Body of one answer. Each answer has one of its own: what is kept after its end is dead, whatever
// has become of the connection.
type clientBody struct {
	cc  atomic.Pointer[clientConn]
	end atomic.Pointer[error] // what Read returns after the end; nil stands for io.EOF
}

// live locks the connection for b.
func (b *clientBody) live() *clientConn {
	cc := b.cc.Load()
	if cc == nil {
		return nil
	}
	cc.rmu.Lock()
	if b.cc.Load() != cc {
		cc.rmu.Unlock()
		return nil
	}
	return cc
}

func (b *clientBody) Read(p []byte) (int, error) {
	cc := b.live()
	if cc == nil {
		if err := b.end.Load(); err != nil {
			return 0, *err
		}
		return 0, io.EOF
	}
	defer cc.rmu.Unlock()
	n, err := cc.answer.read(&cc.rec, p)
	cc.x.Received += int64(n)
	if err != nil {
		err = cc.finish(err)
	}
	return n, err
}

// Close ends the exchange. What is left of the answer is dropped if it has arrived, and else the connection is.
func (b *clientBody) Close() error {
	cc := b.cc.Load()
	if cc == nil {
		return nil
	}
	if !cc.rmu.TryLock() {
		cc.interrupt(b)
		cc.rmu.Lock()
	}
	defer cc.rmu.Unlock()
	if b.cc.Load() == cc {
		cc.finish(cc.answer.dropBuffered(&cc.rec))
		b.end.Store(&errClosed) // also where all of the answer had come
	}
	return nil
}

// interrupt closes the connection under a Read of b that must not keep Close waiting. The connection may be another
// exchange's by now.
func (cc *clientConn) interrupt(b *clientBody) {
	cc.bmu.Lock()
	defer cc.bmu.Unlock()
	if cc.body == b {
		cc.c.Close()
	}
}

// Ready reports whether Read would not have to wait: gateway.Proxy and gatewayhttp.Proxy ask, to send on what they have
// before they wait.
func (b *clientBody) Ready() bool {
	cc := b.live()
	if cc == nil {
		return true
	}
	defer cc.rmu.Unlock()
	return cc.answer.ready(&cc.rec)
}

// dropBuffered takes what has arrived of an answer that nobody reads, and reports io.EOF if that was all of it.
func (a *responseReader) dropBuffered(rec *recordReader) error {
	a.left = -1
	for a.err == nil {
		if rec.in.Len() < rec.left {
			return errClosed
		}
		rec.use(rec.left)
		h, ok := rec.peek()
		if !ok || !rec.buffered(h) {
			return errClosed
		}
		a.advance(rec)
	}
	if a.err != io.EOF {
		return errClosed
	}
	return io.EOF
}

// finish ends the exchange: err is what Read returns from now on.
func (cc *clientConn) finish(err error) error {
	cc.lines.Flush(cc.stderrLine)
	watched := cc.endWatch()
	good := err == io.EOF && cc.reusable() && watched
	if !good {
		cc.c.Close()
	}
	cc.up.Settle()
	if err = cc.bodyError(err); err != io.EOF {
		end := err
		cc.body.end.Store(&end)
	}
	cc.report(err)
	cc.body.cc.Store(nil)
	cc.bmu.Lock()
	cc.body = nil
	cc.bmu.Unlock()
	cc.ctx, cc.stderr, cc.answer.res, cc.answer.interim = nil, nil, nil, nil
	cc.client.count.End()
	if !good {
		cc.client.pool.Drop()
		return err
	}
	cc.rec.in.Return()
	cc.client.pool.Put(cc)
	return err
}

// endWatch stops watching the context; false says that it was done.
func (cc *clientConn) endWatch() bool {
	if cc.stop == nil {
		return true
	}
	stopped := cc.stop()
	cc.stop = nil
	return stopped
}

// drop closes a connection on which no answer began.
func (cc *clientConn) drop() {
	cc.lines.Flush(cc.stderrLine)
	cc.c.Close()
	cc.up.Settle()
}

// reusable reports whether the connection is at the end of an exchange that left nothing behind (F2).
func (cc *clientConn) reusable() bool {
	if !cc.keep {
		return false
	}
	if cc.out.Final.Load() {
		// The response to all of the body can be here before the sender has been told that its last write went well.
		cc.up.Await(context.Background(), 2*time.Millisecond)
	}
	a := &cc.answer
	cc.rec.dropBuffered()
	return cc.up.Sent() && a.ended && !a.dirty && a.end.Status == Complete &&
		cc.rec.left == 0 && cc.rec.pad == 0 && cc.rec.in.Len() == 0 && cc.young()
}

// bodyError makes err what Body returns.
func (cc *clientConn) bodyError(err error) error {
	if err == io.EOF || err == errClosed {
		return err
	}
	err = cc.cause(err)
	if cause := context.Cause(cc.ctx); cause != nil {
		err = cause
	}
	err = &gateway.Error{
		Phase: gateway.PhaseBody, Addr: cc.client.Addr, Reused: cc.reused, Sent: true, Received: true, Err: err,
	}
	cc.client.count.Failed(err)
	return err
}

// report tells Observe.
func (cc *clientConn) report(err error) {
	if cc.client.Observe == nil {
		return
	}
	cc.x.Total = time.Since(cc.started)
	cc.x.Sent = cc.out.Content.Load()
	cc.x.AppStatus = cc.answer.end.AppStatus
	if err != io.EOF && err != errClosed {
		cc.x.Err = err
	}
	cc.client.Observe(cc.ctx, &cc.x)
}
