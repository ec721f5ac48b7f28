package gatewayhttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/race"
	"github.com/gatehouse-go/gatehouse/internal/tunnel"
	"github.com/gatehouse-go/gatehouse/internal/upgrade"
)

// Proxy is an http.Handler straight onto a backend, as gateway.Proxy is a gateway.Handler. Each piece of the answer is
// sent on as it arrives. An answer that is cut panics with http.ErrAbortHandler, as httputil.ReverseProxy does, so that
// it cannot look whole. A request whose client goes away is cancelled.
type Proxy struct {
	Backend        gateway.RoundTripper
	Mapping        *Mapping
	ModifyResponse func(*gateway.Response) error                   // changes the answer before its head is sent; its error goes to ErrorHandler
	ErrorHandler   func(http.ResponseWriter, *http.Request, error) // of a request that has no answer; nil stands for Status and Logger
	LocalRedirect  http.Handler                                    // serves what a Location with a path and nothing else asks for, RFC 3875 section 6.2.2; nil passes it on, as a 302
	Logger         *slog.Logger                                    // nil stands for slog.Default
}

// ServeHTTP passes r to the backend and its answer to w.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := crossings.Get().(*crossing)
	defer x.release()
	defer x.endBody(w, r)
	// Else net/http 1 takes what is left of the body for itself before it sends the first byte of an answer.
	http.NewResponseController(w).EnableFullDuplex()
	if err := p.roundTrip(x, w, r); err != nil {
		p.handleError(w, r, err)
		return
	}
	if p.redirected(x, w, r) {
		return
	}
	defer func() { x.res.Body.Close() }()
	if x.res.Status == http.StatusSwitchingProtocols {
		p.join(x, w, r)
		return
	}
	header := w.Header()
	addTo(header, &x.res.Header)
	setLength(header, &x.res)
	if _, typed := header["Content-Type"]; !typed {
		header["Content-Type"] = nil // no guess of ours: the application gave none
	}
	w.WriteHeader(x.res.Status)
	if r.Method == http.MethodHead || !bodyAllowed(x.res.Status) {
		http.NewResponseController(w).Flush()
		drain(x.res.Body)
		return
	}
	if err := tunnel.CopyBody(w, flusher(w), x.res.Body, x.buf); err != nil {
		if r.Context().Err() == nil {
			p.logger().Warn("answer cut", "error", err)
		}
		x.endBody(w, r)
		cut(w, r)
	}
}

// drain reads what nobody gets of an answer, so that an application that has answered can end its work: closed on at once,
// a script would be ended, and php-fpm's would know that nobody listens.
// It is not waited for without end.
func drain(body io.ReadCloser) {
	defer time.AfterFunc(drainTimeout, func() { body.Close() }).Stop()
	io.CopyN(io.Discard, body, maxDrain)
}

const (
	maxDrain     = 256 << 10
	drainTimeout = 5 * time.Second
)

// cut ends an answer so that it cannot look whole. To a client of HTTP/1.0 the end of the connection is the end of the
// answer, unless it is a reset.
func cut(w http.ResponseWriter, r *http.Request) {
	if !r.ProtoAtLeast(1, 1) {
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			if tcp, ok := c.(*net.TCPConn); ok {
				tcp.SetLinger(0)
			}
			c.Close()
		}
	}
	panic(http.ErrAbortHandler)
}

// join makes a tunnel of a 101.
func (p *Proxy) join(x *crossing, w http.ResponseWriter, r *http.Request) {
	back, ok := x.res.Body.(gateway.Stream)
	if !ok {
		p.handleError(w, r, fmt.Errorf("gatewayhttp: 101 without a stream: %w", gateway.ErrMalformed))
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		p.handleError(w, r, fmt.Errorf("gatewayhttp: 101 that cannot be passed on: %w", gateway.ErrMalformed))
		return
	}
	header := make(http.Header)
	addTo(header, &x.res.Header)
	switched(header, &x.res.Header)
	res := &http.Response{StatusCode: http.StatusSwitchingProtocols, ProtoMajor: 1, ProtoMinor: 1, Header: header}
	conn.SetDeadline(time.Time{})
	if err := res.Write(conn); err != nil {
		conn.Close()
		return
	}
	early, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	tunnel.Join(upgrade.NewStream(conn, bytes.Clone(early), nil), back)
}

// clientError returns an error of reading the client's body so that it is not taken for the backend's.
func clientError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fmt.Errorf("%w: %w", gateway.ErrBodyTooLarge, err)
	}
	return fmt.Errorf("%w: %w", gateway.ErrRequestBody, err)
}

// clientBody is a client's body: it marks its errors, and nothing reads it when the handler has returned.
type clientBody struct {
	r       io.Reader
	mu      sync.Mutex // held while r is read
	ended   bool       // r has given io.EOF
	closing atomic.Bool
}

