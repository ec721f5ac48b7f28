package gatewayhttp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/client"
	"github.com/gatehouse-go/gatehouse/internal/grammar"
	"github.com/gatehouse-go/gatehouse/internal/params"
	"github.com/gatehouse-go/gatehouse/internal/stream"
	"github.com/gatehouse-go/gatehouse/internal/upgrade"
)

// A clientExchange is one RoundTrip of a Client, and then the Body of the response. It is never
// reused.
//
// The goroutine of RoundTrip owns it, and then the one that reads the Body. Close may be called by
// any goroutine. The transport calls Got1xxResponse in a goroutine of its own, also after its
// RoundTrip has returned; the fields behind mu are written there, and read when returned is set.
type clientExchange struct {
	c       *Client
	ctx     context.Context
	started time.Time
	granted bool // a place was taken

	framed     *framedConn // of the last try; nil until there is one
	conn       net.Conn    // below it
	raw        *clientConn
	reused     bool
	sentBefore int64 // what the connection had sent and received before
	gotBefore  int64

	mu           sync.Mutex // is held while Interim runs
	returned     bool       // the transport has, and Interim is not called any more
	interimFault error
	panicked     any // in a function of the caller that the transport has called

	body *outgoingBody // nil if there is none
	http *http.Response
	x    gateway.Exchange
	read atomic.Int64 // bytes of the response's body
	over atomic.Bool
	end  atomic.Pointer[error] // what Read returns when it is over
}

func (x *clientExchange) roundTrip(r *gateway.Request, res *gateway.Response) (gateway.Phase, error) {
	out, err := x.request(r)
	if err != nil {
		return gateway.PhaseRequest, err
	}
	begun := time.Now()
	if _, _, err := x.c.places.Get(x.ctx); err != nil {
		return gateway.PhaseWait, err
	}
	x.granted = true
	x.x.Wait = time.Since(begun)
	begun = time.Now()
	out = out.WithContext(httptrace.WithClientTrace(out.Context(), x.trace(out, r, begun)))
	x.http, err = x.c.transport.RoundTrip(out)
	x.leave()
	if x.reused {
		x.c.count.Reused()
	}
	if p, ok := errors.AsType[*panicError](err); ok {
		x.panicked = p.value
	}
	switch {
	case err != nil && x.conn == nil:
		return gateway.PhaseDial, err
	case err != nil && x.raw.stuck.Load():
		return gateway.PhaseSend, err
	case err != nil:
		return gateway.PhaseHead, x.cause(err)
	}
	x.x.Head, x.x.Status = time.Since(begun)-x.x.Dial, x.http.StatusCode
	if err := x.respond(r, res); err != nil {
		x.http.Body.Close()
		return gateway.PhaseHead, err
	}
	return 0, nil
}

// leave waits until Interim does not run. After that it is not called any more.
func (x *clientExchange) leave() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.returned = true
}

// request returns the request to be sent.
func (x *clientExchange) request(r *gateway.Request) (*http.Request, error) {
	if x.c.fault != nil {
		return nil, x.c.fault
	}
	out, err := x.c.outgoing(x.ctx, r)
	if err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	body, length := params.Body(r.Body, r.ContentLength)
	switch {
	case body != nil:
		x.body = &outgoingBody{r: body, left: length, small: length <= stream.SmallBody}
		out.Body, out.ContentLength = x.body, length
	case length > 0:
		return nil, params.ErrShortBody
	}
	if x.c.Rewrite != nil {
		if err := x.c.Rewrite(out, r); err != nil {
			return nil, err
		}
		sendOnce(out)
	}
	return out, checkFields(out.Header)
}

