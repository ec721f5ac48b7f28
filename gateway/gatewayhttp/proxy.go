package gatewayhttp

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
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

// Proxy is an http.Handler that passes requests to a backend. Each piece of the response is passed
// on as it arrives. Hop-by-hop fields are removed from the response, and so are fields that direct
// a web server, such as X-Accel-Redirect and X-Sendfile. A 1xx response other than 100 is passed on
// to clients of HTTP/1.1 and later. A 101 to a request for a WebSocket joins both connections until
// they end.
//
// If the response is truncated, ServeHTTP panics with http.ErrAbortHandler, as
// httputil.ReverseProxy does, so that the client does not mistake it for a complete one. If the
// client disconnects, the request is canceled.
type Proxy struct {
	// Backend receives the requests. It must not be nil.
	Backend gateway.RoundTripper

	// Mapping makes the gateway.Request. Nil means a Mapping of zero values.
	Mapping *Mapping

	// ModifyResponse, if not nil, changes the response before its head is sent. Its error goes to
	// ErrorHandler.
	ModifyResponse func(*gateway.Response) error

	// ErrorHandler, if not nil, responds to a request for which there is no response. Nil means a
	// response with the status of gateway.ErrorStatus and a log record, which names the request: at
	// the level ERROR for a status of 500 or above, and INFO for one below, or DEBUG if the client
	// has disconnected.
	ErrorHandler func(http.ResponseWriter, *http.Request, error)

	// LocalRedirect, if not nil, serves local redirects, RFC 3875 section 6.2.2: responses without
	// a body whose only field is a Location that is a path. It receives a GET, or a HEAD after
	// HEAD, without a body. More than ten in a row are a 500. Nil means that the client receives a
	// 302.
	LocalRedirect http.Handler

	// SendFile, if not nil, serves the file that a response with the status 200 names in
	// X-Accel-Redirect (a path, percent-encoded, whose query is ignored) or in X-Sendfile (the name
	// of a file). It receives a GET, or a HEAD after HEAD, with that path in URL.Path, and of the
	// client's fields Range and those that begin with If-. Its response takes the place of the
	// application's body and of the fields that depend on its bytes; the other fields of the
	// application stay. So does Content-Type, unless SendFile sets another: http.FileServer does
	// not, so the application must send the type of the file. PHP sends text/html by default.
	//
	// SendFile alone decides which files may be served. The path is that of the field, which may
	// have dot segments; http.FileServer and http.ServeMux clean it. A redirect of SendFile goes to
	// the client: http.FileServer redirects the path of an index.html to its folder. Nil means that
	// both fields are dropped.
	SendFile http.Handler

	// ReadAhead is how many bytes of a response are read ahead of a client that reads slowly, so
	// that the backend is free when it has written: 64 KiB of them in memory, and the rest in a
	// temporary file in the folder Dir of Mapping.Spool. What has arrived is still sent on at once.
	// Zero or a negative value means none. Set it in front of applications whose workers take one
	// request at a time; the other half is Mapping.Body, SpoolBody.
	ReadAhead int64

	// Logger receives log records. Nil means slog.Default.
	Logger *slog.Logger
}

// ServeHTTP passes r to the backend and the response to w.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := crossings.Get().(*crossing)
	defer x.release()
	defer x.endBody(w, r)
	// Without it net/http reads the rest of the body before it sends the first byte of a response.
	http.NewResponseController(w).EnableFullDuplex()
	if err := p.roundTrip(x, w, r); err != nil {
		p.handleError(x, w, r, err)
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
	if p.SendFile != nil && p.sentFile(x, w, r) {
		return
	}
	p.respond(x, w, r)
}

