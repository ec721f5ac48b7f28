package gatewayhttp

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http/httpguts"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/client"
	"github.com/gatehouse-go/gatehouse/internal/grammar"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/params"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// outgoing makes the http.Request that a Client sends for r, without its body.
func (c *Client) outgoing(ctx context.Context, r *gateway.Request) (*http.Request, error) {
	if r.Role > gateway.RoleResponder {
		return nil, fmt.Errorf("role %v: %w", r.Role, gateway.ErrParam)
	}
	if _, err := params.Send((*pairs.List)(&r.Params)); err != nil {
		return nil, err
	}
	method := r.Method()
	if !grammar.IsToken(method) || method == http.MethodConnect {
		return nil, fmt.Errorf("REQUEST_METHOD: %w", gateway.ErrParam)
	}
	u, err := target(r.URI())
	if err != nil {
		return nil, err
	}
	if u.Scheme = "http"; c.TLS != nil {
		u.Scheme = "https"
	}
	u.Host = "backend" // the transport connects to Addr, whatever is here
	host := r.Host()
	if _, _, ok := authority(host); !ok {
		return nil, fmt.Errorf("HTTP_HOST: %w", gateway.ErrParam)
	}
	if host == "" {
		host = "localhost"
	}
	out := (&http.Request{Method: method, URL: u, Host: host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(valueless{ctx})
	if out.Header, err = c.outgoingFields(r, host); err != nil {
		return nil, err
	}
	return out, nil
}

// target returns a URL whose RequestURI is uri, or its part in origin form.
func target(uri string) (*url.URL, error) {
	if strings.IndexFunc(uri, func(c rune) bool { return c <= ' ' || c == 0x7f }) >= 0 {
		return nil, fmt.Errorf("REQUEST_URI: %w", gateway.ErrParam)
	}
	if uri != "*" && !strings.HasPrefix(uri, "/") {
		_, rest, absolute := strings.Cut(uri, "://")
		if !absolute {
			return nil, fmt.Errorf("REQUEST_URI: %w", gateway.ErrParam) // in authority form, or none
		}
		i := strings.IndexAny(rest, "/?")
		switch {
		case i < 0:
			uri = "/"
		case rest[i] == '?':
			uri = "/" + rest[i:]
		default:
			uri = rest[i:]
		}
	}
	if !strings.HasPrefix(uri, "//") {
		return &url.URL{Opaque: uri}, nil
	}
	// As Opaque it would be sent as http://…, which is another target.
	u := new(url.URL)
	var found bool
	u.RawPath, u.RawQuery, found = strings.Cut(uri, "?")
	u.ForceQuery = found
	var err error
	if u.Path, err = url.PathUnescape(u.RawPath); err != nil || u.RequestURI() != uri {
		return nil, fmt.Errorf("REQUEST_URI: %w", gateway.ErrParam)
	}
	return u, nil
}

// outgoingFields returns the header that is sent for r.
func (c *Client) outgoingFields(r *gateway.Request, host string) (http.Header, error) {
	h := make(http.Header)
	var connection []string
	for name, value := range r.Params.All() {
		if !isField(name, value) {
			continue
		}
		var buf strings.Builder
		writeFieldName(&buf, name)
		field, value := buf.String(), string(value)
		if field == "Connection" {
			connection = append(connection, value)
		}
		if field == "Content-Type" || !notPassed(field) && (c.TrustForwarded || !isForwarded(field)) {
			h[outgoingName(field)] = append(h[outgoingName(field)], value)
		}
	}
	for field := range listed(connection) {
		if field != "Content-Type" {
			h.Del(field)
		}
	}
	if r.Upgrade != "" {
		h.Set("Connection", "Upgrade")
		h.Set("Upgrade", r.Upgrade)
	}
	if h["User-Agent"] == nil {
		h["User-Agent"] = nil // or else the transport would add one
	}
	c.addForwarded(h, r, host)
	return h, nil
}

// checkFields looks at the fields as the transport does, which would report a fault only later.
func checkFields(h http.Header) error {
	for name, values := range h {
		valid := httpguts.ValidHeaderFieldName(name)
		for _, v := range values {
			valid = valid && httpguts.ValidHeaderFieldValue(v)
		}
		if !valid {
			return fmt.Errorf("http: field %q: %w", name, gateway.ErrParam)
		}
	}
	return nil
}

// outgoingName returns the key in a header. A request with an Idempotency-Key would be sent again
// by the transport, whatever its method is. It finds the field by its canonical name alone.
func outgoingName(field string) string {
	if field == "Idempotency-Key" || field == "X-Idempotency-Key" {
		return strings.ToLower(field)
	}
	return field
}

// sendOnce makes the transport send a request that Rewrite has changed once.
func sendOnce(out *http.Request) {
	out.GetBody = nil
	for _, field := range [...]string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, set := out.Header[field]; set {
			delete(out.Header, field)
			out.Header[outgoingName(field)] = values
		}
	}
}

// addForwarded adds what this program knows of the client. What a trusted proxy said stays.
func (c *Client) addForwarded(h http.Header, r *gateway.Request, host string) {
	if addr := r.RemoteAddr(); addr != "" {
		h.Set("X-Forwarded-For", strings.Join(append(h["X-Forwarded-For"], addr), ", "))
	}
	proto := "http"
	if r.TLS() {
		proto = "https"
	}
	for name, value := range map[string]string{"X-Forwarded-Proto": proto, "X-Forwarded-Host": host} {
		if h[name] == nil {
			h.Set(name, value)
		}
	}
}

// A valueless is a context without values: a trace of the caller would be told of what Interim
// receives as well.
type valueless struct{ context.Context }

func (valueless) Value(any) any { return nil }

// AfterFunc saves contexts that are derived from this one a goroutine.
func (v valueless) AfterFunc(f func()) (stop func() bool) { return context.AfterFunc(v.Context, f) }

// An outgoingBody is the body of a request, up to its length. It is not read after the exchange is
// over. The transport reads it in its own goroutine.
type outgoingBody struct {
	r     io.Reader
	left  int64      // -1 means that the length is unknown
	small bool       // its end is looked for before its last bytes are sent, as the other clients do
	mu    sync.Mutex // held while r is read
	over  atomic.Bool
	sent  atomic.Int64
	err   atomic.Pointer[error]
}

// end ends the reading. It waits for a body in memory; another one may be left in a Read of r,
// which is the last.
func (b *outgoingBody) end() {
	b.over.Store(true)
	if stream.InMemory(b.r) {
		b.mu.Lock()
		defer b.mu.Unlock()
	}
}

func (b *outgoingBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.read(p)
	b.sent.Add(int64(n))
	if err != nil && err != io.EOF {
		err = client.BodyFault(err)
		b.err.Store(&err)
	}
	return n, err
}

func (b *outgoingBody) read(p []byte) (int, error) {
	if b.left < 0 || len(p) == 0 {
		return b.r.Read(p)
	}
	if b.left == 0 {
		return b.probe(p)
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	switch {
	case err == io.EOF && b.left > 0:
		err = params.ErrShortBody
	case err == nil && b.left == 0 && b.small:
		if _, err = b.probe(make([]byte, 1)); err == params.ErrLongBody {
			n = 0
		}
	}
	return n, err
}

// probe looks whether the body ends at its length.
func (b *outgoingBody) probe(p []byte) (int, error) {
	n, err := b.r.Read(p[:1])
	if n > 0 {
		return 0, params.ErrLongBody
	}
	return 0, err
}

func (b *outgoingBody) Close() error { return nil }

// fault returns the error of reading the body, or nil.
func (b *outgoingBody) fault() error {
	if b == nil || b.err.Load() == nil {
		return nil
	}
	return *b.err.Load()
}