// trace notes which connection is used, and passes on interim responses.
func (x *clientExchange) trace(out *http.Request, r *gateway.Request, begun time.Time) *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			if x.conn == nil {
				x.c.busy.Add(1)
			}
			conn := info.Conn.(*framedConn)
			conn.begin(out.Method)
			x.framed, x.conn, x.raw, x.reused = conn, conn.Conn, rawConn(conn.Conn), info.Reused
			x.sentBefore, x.gotBefore = x.raw.sent.Load(), x.raw.received.Load()
			x.x.Dial = time.Since(begun)
		},
		Got1xxResponse: func(status int, header textproto.MIMEHeader) (err error) {
			if status == http.StatusContinue || r.Interim == nil {
				return nil
			}
			x.mu.Lock()
			defer x.mu.Unlock()
			if x.returned {
				return context.Canceled
			}
			defer func() {
				if v := recover(); v != nil {
					x.panicked = v
					err = &panicError{v}
				}
			}()
			var h gateway.Header
			addFieldsOf(&h, http.Header(header))
			x.interimFault = r.Interim(status, &h)
			return x.interimFault
		},
	}
}

func (x *clientExchange) sent() int64 {
	if x.raw == nil {
		return 0
	}
	return x.raw.sent.Load() - x.sentBefore
}

func (x *clientExchange) received() int64 {
	if x.raw == nil {
		return 0
	}
	return x.raw.received.Load() - x.gotBefore
}

// cause maps an error of the transport to the error that the caller can test for.
func (x *clientExchange) cause(err error) error {
	if fault := x.body.fault(); fault != nil {
		return fault // other errors follow from it
	}
	late, _ := errors.AsType[net.Error](err)
	switch got := x.received(); {
	case x.interimFault != nil:
		return x.interimFault
	case late != nil && late.Timeout():
		// Of a time-out of its own net/http says that it is context.DeadlineExceeded.
		return fmt.Errorf("http: %w (%v)", os.ErrDeadlineExceeded, err)
	case got == 0:
		return fmt.Errorf("http: %w (%w)", gateway.ErrNoResponse, err)
	case cutOff(err), x.raw.ended.Load(): // net/http calls a line that is cut malformed
		return fmt.Errorf("http: %w (%w)", gateway.ErrTruncated, err)
	case got >= x.c.transport.MaxResponseHeaderBytes:
		return fmt.Errorf("http: response head over %d bytes: %w", x.c.transport.MaxResponseHeaderBytes, gateway.ErrTooLarge)
	}
	return fmt.Errorf("http: %w: %v", gateway.ErrMalformed, err)
}

// cutOff reports whether err means that a connection ended inside a response.
func cutOff(err error) bool {
	for _, target := range [...]error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// respond makes res of the response.
func (x *clientExchange) respond(r *gateway.Request, res *gateway.Response) error {
	if x.http.StatusCode == http.StatusSwitchingProtocols {
		return x.switched(r, res)
	}
	if x.http.ProtoMajor != 1 || x.http.StatusCode < 200 {
		return fmt.Errorf("http: status %d of %s: %w", x.http.StatusCode, x.http.Proto, gateway.ErrMalformed)
	}
	res.Status, res.ContentLength = x.http.StatusCode, x.http.ContentLength
	if res.Status == http.StatusNotModified { // the length of what is not sent
		res.ContentLength = -1
		if n, ok := grammar.Decimal([]byte(x.http.Header.Get("Content-Length"))); ok {
			res.ContentLength = n
		}
	}
	addFieldsOf(&res.Header, x.http.Header)
	res.Body = x
	return nil
}

// switched makes the connection the Body of a 101 that was asked for.
func (x *clientExchange) switched(r *gateway.Request, res *gateway.Response) error {
	token := x.http.Header.Get("Upgrade")
	body, ok := x.http.Body.(io.ReadWriteCloser)
	if r.Upgrade == "" || !strings.EqualFold(token, r.Upgrade) || !ok { // F31
		return fmt.Errorf("http: status 101 that was not asked for: %w", gateway.ErrMalformed)
	}
	res.Status, res.ContentLength = http.StatusSwitchingProtocols, -1
	addFieldsOf(&res.Header, x.http.Header)
	res.Header.Set("Upgrade", token)
	x.conn.SetDeadline(time.Time{})
	if t, ok := x.conn.(*tls.Conn); ok {
		t.NetConn().(*clientConn).timeout.Store(0)
	} else {
		x.raw.timeout.Store(0)
	}
	stop := context.AfterFunc(x.ctx, func() { body.Close() })
	res.Body = &upgrade.Stream{Conn: &switchedConn{x.conn, body}, Closed: func() {
		stop()
		x.finish(nil)
	}}
	return nil
}

// addFieldsOf adds the fields of a response, except those that belong to one hop and
// Content-Length. Their names are in order, since net/http does not keep that in which they came.
func addFieldsOf(dst *gateway.Header, h http.Header) {
	drop := named(h["Connection"])
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if hopByHop(name) || drop[name] || name == "Content-Length" {
			continue
		}
		for _, v := range h[name] {
			dst.Add(name, v)
		}
	}
}

