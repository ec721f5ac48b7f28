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

// Role is what an application is asked to do, FastCGI section 6. Other protocols refuse every role but Responder.
type Role uint16

const (
	// RoleResponder is the role of an application that responds to HTTP requests. A Role of zero means the same.
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

// NoBody is a body without bytes. It is the Body of every request of length 0 that a server or a Reader has received.
// Clients treat it as nil.
var NoBody = params.NoBody{}

// Request is one request. The zero value is ready. It keeps its memory when it is Reset. It must not be copied; see
// CopyFrom.
type Request struct {
	// Params are the request's params. Fields of the request win over params of the same meaning, such as
	// CONTENT_LENGTH.
	Params Params

	// Body is the request's body. In a Handler and after ReadRequest it is never nil. In a request to be sent nil and
	// NoBody mean that there is none. The library never closes it.
	Body io.Reader

	// ContentLength is the exact length of Body in bytes; -1 means unknown. In a request to be sent, 0 with a Body other
	// than nil and NoBody means the length of a bytes.Reader, bytes.Buffer or strings.Reader, and unknown for any other.
	ContentLength int64

	// GetBody, if not nil, returns Body once more, so that the request can be sent again.
	GetBody func() (io.Reader, error)

	// Role is what the application is asked to do. Zero means RoleResponder.
	Role Role

	// Data is the file of a Filter. Its length is FCGI_DATA_LENGTH.
	Data io.Reader

	// Modifier1 says what a uwsgi packet is, see uwsgi.Modifier. Zero means a WSGI request.
	Modifier1 uint8

	// Modifier2 has a meaning that depends on Modifier1.
	Modifier2 uint8

	// Stderr, if not nil, receives the raw STDERR of this request on a client. Nil means the Stderr of the client.
	Stderr io.Writer

	// Interim, if not nil, is called on a client for each 1xx response other than 101. h is valid until it returns. Its
	// error ends the request. Nil means that interim responses are dropped.
	Interim func(status int, h *Header) error

	// Upgrade is the protocol that the request asks to switch to. On a client, an empty Upgrade makes a 101 an error. On
	// a server it is "websocket" where Hijack can grant it.
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

// A ContextSource makes the context of a request when it is first asked for.
type ContextSource interface {
	RequestContext() context.Context
}

// Context returns the context of the request. On a server it is made when first asked for, is an object of its own that
// may be kept, is cancelled when the request ends, is aborted or loses its peer, and has an AfterFunc method. Elsewhere
// it is context.Background, unless SetContext has set another.
func (r *Request) Context() context.Context {
	if r.context == nil {
		return context.Background()
	}
	return r.context.RequestContext()
}

// SetContext makes ctx the context of r, for a Handler that passes r on to another. ctx should be derived from
// r.Context. Reset and CopyFrom remove it.
func (r *Request) SetContext(ctx context.Context) { r.context = fixedContext{ctx} }

// SetContextSource makes the context of r the one that s returns, for a server whose requests pay for a context only if
// it is used. A nil s removes the context.
func (r *Request) SetContextSource(s ContextSource) { r.context = s }

// fixedContext is the ContextSource of a context that exists.
type fixedContext struct{ ctx context.Context }

func (f fixedContext) RequestContext() context.Context { return f.ctx }

// SetBody makes b the body: it sets Body, ContentLength and GetBody. b is not copied and must not change while the request
// is in use. SetBody allocates once per Request, not per call.
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

// CopyFrom makes r a copy of src that shares only readers, writers and functions with it. The context is not copied.
func (r *Request) CopyFrom(src *Request) {
	if r == src {
		return
	}
	r.Params.CopyFrom(&src.Params)
	again := r.again
	r.set(src)
	r.context, r.again = nil, again
}

// SetTarget resets r and sets the params that every application expects for method and target ("/status?json"):
// REQUEST_METHOD, REQUEST_URI, SCRIPT_NAME "", PATH_INFO, QUERY_STRING, SERVER_*, GATEWAY_INTERFACE, REMOTE_ADDR.
// ErrParam means that method is not a token, or that target neither begins with "/" nor is "*", or has a control byte, a
// space or a malformed escape. r then has no params.
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
