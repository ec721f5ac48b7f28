package gatewayhttp

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
)

// An incoming is an http.Request that came through a gateway, in one allocation.
type incoming struct {
	url    url.URL
	ctx    requestContext
	body   body
	writer responseWriter
}

// A body is a gateway body as the Body of an http.Request.
type body struct{ io.Reader }

func (body) Close() error { return nil }

// A requestContext is the context of an http.Request that came through Handler.
type requestContext struct {
	context.Context
	params paramsKeeper
}

// AfterFunc saves context.AfterFunc, and contexts derived from this one, a goroutine.
func (c *requestContext) AfterFunc(f func()) (stop func() bool) {
	return context.AfterFunc(c.Context, f)
}

// A paramsKeeper copies the params when they are first asked for, until the handler has returned.
type paramsKeeper struct {
	mu   sync.Mutex
	req  *gateway.Request // nil when the handler has returned
	kept *gateway.Params
}

type paramsKey struct{}

func (c *requestContext) Value(key any) any {
	if key == (paramsKey{}) {
		return &c.params
	}
	return c.Context.Value(key)
}

// Params returns the params with which r was received. Every call for a request returns the same
// copy, which the caller may keep, but must not modify while another goroutine uses it. Params
// returns nil, which reads as empty, if r does not come from Handler or NewRequest, or if the first
// call is made after the handler has returned.
func Params(r *http.Request) *gateway.Params {
	k, _ := r.Context().Value(paramsKey{}).(*paramsKeeper)
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kept == nil && k.req != nil {
		k.kept = new(gateway.Params)
		k.kept.CopyFrom(&k.req.Params)
	}
	return k.kept
}

func (k *paramsKeeper) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.req = nil
}

// NewRequest makes an http.Request of r, with context ctx. The URL is that of REQUEST_URI in any
// form, the header holds the HTTP_* params and CONTENT_TYPE, RemoteAddr is REMOTE_ADDR and
// REMOTE_PORT, and TLS is set if Request.TLS is true. The strings are substrings of one copy of the
// params; Body is that of r. ErrParam means that there is no method, that the host is not an
// authority, that SERVER_PROTOCOL is not HTTP, that REQUEST_URI is invalid, or that a param is
// repeated, which no Reader allows.
func NewRequest(ctx context.Context, r *gateway.Request) (*http.Request, error) {
	in := new(incoming)
	if (*pairs.List)(&r.Params).Repeats() {
		return nil, fmt.Errorf("gatewayhttp: repeated param: %w", gateway.ErrParam)
	}
	in.ctx.params.kept = new(gateway.Params) // now, since r may be reused at any time
	in.ctx.params.kept.CopyFrom(&r.Params)
	return in.request(ctx, r)
}

func (in *incoming) request(ctx context.Context, r *gateway.Request) (*http.Request, error) {
	in.ctx.Context = ctx
	in.ctx.params.req = r
	var zero http.Request
	hr := zero.WithContext(&in.ctx)
	v := in.fields(hr, r)
	if err := in.line(hr, r, v); err != nil {
		return nil, fmt.Errorf("gatewayhttp: %w", err)
	}
	hr.ContentLength = r.ContentLength
	hr.Body = http.NoBody
	if r.Body != nil && r.ContentLength != 0 {
		in.body.Reader = r.Body
		hr.Body = &in.body
	}
	if r.TLS() {
		hr.TLS = &tls.ConnectionState{HandshakeComplete: true}
	}
	return hr, nil
}

// variables holds the values that are not fields, as substrings of the copy of the params.
type variables struct {
	method, uri, host, addr, port string
}

// fields sets the header, and returns the other values.
func (in *incoming) fields(hr *http.Request, r *gateway.Request) (v variables) {
	var buf strings.Builder
	buf.Grow(paramsSize(&r.Params))
	count := 0
	for name, value := range r.Params.All() {
		if isField(name, value) {
			writeFieldName(&buf, name)
			count++
		}
		buf.Write(value)
	}
	all := buf.String()
	hr.Header = make(http.Header, count)
	values := make([]string, 0, count)
	for name, value := range r.Params.All() {
		var field string
		if isField(name, value) {
			n := fieldNameSize(name)
			field, all = all[:n], all[n:]
		}
		s := all[:len(value)]
		all = all[len(value):]
		if field != "" {
			values = append(values, s)
			hr.Header[field] = values[len(values)-1 : len(values) : len(values)]
			continue
		}
		v.take(name, s)
	}
	return v
}

