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
)

// Role is what an application is asked to do, FastCGI section 6; its constants are in package fastcgi. 0 stands for
// Responder; other protocols refuse any other.
type Role uint16

func (r Role) String() string {
	switch r {
	case 0, 1:
		return "Responder"
	case 2:
		return "Authorizer"
	case 3:
		return "Filter"
	}
	return fmt.Sprintf("Role(%d)", uint16(r))
}

// Request is one request. The zero value is ready. Its fields beat the params of the same meaning (CONTENT_LENGTH).
// Reset and use it again: it keeps its memory. Do not copy; see CopyFrom.
type Request struct {
	Params        Params
	Body          io.Reader                         // nil stands for none; the library never closes it
	ContentLength int64                             // exact length of Body in bytes; -1 stands for unknown
	GetBody       func() (io.Reader, error)         // Body once more, for a retry; nil stands for "cannot"
	Role          Role                              // 0 stands for Responder
	Data          io.Reader                         // a Filter's file; its length is FCGI_DATA_LENGTH
	Modifier1     uint8                             // uwsgi: what the packet is; 0 stands for a WSGI request
	Modifier2     uint8                             // uwsgi: its meaning depends on Modifier1
	Stderr        io.Writer                         // client: raw STDERR of this request; nil stands for Client.Stderr
	Interim       func(status int, h *Header) error // client: a 1xx answer other than 101, h valid until it returns; nil stands for "drop"
	Upgrade       string                            // the token asked for; client: "" makes a 101 an error; server: "websocket", where Hijack can grant it
	Peer, Local   netip.AddrPort                    // server: of the socket; zero for Unix sockets

	context ContextSource
	memory  bytes.Reader
	content []byte
	again   func() (io.Reader, error)
}

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

// SetBody makes b the body: Body, ContentLength and GetBody. b is not copied and must not change while the request is
// in use. It allocates once per Request, not per call.
func (r *Request) SetBody(b []byte) {
	r.memory.Reset(b)
	r.content = b
	if r.again == nil {
		r.again = func() (io.Reader, error) { return bytes.NewReader(r.content), nil }
	}
	r.Body, r.ContentLength, r.GetBody = &r.memory, int64(len(b)), r.again
}

// Reset makes r a request with no params and no body; it keeps its memory.
func (r *Request) Reset() {
	r.Params.Reset()
	r.memory.Reset(nil)
	r.set(&Request{again: r.again})
}

// set gives r every field of src but Params and the reader of SetBody.
func (r *Request) set(src *Request) {
	r.Body, r.ContentLength, r.GetBody = src.Body, src.ContentLength, src.GetBody
	r.Role, r.Data = src.Role, src.Data
	r.Modifier1, r.Modifier2 = src.Modifier1, src.Modifier2
	r.Stderr, r.Interim, r.Upgrade = src.Stderr, src.Interim, src.Upgrade
	r.Peer, r.Local = src.Peer, src.Local
	r.context, r.content, r.again = src.context, src.content, src.again
}

// CopyFrom makes r a copy that shares nothing but the readers, writers and functions.
func (r *Request) CopyFrom(src *Request) {
	if r == src {
		return
	}
	r.Params.CopyFrom(&src.Params)
	again := r.again
	r.set(src)
	r.context, r.again = nil, again
}

// SetTarget resets r and gives it the params that every application expects for method and target ("/status?json"):
// REQUEST_METHOD, REQUEST_URI, SCRIPT_NAME "", PATH_INFO, QUERY_STRING, SERVER_*, GATEWAY_INTERFACE, REMOTE_ADDR.
// A method that is no token, a target that does not begin with "/" (or is not "*") or that holds a control byte, a
// space or a broken escape is ErrParam, and leaves r without params.
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