func (b *clientBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.r.Read(p)
	b.ended = b.ended || err == io.EOF
	if err != nil && err != io.EOF {
		err = clientError(err)
	}
	return n, err
}

// end ends the reading before the handler returns. A Read that waits for the client is interrupted. What is left of a
// body in full duplex is more than net/http can deal with: it panics where it meets the end of it, and takes it for the
// next request where a deadline has passed; so a connection of HTTP/1 on which something is left is closed after the
// answer.
func (b *clientBody) end(w http.ResponseWriter, r *http.Request) {
	b.closing.Store(true)
	locked := b.mu.TryLock()
	if locked && (b.ended || r.ProtoMajor != 1) {
		b.mu.Unlock()
		return
	}
	http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
	for i := 0; !locked && i < 200; i++ { // a body that is not net/http's may not notice
		time.Sleep(time.Millisecond)
		locked = b.mu.TryLock()
	}
	if locked {
		b.mu.Unlock()
	}
	if r.ProtoMajor == 1 {
		closeAfterReply(w)
	}
}

// closeAfterReply has net/http close w's connection when the answer has been sent, whose head may have left. That is what
// http.MaxBytesReader does when there is more than it lets through; nothing else can.
func closeAfterReply(w http.ResponseWriter) {
	for {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = wrapper.Unwrap()
	}
	http.MaxBytesReader(w, io.NopCloser(strings.NewReader("xx")), 1).Read(make([]byte, 2))
}

// setLength makes Content-Length say what the answer's ContentLength says.
func setLength(header http.Header, res *gateway.Response) {
	switch {
	case res.ContentLength < 0 || res.Status == http.StatusNoContent:
		header.Del("Content-Length")
	default:
		header.Set("Content-Length", strconv.FormatInt(res.ContentLength, 10))
	}
}

func (p *Proxy) roundTrip(x *crossing, w http.ResponseWriter, r *http.Request) error {
	if err := p.Mapping.request(&x.req, r); err != nil {
		return &gateway.Error{Phase: gateway.PhaseRequest, Err: err}
	}
	if x.req.Body != nil {
		x.body = &clientBody{r: x.req.Body}
		x.req.Body = x.body
	}
	if x.w = w; r.ProtoAtLeast(1, 1) {
		x.req.Interim = x.interim // HTTP/1.0 knows no interim answers, and would take one for the answer
	}
	if err := p.Mapping.backend(p.Backend, &x.req).RoundTrip(r.Context(), &x.req, &x.res); err != nil {
		return err
	}
	if p.ModifyResponse == nil {
		return nil
	}
	passed := false
	defer func() {
		if !passed { // an error, or a panic
			x.res.Body.Close()
		}
	}()
	err := p.ModifyResponse(&x.res)
	passed = err == nil
	return err
}

func (p *Proxy) handleError(w http.ResponseWriter, r *http.Request, err error) {
	if p.ErrorHandler != nil {
		p.ErrorHandler(w, r, err)
		return
	}
	status := gateway.ErrorStatus(err)
	if !errors.Is(err, context.Canceled) && status >= 500 {
		p.logger().Warn("no answer", "status", status, "error", err)
	}
	http.Error(w, http.StatusText(status), status)
}

func (p *Proxy) logger() *slog.Logger {
	if p.Logger != nil {
		return p.Logger
	}
	return slog.Default()
}

// crossing is the memory of one request on its way through a Proxy.
type crossing struct {
	req     gateway.Request
	res     gateway.Response
	w       http.ResponseWriter
	body    *clientBody // nil if there is none
	buf     []byte
	interim func(status int, h *gateway.Header) error
}

var crossings = sync.Pool{New: func() any {
	x := &crossing{buf: make([]byte, 32<<10)}
	x.interim = func(status int, h *gateway.Header) error {
		if status == http.StatusContinue {
			return nil // net/http sends its own when the body is first read
		}
		header := x.w.Header()
		before := maps.Clone(header)
		addTo(header, h)
		x.w.WriteHeader(status)
		clear(header)
		maps.Copy(header, before)
		return nil
	}
	return x
}}

func (x *crossing) endBody(w http.ResponseWriter, r *http.Request) {
	if x.body != nil {
		x.body.end(w, r)
		x.body = nil
	}
}

func (x *crossing) release() {
	if race.Enabled || (*pairs.List)(&x.req.Params).Cap() > tunnel.MaxPooled || (*pairs.List)(&x.res.Header).Cap() > tunnel.MaxPooled {
		return
	}
	x.req.Reset()
	x.res.Reset()
	x.w = nil
	crossings.Put(x)
}

// flusher returns the Flush of w, which does nothing where there is none.
func flusher(w http.ResponseWriter) func() error {
	flush := http.NewResponseController(w).Flush
	return func() error {
		if err := flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		return nil
	}
}