// Read reads the body of the response.
func (x *clientExchange) Read(p []byte) (int, error) {
	if end := x.end.Load(); end != nil {
		return 0, *end
	}
	n, err := x.http.Body.Read(p)
	x.read.Add(int64(n))
	if err != nil {
		err = x.finish(err)
	}
	return n, err
}

// Close ends the exchange. What has arrived of the body is read, so that the connection is kept if
// that is all.
func (x *clientExchange) Close() error {
	defer x.http.Body.Close() // also if Observe panics
	if !x.over.Load() {
		x.framed.stops.Store(true)
		io.CopyN(io.Discard, x.http.Body, maxRest)
	}
	x.finish(stream.ErrClosed)
	return nil
}

// maxRest limits in bytes what is read of a body that is closed early.
const maxRest = 64 << 10

// finish ends the exchange because of err, and returns the error for the caller of Read.
func (x *clientExchange) finish(err error) error {
	if x.over.Swap(true) {
		if end := x.end.Load(); end != nil {
			return *end
		}
		return stream.ErrClosed
	}
	var failure error
	if err != nil && err != io.EOF && err != stream.ErrClosed {
		failure = x.bodyError(err)
		err = failure
		x.c.count.Failed(failure)
	}
	if err != nil {
		x.end.Store(&err)
	}
	x.drop()
	x.c.count.End()
	x.observe(failure)
	return err
}

// bodyError returns the error that the Body returns for err.
func (x *clientExchange) bodyError(err error) error {
	late, _ := errors.AsType[net.Error](err)
	switch fault := x.body.fault(); {
	case fault != nil:
		err = fault
	case late != nil && late.Timeout():
		err = fmt.Errorf("http: %w", err)
	case cutOff(err):
		err = fmt.Errorf("http: %w (%w)", gateway.ErrTruncated, err)
	default:
		err = fmt.Errorf("http: %w: %v", gateway.ErrMalformed, err)
	}
	e := client.NewError(x.ctx, gateway.PhaseBody, x.c.Addr, err)
	e.Reused, e.Sent, e.Received = x.reused, true, true
	return e
}

// drop gives back what the exchange holds. The transport has the connection.
func (x *clientExchange) drop() {
	if x.body != nil {
		x.body.end()
	}
	if x.conn != nil {
		x.c.busy.Add(-1)
	}
	if x.granted {
		x.c.places.Drop()
	}
}

// observe calls Observe. err is nil if the exchange succeeded.
func (x *clientExchange) observe(err error) {
	if x.c.Observe == nil {
		return
	}
	x.x.Addr, x.x.Reused, x.x.Total, x.x.Err = x.c.Addr, x.reused, time.Since(x.started), err
	x.x.Received = x.read.Load()
	if x.body != nil {
		x.x.Sent = x.body.sent.Load()
	}
	x.c.Observe(x.ctx, &x.x)
}
