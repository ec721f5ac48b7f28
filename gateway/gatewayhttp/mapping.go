package gatewayhttp

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/grammar"
)

// Mapping describes how an http.Request becomes a gateway.Request, for Proxy and Transport. A nil
// *Mapping is a Mapping of zero values. The fields must not be changed after the first use.
//
// The path and the query are those of URL. REQUEST_URI is RequestURI, or URL if that is empty.
// HTTP_HOST is Host. Every other header field whose name consists of letters, digits and "-"
// becomes an HTTP_* param; these are sorted by name. The values of a repeated field are joined with
// ", ", and those of Cookie with "; ".
//
// The following fields are not passed: Content-Type and Content-Length, which have their own
// params; Proxy and Expect; the hop-by-hop fields Connection and those that it names, Keep-Alive,
// Proxy-Authenticate, Proxy-Authorization, Proxy-Connection, TE, Trailer, Transfer-Encoding and
// Upgrade, except Connection and Upgrade of a request for a WebSocket; and an empty User-Agent.
type Mapping struct {
	// Root is the document root as the application sees it. If it is set, the path names a script,
	// as PHP expects: SCRIPT_FILENAME is Root followed by the path of the script without Prefix. If
	// it is empty, the path below Prefix is PATH_INFO, as WSGI applications expect.
	Root string

	// Files, if not nil, is the file system below Root. A request whose script is not in it fails
	// with fs.ErrNotExist before the backend is called. Nil means that no file is checked, since
	// Root may be in another container.
	Files fs.FS

	// Prefix is the path at which the application is mounted, without a slash at the end. If the
	// path of a request is below it, or http.StripPrefix has removed it, SCRIPT_NAME begins with it
	// and the search for a script ignores it. Any other path is passed as if Prefix were empty.
	Prefix string

	// Split lists the extensions that end SCRIPT_NAME, if Root is set. Nil means ".php"; an empty
	// list means that the whole path is SCRIPT_NAME.
	Split []string

	// Index is appended to a path that ends with a slash and names no script, if Root is set. An
	// empty Index means "index.php".
	Index string

	// Params, if not nil, changes the params after everything else has been set.
	Params func(p *gateway.Params, r *http.Request) error

	// Minimal omits all params except those that the protocol requires and those that WithParam and
	// Params add. rTorrent needs it.
	Minimal bool

	// Body says what to do with request bodies. The zero value is SpoolUnknownBody.
	Body BodyPolicy

	// Spool holds the limits for bodies that are spooled. Its Backend and All are not used.
	Spool gateway.Spool
}

// BodyPolicy says what a Proxy or a Transport does with the bodies of requests.
type BodyPolicy uint8

const (
	// SpoolUnknownBody reads a body of unknown length to its end before the backend is called: into
	// memory and then into a temporary file. A body whose length is known is passed on as it
	// arrives.
	SpoolUnknownBody BodyPolicy = iota

	// SpoolBody reads every body to its end before the backend is called, as nginx does by default,
	// so that a slow client does not occupy a worker. Use it in front of applications whose workers
	// take one request at a time.
	SpoolBody

	// RefuseUnknownBody refuses a body of unknown length with gateway.ErrLengthRequired, status
	// 411.
	RefuseUnknownBody

	// StreamBody passes every body on as it arrives, one of unknown length without a length. The
	// backend must support that, as fastcgi.Client does with UnknownLength.
	StreamBody
)

var noMapping Mapping

func (m *Mapping) orZero() *Mapping { return cmp.Or(m, &noMapping) }

// Script is a script that the program has chosen. It replaces the one that Mapping would find in
// the path.
type Script struct{ Filename, Name, PathInfo string }

type scriptKey struct{}

// WithScript returns a context that makes s the script of the requests that use it. Mapping then
// does not look for one.
func WithScript(ctx context.Context, s Script) context.Context {
	return context.WithValue(ctx, scriptKey{}, s)
}