// respond sends the response to the client.
func (p *Proxy) respond(x *crossing, w http.ResponseWriter, r *http.Request) {
	if !cuttable(w, r, &x.res) {
		if err := p.gather(x); err != nil {
			p.handleError(x, w, r, err)
			return
		}
	}
	header := w.Header()
	addTo(header, &x.res.Header)
	setLength(header, &x.res)
	if _, typed := header["Content-Type"]; !typed {
		header["Content-Type"] = nil // net/http must not guess: the application sent none
	}
	w.WriteHeader(x.res.Status)
	if r.Method == http.MethodHead || !bodyAllowed(x.res.Status) {
		return // Close discards what the application sends all the same
	}
	if p.ReadAhead > 0 {
		x.res.Body = newReadAhead(x.res.Body, p.ReadAhead, p.Mapping.orZero().Spool.Dir)
	}
	if err := tunnel.CopyBody(w, flusher(w), x.res.Body, x.buf); err != nil {
		if r.Context().Err() == nil {
			p.log(x, r, slog.LevelWarn, "response cut", slog.Any("error", err))
		}
		x.endBody(w, r)
		cut(w, r)
	}
}

// cut ends a response so that the client can see that it is incomplete. HTTP/1.0 takes the end of
// the connection for the end of the response, unless it is a reset, or, over TLS, comes without the
// closing alert.
func cut(w http.ResponseWriter, r *http.Request) {
	if !r.ProtoAtLeast(1, 1) {
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			if t, ok := c.(*tls.Conn); ok {
				c = t.NetConn() // rule F58
			}
			if tcp, ok := c.(*net.TCPConn); ok {
				tcp.SetLinger(0)
			}
			c.Close()
		}
	}
	panic(http.ErrAbortHandler)
}

// cuttable reports whether cut can make the end of a response visible. A ResponseWriter of a
// middleware that has no Unwrap hides the connection.
func cuttable(w http.ResponseWriter, r *http.Request, res *gateway.Response) bool {
	if r.ProtoAtLeast(1, 1) || res.ContentLength >= 0 {
		return true
	}
	for {
		if _, ok := w.(http.Hijacker); ok {
			return true
		}
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = wrapper.Unwrap()
	}
}

// gather reads the whole body, so that the response has a Content-Length.
func (p *Proxy) gather(x *crossing) error {
	s, body := p.Mapping.orZero().Spool, x.res.Body
	var read gateway.Request
	s.Backend = gateway.RoundTripperFunc(func(_ context.Context, r *gateway.Request, res *gateway.Response) error {
		read.Body, read.ContentLength = r.Body, r.ContentLength
		res.Body = body // closed with the file
		return nil
	})
	var whole gateway.Response
	noted := &notingReader{r: body}
	if err := s.RoundTrip(context.Background(), &gateway.Request{Body: noted, ContentLength: -1}, &whole); err != nil {
		if noted.err != nil {
			err = fmt.Errorf("%w: %v", gateway.ErrTruncated, err)
		}
		return fmt.Errorf("gatewayhttp: response for HTTP/1.0: %w", err)
	}
	x.res.Body, x.res.ContentLength = gathered{read.Body, whole.Body}, read.ContentLength
	if read.Body == nil {
		x.res.Body = gathered{gateway.NoBody, whole.Body}
	}
	return nil
}

// A notingReader notes the error of its reader, to tell it from those of a temporary file.
type notingReader struct {
	r   io.Reader
	err error
}

func (n *notingReader) Read(p []byte) (int, error) {
	k, err := n.r.Read(p)
	if err != io.EOF {
		n.err = err
	}
	return k, err
}

// A gathered is a body that was read before it is sent.
type gathered struct {
	io.Reader
	io.Closer
}

// join passes on a 101 and joins both connections.
func (p *Proxy) join(x *crossing, w http.ResponseWriter, r *http.Request) {
	back, ok := x.res.Body.(gateway.Stream)
	if !ok {
		p.handleError(x, w, r, fmt.Errorf("gatewayhttp: 101 without a stream: %w", gateway.ErrMalformed))
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		p.handleError(x, w, r, fmt.Errorf("gatewayhttp: 101 that cannot be passed on: %w", gateway.ErrMalformed))
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
	tunnel.Join(&upgrade.Stream{Conn: conn, Early: bytes.Clone(early)}, back)
}

// clientError marks an error of reading the client's body, so that it is not taken for the
// backend's.
func clientError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fmt.Errorf("%w: %w", gateway.ErrBodyTooLarge, err)
	}
	return fmt.Errorf("%w: %w", gateway.ErrRequestBody, err)
}