func (v *variables) take(name []byte, value string) {
	switch string(name) {
	case "REQUEST_METHOD":
		v.method = value
	case "REQUEST_URI":
		v.uri = value
	case "HTTP_HOST":
		v.host = value
	case "REMOTE_ADDR":
		v.addr = value
	case "REMOTE_PORT":
		v.port = value
	}
}

func paramsSize(p *gateway.Params) (n int) {
	for name, value := range p.All() {
		n += len(name) + len(value)
	}
	return n
}

// isField reports whether a param is a header field. CONTENT_TYPE is, unless it is empty, as nginx
// sends it if there was none. HTTP_CONTENT_TYPE and HTTP_CONTENT_LENGTH, which nginx sends too, are
// not, nor is HTTP_TRANSFER_ENCODING: the body is not chunked.
func isField(name, value []byte) bool {
	if string(name) == "CONTENT_TYPE" {
		return len(value) > 0
	}
	if len(name) <= len("HTTP_") || string(name[:len("HTTP_")]) != "HTTP_" {
		return false
	}
	switch string(name) {
	case "HTTP_HOST", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_PROXY":
		return false
	}
	for _, c := range name {
		if !('A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_') {
			return false
		}
	}
	return true
}

func fieldNameSize(name []byte) int {
	if string(name) == "CONTENT_TYPE" {
		return len(name)
	}
	return len(name) - len("HTTP_")
}

// writeFieldName writes "Accept-Encoding" for "HTTP_ACCEPT_ENCODING", in canonical form.
func writeFieldName(b *strings.Builder, name []byte) {
	upper := true
	for _, c := range name[len(name)-fieldNameSize(name):] {
		switch {
		case c == '_':
			c = '-'
		case !upper && 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		}
		upper = c == '-'
		b.WriteByte(c)
	}
}

// line sets what HTTP has in the request line, and Host and RemoteAddr.
func (in *incoming) line(hr *http.Request, r *gateway.Request, v variables) error {
	if v.method == "" {
		return fmt.Errorf("REQUEST_METHOD: %w", gateway.ErrParam)
	}
	hr.Method = v.method
	major, minor, ok := r.Protocol()
	if !ok {
		return fmt.Errorf("SERVER_PROTOCOL: %w", gateway.ErrParam)
	}
	hr.Proto, hr.ProtoMajor, hr.ProtoMinor = protocolText(major, minor), major, minor
	if v.host == "" {
		v.host = r.Host()
	}
	if _, _, ok := authority(v.host); !ok {
		return fmt.Errorf("HTTP_HOST: %w", gateway.ErrParam)
	}
	hr.Host = v.host
	if v.uri == "" {
		v.uri = r.URI()
	}
	hr.RequestURI = v.uri
	if err := in.parse(hr, v.uri); err != nil {
		return fmt.Errorf("REQUEST_URI: %w", gateway.ErrParam) // the cause would quote it
	}
	if v.addr != "" {
		hr.RemoteAddr = net.JoinHostPort(v.addr, cmp.Or(v.port, "0"))
	}
	return nil
}

func protocolText(major, minor int) string {
	switch [2]int{major, minor} {
	case [2]int{1, 1}:
		return "HTTP/1.1"
	case [2]int{1, 0}:
		return "HTTP/1.0"
	case [2]int{2, 0}:
		return "HTTP/2.0"
	case [2]int{3, 0}:
		return "HTTP/3.0"
	}
	return fmt.Sprintf("HTTP/%d.%d", major, minor)
}

// parse parses a request target in the four forms of RFC 9112 section 3.2. No host is put in front
// of it: "//x" is a path (F44). Most targets are a plain path and query, which are split without
// url.Parse.
func (in *incoming) parse(hr *http.Request, uri string) error {
	hr.URL = &in.url
	path, query, found := strings.Cut(uri, "?")
	if strings.HasPrefix(path, "/") && plain(path) && !strings.ContainsFunc(query, notInQuery) {
		in.url = url.URL{Path: path, RawQuery: query, ForceQuery: found && query == ""}
		return nil
	}
	target := uri
	authority := hr.Method == "CONNECT" && !strings.HasPrefix(uri, "/")
	if authority {
		target = "http://" + uri
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return err
	}
	in.url = *u
	if authority {
		in.url.Scheme = ""
	}
	return nil
}

// plain reports whether a path equals its decoded form.
func plain(path string) bool {
	for i := range len(path) {
		switch c := path[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '/' || c == '-' || c == '_' || c == '.' || c == '~':
		default:
			return false
		}
	}
	return true
}

// notInQuery reports whether url.Parse does not take c as a byte of a query.
func notInQuery(c rune) bool { return c <= ' ' || c == '#' || c == 0x7f }
