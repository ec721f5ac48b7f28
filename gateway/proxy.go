package gateway

import (
	"errors"
	"fmt"
	"sync"

	"github.com/gatehouse-go/gatehouse/internal/race"
	"github.com/gatehouse-go/gatehouse/internal/tunnel"
)

// Proxy is a Handler that passes requests to a backend.
//
// Params are passed in order and byte for byte, with these exceptions. HTTP_PROXY,
// HTTP_CONTENT_TYPE, HTTP_CONTENT_LENGTH, HTTP_TRANSFER_ENCODING, HTTP_TE, HTTP_TRAILER,
// HTTP_KEEP_ALIVE and SCGI are dropped, and HTTP_CONNECTION and HTTP_UPGRADE unless the request
// asks for an upgrade. CONTENT_LENGTH follows ContentLength. A SERVER_PROTOCOL of HTTP/2 or HTTP/3
// becomes HTTP/2.0 or HTTP/3.0. The reason phrase of the response is not passed.
//
// A response of 101 to a request for a WebSocket joins both connections until they end.
//
// Each piece of the response is sent on as it arrives. A truncated response is cut, so that it is
// never taken for complete.
type Proxy struct {
	// Backend receives the requests.
	Backend RoundTripper

	// Rewrite, if not nil, is called with the request before it is sent, and may change it. It is a
	// copy of the handler's request. An error is passed to ErrorHandler, as an *Error of
	// PhaseRequest.
	Rewrite func(r *Request) error

	// ModifyResponse, if not nil, is called with the response before its head is sent, and may
	// change it. If it returns an error, the response is closed and the error is passed to
	// ErrorHandler.
	ModifyResponse func(res *Response) error

	// ErrorHandler, if not nil, responds to a request for which no response head was sent. Its
	// error is that of ServeGateway. If ErrorHandler is nil, ServeGateway returns err.
	ErrorHandler func(w ResponseWriter, r *Request, err error) error
}

// ServeGateway passes r to the backend and the response to w.
func (p *Proxy) ServeGateway(w ResponseWriter, r *Request) error {
	x := newPassage(w, r)
	defer x.release()
	err := p.roundTrip(x, r)
	if err != nil {
		if p.ErrorHandler != nil {
			return p.ErrorHandler(w, r, err)
		}
		return err
	}
	defer x.res.Body.Close()
	if x.res.Status == 101 {
		return x.join()
	}
	x.res.syncContentLength()
	w.Header().CopyFrom(&x.res.Header)
	w.WriteHeader(x.res.Status)
	if method, _ := r.Params.Lookup("REQUEST_METHOD"); string(method) == "HEAD" || x.res.Status == 204 || x.res.Status == 304 {
		return nil // Close discards what the application sends all the same
	}
	if err := tunnel.CopyBody(w, w.Flush, x.res.Body, x.buf); err != nil {
		return err
	}
	w.SetAppStatus(x.res.AppStatus)
	return nil
}

func (p *Proxy) roundTrip(x *passage, r *Request) error {
	if p.Rewrite != nil {
		if err := p.Rewrite(&x.req); err != nil {
			return requestError(err)
		}
		if r.ContentLength == 0 && x.req.ContentLength == 0 {
			x.req.Body = nil // whatever Rewrite has put around an empty body
		}
	}
	if err := p.Backend.RoundTrip(r.Context(), &x.req, &x.res); err != nil {
		return err
	}
	return tunnel.Modify(&x.res, p.ModifyResponse, func() error { return x.res.Body.Close() })
}

// requestError returns err as an *Error, so that a script that does not exist is a 404.
func requestError(err error) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return &Error{Phase: PhaseRequest, Err: err}
}

// A passage is the memory of one request on its way through a Proxy.
type passage struct {
	req     Request
	res     Response
	w       ResponseWriter
	interim func(status int, h *Header) error
	buf     []byte
}

var passages = sync.Pool{New: func() any {
	x := &passage{buf: make([]byte, 32<<10)}
	x.interim = func(status int, h *Header) error {
		if err := x.w.WriteInterim(status, h); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		return nil
	}
	return x
}}

func newPassage(w ResponseWriter, r *Request) *passage {
	x := passages.Get().(*passage)
	x.w = w
	x.req.CopyFrom(r)
	x.req.Params.list().DeleteFunc(notPassed)
	if x.req.Upgrade == "" {
		x.req.Params.list().DeleteFunc(ofUpgrade)
	}
	if v, _ := x.req.Params.Lookup("SERVER_PROTOCOL"); string(v) == "HTTP/2" || string(v) == "HTTP/3" {
		x.req.Params.Set("SERVER_PROTOCOL", string(v)+".0")
	}
	x.req.Stderr, x.req.Interim = w.Stderr(), x.interim
	return x
}

func (x *passage) release() {
	if race.Enabled || x.req.Params.list().Cap() > tunnel.MaxPooled || x.res.Header.list().Cap() > tunnel.MaxPooled {
		return
	}
	x.req.Reset()
	x.res.Reset()
	x.w = nil
	passages.Put(x)
}

// notPassed reports whether a param belongs to one hop, or repeats what another param says.
func notPassed(name []byte) bool {
	switch string(name) {
	case "HTTP_PROXY", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_TE",
		"HTTP_TRAILER", "HTTP_KEEP_ALIVE", "SCGI":
		return true
	}
	return false
}

// ofUpgrade reports whether a param asks for an upgrade.
func ofUpgrade(name []byte) bool {
	return string(name) == "HTTP_CONNECTION" || string(name) == "HTTP_UPGRADE"
}

// join copies between both connections after a 101. The end of one direction is passed on. When the
// backend's direction has ended, the other ends soon after; an error ends both.
func (x *passage) join() error {
	back, ok := x.res.Body.(Stream)
	if !ok {
		return fmt.Errorf("gateway: the backend's 101 has no stream: %w", ErrMalformed)
	}
	x.w.Header().CopyFrom(&x.res.Header)
	front, err := x.w.Hijack()
	if err != nil {
		return err
	}
	tunnel.Join(front, back)
	return nil
}