// An extra is a param for a single request. Those of a context form a list.
type extra struct {
	name, value string
	before      *extra
}

type extraKey struct{}

// WithParam returns a context that adds a param to the requests that use it. The param replaces one
// that Mapping sets, and Mapping.Params can replace it in turn. Of several params with one name the
// last counts.
func WithParam(ctx context.Context, name, value string) context.Context {
	before, _ := ctx.Value(extraKey{}).(*extra)
	return context.WithValue(ctx, extraKey{}, &extra{name, value, before})
}

// ContextParam returns the value that WithParam gave the param of that name, or "".
func ContextParam(r *http.Request, name string) string {
	for e, _ := r.Context().Value(extraKey{}).(*extra); e != nil; e = e.before {
		if e.name == name {
			return e.value
		}
	}
	return ""
}

// AddParams adds the params of r to p. It omits CONTENT_LENGTH, which clients set from
// ContentLength. The error is gateway.ErrParam if the path contains a NUL, CR or LF, if it leads
// out of Root, or if the host or the protocol is invalid. It is fs.ErrNotExist if Root is set and
// the path names no script, or one that is not in Files. An error of m.Params is returned as it is.
func (m *Mapping) AddParams(p *gateway.Params, r *http.Request) error {
	m = m.orZero()
	if !m.Minimal {
		if err := m.all(p, r); err != nil {
			return fmt.Errorf("gatewayhttp: %w", err)
		}
	}
	setExtras(p, r)
	if m.Params != nil {
		return m.Params(p, r)
	}
	return nil
}

// setExtras sets what WithParam added. The last value of a name counts.
func setExtras(p *gateway.Params, r *http.Request) {
	var list []*extra
	for e, _ := r.Context().Value(extraKey{}).(*extra); e != nil; e = e.before {
		list = append(list, e)
	}
	for _, e := range slices.Backward(list) {
		p.Set(e.name, e.value)
	}
}

func (m *Mapping) all(p *gateway.Params, r *http.Request) error {
	s, err := m.script(r)
	if err != nil {
		return err
	}
	proto, err := protocol(r)
	if err != nil {
		return err
	}
	p.Add("GATEWAY_INTERFACE", "CGI/1.1")
	p.Add("SERVER_SOFTWARE", "gatehouse")
	p.Add("SERVER_PROTOCOL", proto)
	p.Add("REQUEST_METHOD", methodOf(r))
	p.Add("REQUEST_URI", requestURI(r))
	p.Add("SCRIPT_NAME", s.Name)
	p.Add("PATH_INFO", s.PathInfo)
	p.Add("QUERY_STRING", r.URL.RawQuery)
	if m.Root != "" {
		p.Add("DOCUMENT_ROOT", m.Root)
		if s.PathInfo != "" {
			p.Add("PATH_TRANSLATED", path.Join(m.Root, path.Clean("/"+s.PathInfo)))
		}
	}
	if s.Filename != "" {
		p.Add("SCRIPT_FILENAME", s.Filename)
	}
	if v := r.Header["Content-Type"]; len(v) > 0 {
		p.Add("CONTENT_TYPE", v[0])
	}
	if err := addPeers(p, r); err != nil {
		return err
	}
	addFields(p, r.Header)
	return nil
}