// A clientBody is the body of a client's request. It marks its errors, and is not read after the
// handler has returned.
type clientBody struct {
	r       io.Reader
	mu      sync.Mutex // held while r is read
	ended   bool       // r has returned io.EOF
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

// end ends the reading before the handler returns. A Read that waits for the client is interrupted.
// net/http cannot handle the unread rest of a body in full duplex: it panics at the end of it, and
// after a deadline takes it for the next request. A connection of HTTP/1 with an unread rest is
// therefore closed after the response.
func (b *clientBody) end(w http.ResponseWriter, r *http.Request) {
	b.closing.Store(true)
	locked := b.mu.TryLock()
	if locked && (b.ended || r.ProtoMajor != 1) {
		b.mu.Unlock()
		return
	}
	http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
	for i := 0; !locked && i < 200; i++ { // a body that is not net/http's may not notice the deadline
		time.Sleep(time.Millisecond)
		locked = b.mu.TryLock()
	}
	if locked {
		b.mu.Unlock()
	}
	if r.ProtoMajor == 1 {
		closeAfterResponse(w)
	}
}

// closeAfterResponse makes net/http close w's connection when the response has been sent, even if
// the head was sent before. http.MaxBytesReader does that when its limit is exceeded; there is no
// other way.
func closeAfterResponse(w http.ResponseWriter) {
	for {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = wrapper.Unwrap()
	}
	http.MaxBytesReader(w, io.NopCloser(strings.NewReader("xx")), 1).Read(make([]byte, 2))
}

// setLength sets Content-Length from the response's ContentLength.
func setLength(header http.Header, res *gateway.Response) {
	switch {
	case res.ContentLength < 0 || res.Status == http.StatusNoContent:
		header.Del("Content-Length")
	default:
		header.Set("Content-Length", strconv.FormatInt(res.ContentLength, 10))
	}
}

func (p *Proxy) roundTrip(x *crossing, w http.ResponseWriter, r *http.Request) error {
	m := p.Mapping.orZero()
	if err := m.request(&x.req, r, m.TrustForwarded); err != nil {
		return &gateway.Error{Phase: gateway.PhaseRequest, Err: err}
	}
	if x.req.Body != nil {
		x.body = &clientBody{r: x.req.Body}
		x.req.Body = x.body
	}
	if x.w = w; r.ProtoAtLeast(1, 1) {
		x.req.Interim = x.interim // an HTTP/1.0 client would take an interim response for the final one
	}
	if err := m.backend(p.Backend, &x.req).RoundTrip(r.Context(), &x.req, &x.res); err != nil {
		return err
	}
	return tunnel.Modify(&x.res, p.ModifyResponse, func() error { return x.res.Body.Close() })
}

func (p *Proxy) handleError(x *crossing, w http.ResponseWriter, r *http.Request, err error) {
	if p.ErrorHandler != nil {
		p.ErrorHandler(w, r, err)
		return
	}
	status := gateway.ErrorStatus(err)
	level := slog.LevelInfo // a scanner must not fill the log
	switch {
	case r.Context().Err() != nil: // the client has left
		level = slog.LevelDebug
	case status >= 500:
		level = slog.LevelError
	}
	p.log(x, r, level, "no response", slog.Int("status", status), slog.Any("error", err))
	sendStatus(w, status)
}

// log logs a record about r: the request as the client sent it, and the script and the backend that
// were to respond.
func (p *Proxy) log(x *crossing, r *http.Request, level slog.Level, message string, attrs ...slog.Attr) {
	attrs = append(attrs, slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.String("remote", r.RemoteAddr))
	if script := x.req.ScriptFilename(); script != "" {
		attrs = append(attrs, slog.String("script", script))
	}
	p.logger().LogAttrs(r.Context(), level, message, attrs...)
}

func (p *Proxy) logger() *slog.Logger { return cmp.Or(p.Logger, slog.Default()) }

// A crossing is the memory of one request on its way through a Proxy.
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

// flusher returns the Flush of w. It does nothing if w has none.
func flusher(w http.ResponseWriter) func() error {
	flush := http.NewResponseController(w).Flush
	return func() error {
		if err := flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		return nil
	}
}
