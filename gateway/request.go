package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strings"

	"github.com/gatehouse-go/gatehouse/internal/grammar"
	"github.com/gatehouse-go/gatehouse/internal/params"
)

// Role is what an application is asked to do, FastCGI section 6. Other protocols refuse every role
// but Responder.
type Role uint16

const (
	// RoleResponder is the role of an application that responds to HTTP requests. A Role of zero
	// means the same.
	RoleResponder Role = 1 + iota

	// RoleAuthorizer is the role of an application that decides whether a request is authorized.
	RoleAuthorizer

	// RoleFilter is the role of an application that responds with a filtered version of a file.
	RoleFilter
)

func (r Role) String() string {
	switch r {
	case 0, RoleResponder:
		return "Responder"
	case RoleAuthorizer:
		return "Authorizer"
	case RoleFilter:
		return "Filter"
	}
	return fmt.Sprintf("Role(%d)", uint16(r))
}

// NoBody is a body without bytes. It is the Body of every request of length 0 that a server or a
// Reader has received. Clients treat it as nil.
var NoBody = params.NoBody{}

// Request is a request. The zero value is ready to use. Reset keeps its memory. A Request must not
// be copied; use CopyFrom.
type Request struct {
	// Params are the request's params. Fields of the request win over params of the same meaning,
	// such as CONTENT_LENGTH.
	Params Params

	// Body is the request's body. In a Handler and after ReadRequest it is never nil. In a request
	// to be sent nil and NoBody mean that there is none. The library never closes it.
	Body io.Reader

	// ContentLength is the exact length of Body in bytes; -1 means unknown. In a request to be
	// sent, 0 with a Body other than nil and NoBody means the length of a bytes.Reader,
	// bytes.Buffer or strings.Reader, and unknown for any other.
	ContentLength int64

	// GetBody, if not nil, returns a new reader of the whole body. Clients need it to send a
	// request again after its body was read.
	GetBody func() (io.Reader, error)

	// Role is what the application is asked to do. Zero means RoleResponder.
	Role Role

	// Data is the file of a Filter. Its length is FCGI_DATA_LENGTH. It is nil for any other role.
	// The library reads it and does not close it.
	Data io.Reader

	// Modifier1 says what a uwsgi packet is, see uwsgi.Modifier. Zero means a WSGI request.
	Modifier1 uint8

	// Modifier2 has a meaning that depends on Modifier1.
	Modifier2 uint8

	// Stderr, if not nil, receives what the application writes to STDERR during this request,
	// unchanged and instead of the client's Stderr. Only clients use it. Its errors are ignored.
	Stderr io.Writer

	// Interim, if not nil, is called by a client for each 1xx response other than 101. h is valid
	// until Interim returns. If Interim returns an error, the request fails with it. Nil means that
	// interim responses are dropped.
	Interim func(status int, h *Header) error

	// Upgrade is the protocol that the request asks to switch to. A client refuses a 101 to a
	// request whose Upgrade is empty with ErrMalformed. A server sets it, in the spelling of the
	// HTTP client, if the request asks for a WebSocket, the only upgrade that Hijack can grant.
	Upgrade string

	// Peer and Local are the addresses of a server's connection. They are zero for Unix sockets.
	Peer, Local netip.AddrPort

	context ContextSource
	memory  bytes.Reader
	content []byte
	again   func() (io.Reader, error)
}

// body returns the body to be sent, nil if there is none, and its length.
func (r *Request) body() (body io.Reader, length int64) { return params.Body(r.Body, r.ContentLength) }

// A ContextSource returns the context of a request, and creates it on the first call.
type ContextSource interface {
	RequestContext() context.Context
}

// Context returns the context of the request. In a server it is done when the handler has returned,
// when the web server aborts the request or closes the connection or its sending side, or when the
// server is closed. context.Cause then returns ErrAborted (an abort, which FastCGI has),
// ErrDisconnected, ErrServerClosed, or context.Canceled once the handler has returned. The context
// is created by the first call, is never used for another request, and may be kept. Elsewhere
// Context returns the context of SetContext, or context.Background.
func (r *Request) Context() context.Context {
	if r.context == nil {
		return context.Background()
	}
	return r.context.RequestContext()
}

