package fastcgi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/client"
	"github.com/gatehouse-go/gatehouse/internal/params"
)

// A roundTrip is one call of RoundTrip until the head of the response has been read. It sends the
// request once or, if mayRepeat allows it, twice. Only the goroutine of RoundTrip uses it, except
// for head, which belongs to the sender while that runs.
type roundTrip struct {
	c          *Client
	ctx        context.Context
	r          *gateway.Request
	res        *gateway.Response
	head       *[]byte   // the request's head, with id 1
	body       io.Reader // nil if there is none
	length     int64     // of body; -1 means unknown
	touched    bool      // body may have been read
	idempotent bool
	bodyless   bool // the response has no body, whatever its Content-Length says

	started time.Time
	waited  time.Duration
	dialed  time.Duration
}

// prepare checks and encodes what does not depend on a connection.
func (x *roundTrip) prepare() error {
	c, r := x.c, x.r
	x.body, x.length = params.Body(r.Body, r.ContentLength)
	err := c.fault
	if err == nil && x.length < 0 && x.body != nil && !c.UnknownLength {
		err = fmt.Errorf("fastcgi: %w", gateway.ErrLengthRequired)
	}
	if err == nil && x.length > 0 && x.body == nil {
		err = params.ErrShortBody
	}
	if err != nil {
		return x.fail(gateway.PhaseRequest, nil, err)
	}
	x.head = c.heads.Get()
	if *x.head, err = appendRequest((*x.head)[:0], 1, c.MaxIdleConns > 0, r, x.body, x.length, c.env); err != nil {
		return x.fail(gateway.PhaseRequest, nil, err)
	}
	method, _ := r.Params.Lookup("REQUEST_METHOD")
	switch string(method) {
	case "HEAD":
		x.bodyless, x.idempotent = true, true
	case "GET", "OPTIONS", "TRACE":
		x.idempotent = true
	}
	return nil
}

// run sends the request, and sends it again if mayRepeat allows it. Both use one place among
// MaxConns: a request that gave its place back would go to the end of the queue.
func (x *roundTrip) run() error {
	defer func() { x.c.heads.Put(x.head) }() // nil if the sender has it
	cc, err := x.take()
	if err != nil {
		return err
	}
	attached := false
	defer func() {
		if !attached { // because of an error, or since a function of the caller has panicked
			x.c.pool.Drop()
		}
	}()
	err = x.sendOver(cc)
	if err != nil && cc != nil && x.mayRepeat(cc, err) {
		err = x.sendOver(nil)
	}
	attached = err == nil
	return err
}

// sendOver sends the request on cc, or on a new connection if cc is nil, and reads the head of the
// response.
func (x *roundTrip) sendOver(cc *clientConn) error {
	if cc == nil {
		var err error
		if cc, err = x.dial(); err != nil {
			return err
		}
	}
	return cc.exchange(x)
}

// mayRepeat reports whether the request may be sent again, and if so makes its body readable from
// the beginning. The kept connection must have been closed without a byte of a response:
// applications close idle connections, and the close may cross the request. The application must
// not run a request twice that changes something, so either no byte was sent or the method is
// idempotent.
func (x *roundTrip) mayRepeat(cc *clientConn, err error) bool {
	if !errors.Is(err, gateway.ErrNoResponse) || cc.out.Sent.Load() && !x.idempotent {
		return false
	}
	if x.head == nil {
		x.head = x.c.heads.Get() // the sender has the other
	}
	if !x.touched { // the body has not been read
		return true
	}
	if x.r.Data != nil || x.r.GetBody == nil {
		return false
	}
	body, err := x.r.GetBody()
	x.body, x.touched = body, false
	return err == nil
}

// take waits for a place among MaxConns. It returns a kept connection, or nil if there is none that
// is still good; the place is then for a new one.
func (x *roundTrip) take() (*clientConn, error) {
	c := x.c
	begun := c.clock().Now()
	cc, kept, err := c.pool.Get(x.ctx)
	x.waited = c.clock().Since(begun)
	switch {
	case err != nil:
		return nil, x.fail(gateway.PhaseWait, nil, err)
	case !kept:
		return nil, nil
	case !cc.usable(): // the application has closed it, or it is too old
		cc.c.Close()
		return nil, nil
	}
	c.count.Reused()
	cc.reused = true
	return cc, nil
}

// dial opens a new connection.
func (x *roundTrip) dial() (*clientConn, error) {
	c := x.c
	begun := c.clock().Now()
	conn, err := c.dialer.Connect(x.ctx)
	x.dialed = c.clock().Since(begun)
	if err != nil {
		return nil, x.fail(gateway.PhaseDial, nil, err)
	}
	c.count.Dialed()
	return newClientConn(c, conn), nil
}

// encode puts the head into the connection's buffer, with the id of this exchange.
func (x *roundTrip) encode(cc *clientConn) error {
	b := *x.head
	if len(b) == 0 { // the first sender has the buffer
		var err error
		if b, err = appendRequest(b, 1, cc.keep, x.r, x.body, x.length, x.c.env); err != nil {
			return err
		}
	}
	setIDs(b, cc.id) // the head was encoded before the connection was known
	cc.out.B = b
	*x.head = nil
	return nil
}

// setIDs sets the id of every record in b.
func setIDs(b []byte, id uint16) {
	for len(b) > 0 {
		binary.BigEndian.PutUint16(b[2:], id)
		b = b[headerSize+int(binary.BigEndian.Uint16(b[4:]))+int(b[6]):]
	}
}

// fail makes err the error of the exchange.
func (x *roundTrip) fail(phase gateway.Phase, cc *clientConn, err error) error {
	e := client.NewError(x.ctx, phase, x.c.Addr, err)
	if cc != nil {
		e.Reused, e.Sent, e.Received = cc.reused, cc.out.Sent.Load(), !cc.silent()
	}
	return e
}