// script finds the script in the path, and what follows it.
func (m *Mapping) script(r *http.Request) (Script, error) {
	urlPath := cmp.Or(r.URL.Path, "/")            // http.Get("http://host")
	if strings.ContainsAny(urlPath, "\x00\r\n") { // rule F8, F26
		return Script{}, fmt.Errorf("control byte in the path: %w", gateway.ErrParam) // F8, F26
	}
	if s, ok := r.Context().Value(scriptKey{}).(Script); ok {
		return s, nil
	}
	prefix, urlPath := m.below(r, urlPath)
	if m.Root == "" {
		return Script{Name: prefix, PathInfo: rooted(urlPath)}, nil
	}
	name, info, ok := m.split(urlPath)
	if !ok {
		return Script{}, fmt.Errorf("no script in the path: %w", fs.ErrNotExist)
	}
	if !strings.HasPrefix(name, "/") || path.Clean(name) != name || strings.Contains(name, `\`) {
		return Script{}, fmt.Errorf("path of a script: %w", gateway.ErrParam)
	}
	if m.Files != nil {
		info, err := fs.Stat(m.Files, strings.TrimPrefix(name, "/"))
		if err != nil || info.IsDir() {
			return Script{}, fmt.Errorf("script: %w", fs.ErrNotExist)
		}
	}
	return Script{Filename: strings.TrimSuffix(m.Root, "/") + name, Name: prefix + name, PathInfo: info}, nil
}

// below removes Prefix from the path, unless that was done before. A path that is not below Prefix
// has no prefix: together, name and info are always the path (F24).
func (m *Mapping) below(r *http.Request, urlPath string) (prefix, rest string) {
	prefix = strings.TrimSuffix(m.Prefix, "/")
	if stripped(r, prefix, urlPath) {
		return prefix, urlPath
	}
	rest, ok := strings.CutPrefix(urlPath, prefix)
	if !ok || rest != "" && rest[0] != '/' { // rule F24
		return "", urlPath
	}
	return prefix, rest
}

// rooted adds the slash at the beginning, which http.StripPrefix may have removed.
func rooted(p string) string {
	if p == "" || p[0] == '/' || p == "*" {
		return p
	}
	return "/" + p
}

// stripped reports whether prefix was removed from the path before, as by http.StripPrefix,
// possibly with the slash.
func stripped(r *http.Request, prefix, urlPath string) bool {
	if prefix == "" || r.RequestURI == "" {
		return false
	}
	asked, err := url.ParseRequestURI(r.RequestURI)
	return err == nil && asked.Path != urlPath && asked.Path == prefix+rooted(urlPath)
}

// split splits p after the first element that ends with an extension. Extensions match without
// regard to the case of ASCII letters, and otherwise byte for byte: other case folding changes
// lengths (F9).
func (m *Mapping) split(p string) (name, info string, ok bool) {
	extensions := m.Split
	if extensions == nil {
		extensions = []string{".php"}
	}
	if i := scriptEnd(p, extensions); i > 0 {
		return p[:i], p[i:], true
	}
	if !strings.HasSuffix(p, "/") {
		return p, "", len(extensions) == 0 && p != ""
	}
	return p + cmp.Or(m.Index, "index.php"), "", true
}

// scriptEnd returns the end of the first element of p that ends with an extension, or 0.
func scriptEnd(p string, extensions []string) int {
	for end := 1; end <= len(p); end++ {
		if end < len(p) && p[end] != '/' {
			continue
		}
		for _, e := range extensions {
			if len(e) > 0 && len(e) < end && grammar.EqualFold(p[end-len(e):end], e) { // rule F9
				return end
			}
		}
	}
	return 0
}

// protocol returns the protocol of r as applications expect it: they copy it into their status line
// (F13).
func protocol(r *http.Request) (string, error) {
	switch {
	case r.ProtoMajor == 1 && r.ProtoMinor == 0:
		return "HTTP/1.0", nil
	case r.ProtoMajor == 2:
		return "HTTP/2.0", nil
	case r.ProtoMajor == 3:
		return "HTTP/3.0", nil
	case r.ProtoMajor == 1 || r.ProtoMajor == 0:
		return "HTTP/1.1", nil
	}
	return "", fmt.Errorf("protocol: %w", gateway.ErrParam)
}

// methodOf returns the method of r. That of a client's request may be empty.
func methodOf(r *http.Request) string { return cmp.Or(r.Method, "GET") }

func requestURI(r *http.Request) string {
	if r.RequestURI != "" {
		return r.RequestURI
	}
	return r.URL.RequestURI()
}

// addPeers adds what is known about both ends of the client's connection.
func addPeers(p *gateway.Params, r *http.Request) error {
	host := cmp.Or(r.Host, r.URL.Host) // rule F45
	name, port, ok := authority(host)
	if !ok {
		return fmt.Errorf("host: %w", gateway.ErrParam)
	}
	usual, scheme := "80", "http"
	if r.TLS != nil {
		usual, scheme = "443", "https"
		p.Add("HTTPS", "on")
	}
	p.Add("REQUEST_SCHEME", scheme)
	p.Add("SERVER_NAME", cmp.Or(name, "localhost")) // HTTP/1.0 without Host
	p.Add("SERVER_PORT", cmp.Or(port, usual))
	if h, pt, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		addr, _, _ := strings.Cut(h, "%")
		p.Add("REMOTE_ADDR", addr)
		p.Add("REMOTE_PORT", pt)
	} else {
		p.Add("REMOTE_ADDR", "") // a Unix socket
	}
	if host != "" {
		p.Add("HTTP_HOST", host)
	}
	return nil
}

// addFields adds the HTTP_* params.
func addFields(p *gateway.Params, header http.Header) {
	drop := named(header["Connection"])
	var buf [64]byte
	for _, field := range slices.Sorted(maps.Keys(header)) {
		canonical := http.CanonicalHeaderKey(field)
		if notPassed(canonical) || drop[canonical] {
			continue
		}
		name := paramName(append(buf[:0], "HTTP_"...), field) // rule F11, F12
		values := header[field]
		if name == nil || len(values) == 0 || canonical == "User-Agent" && len(values) == 1 && values[0] == "" {
			continue
		}
		sep := ", "
		if canonical == "Cookie" {
			sep = "; "
		}
		value := values[0]
		if len(values) > 1 {
			value = strings.Join(values, sep)
		}
		p.Add(string(name), value)
	}
}

// request sets req from r.
func (m *Mapping) request(req *gateway.Request, r *http.Request) error {
	m = m.orZero()
	if err := m.AddParams(&req.Params, r); err != nil {
		return err
	}
	req.Upgrade = upgradeToken(r)
	if req.Upgrade != "" && !m.Minimal {
		req.Params.Set("HTTP_UPGRADE", req.Upgrade)
		req.Params.Set("HTTP_CONNECTION", "Upgrade")
	}
	req.ContentLength = r.ContentLength
	switch {
	case r.Body == nil || r.Body == http.NoBody:
		req.ContentLength = 0
	case r.ContentLength == 0 && r.RequestURI != "":
		// In a server's request 0 is a length. In a client's request it means unknown.
	default:
		req.Body = r.Body
		if r.ContentLength == 0 {
			req.ContentLength = -1
		}
	}
	if r.GetBody != nil && req.Body != nil {
		req.GetBody = func() (io.Reader, error) { return r.GetBody() }
	}
	if req.ContentLength < 0 && m.Body == RefuseUnknownBody {
		return fmt.Errorf("gatewayhttp: %w", gateway.ErrLengthRequired)
	}
	return nil
}

// Request returns the request that a Proxy would send for r, for tests and for programs that call a
// client themselves. Its Body reads r.Body. A body that a Proxy would spool has a ContentLength of
// -1. The error is that of AddParams, or gateway.ErrLengthRequired if the policy is
// RefuseUnknownBody and the length is unknown.
func (m *Mapping) Request(r *http.Request) (*gateway.Request, error) {
	req := new(gateway.Request)
	if err := m.request(req, r); err != nil {
		return nil, err
	}
	return req, nil
}

// backend returns b, behind a Spool if the body of req is to be read first.
func (m *Mapping) backend(b gateway.RoundTripper, req *gateway.Request) gateway.RoundTripper {
	m = m.orZero()
	unknown := req.ContentLength < 0 && m.Body == SpoolUnknownBody
	if !unknown && m.Body != SpoolBody {
		return b
	}
	s := m.Spool
	s.Backend, s.All = b, m.Body == SpoolBody
	return &s
}