// SetContext makes ctx the context of r, for a Handler that passes r on to another. ctx should be
// derived from r.Context. Reset and CopyFrom remove it.
func (r *Request) SetContext(ctx context.Context) { r.context = fixedContext{ctx} }

// SetContextSource makes Context return s.RequestContext(). A server uses it to create the context
// of a request only if a handler asks for it. A nil s removes the context.
func (r *Request) SetContextSource(s ContextSource) { r.context = s }

// fixedContext is the ContextSource of a context that exists.
type fixedContext struct{ ctx context.Context }

func (f fixedContext) RequestContext() context.Context { return f.ctx }

// SetBody makes b the body: it sets Body, ContentLength and GetBody. b is not copied and must not
// change while the request is in use. SetBody allocates once per Request, not per call.
func (r *Request) SetBody(b []byte) {
	r.memory.Reset(b)
	r.content = b
	if r.again == nil {
		r.again = func() (io.Reader, error) { return bytes.NewReader(r.content), nil }
	}
	r.Body, r.ContentLength, r.GetBody = &r.memory, int64(len(b)), r.again
}

// Reset makes r a request without params and without a body. It keeps its memory.
func (r *Request) Reset() {
	r.Params.Reset()
	r.memory.Reset(nil)
	r.set(&Request{again: r.again})
}

// set sets every field of r to that of src, except Params and the reader of SetBody.
func (r *Request) set(src *Request) {
	r.Body, r.ContentLength, r.GetBody = src.Body, src.ContentLength, src.GetBody
	r.Role, r.Data = src.Role, src.Data
	r.Modifier1, r.Modifier2 = src.Modifier1, src.Modifier2
	r.Stderr, r.Interim, r.Upgrade = src.Stderr, src.Interim, src.Upgrade
	r.Peer, r.Local = src.Peer, src.Local
	r.context, r.content, r.again = src.context, src.content, src.again
}

// CopyFrom makes r a copy of src. The copy has its own params and no context. It shares the bytes
// given to SetBody, the readers and writers, and the functions.
func (r *Request) CopyFrom(src *Request) {
	if r == src {
		return
	}
	r.Params.CopyFrom(&src.Params)
	again := r.again
	r.set(src)
	r.context, r.again = nil, again
}

// SetTarget resets r and sets the params that every application expects for a request of target,
// such as "/status?json": GATEWAY_INTERFACE, SERVER_SOFTWARE, SERVER_PROTOCOL, SERVER_NAME,
// SERVER_PORT, REMOTE_ADDR, REQUEST_METHOD, REQUEST_URI, SCRIPT_NAME (empty), PATH_INFO and
// QUERY_STRING. It returns ErrParam, and leaves r without params, if method is not a token or if
// target neither begins with "/" nor is "*", or contains a control byte, a space or a malformed
// escape.
func (r *Request) SetTarget(method, target string) error {
	r.Reset()
	if !grammar.IsToken(method) {
		return fmt.Errorf("gateway: method: %w", ErrParam)
	}
	path, query, _ := strings.Cut(target, "?")
	info, err := url.PathUnescape(path)
	if err != nil || !targetForm(target) || strings.IndexByte(info, 0) >= 0 {
		return fmt.Errorf("gateway: target: %w", ErrParam)
	}
	for _, p := range [...][2]string{
		{"GATEWAY_INTERFACE", "CGI/1.1"},
		{"SERVER_SOFTWARE", "gatehouse"},
		{"SERVER_PROTOCOL", "HTTP/1.1"},
		{"SERVER_NAME", "localhost"},
		{"SERVER_PORT", "80"},
		{"REMOTE_ADDR", "127.0.0.1"},
		{"REQUEST_METHOD", method},
		{"REQUEST_URI", target},
		{"SCRIPT_NAME", ""},
		{"PATH_INFO", info},
		{"QUERY_STRING", query},
	} {
		r.Params.Add(p[0], p[1])
	}
	return nil
}

func targetForm(target string) bool {
	if target != "*" && !strings.HasPrefix(target, "/") {
		return false
	}
	return strings.IndexFunc(target, func(c rune) bool { return c <= ' ' || c == 0x7f }) < 0
}
