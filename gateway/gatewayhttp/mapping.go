package gatewayhttp

import (
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

// Mapping says how an http.Request becomes a gateway.Request. Transport and Proxy share one. nil is a Mapping of zero
// values. Path and query come from URL; REQUEST_URI from RequestURI, else URL. Set its fields before the first use.
//
// Every field of the request whose name has only letters, digits and "-" becomes an HTTP_* param, values joined with
// ", " (Cookie's with "; "), in the order of their names; but for Proxy, Proxy-Authorization, Expect, Content-Type and
// Content-Length (which have params of their own), what belongs to one hop (Connection and what it names, Keep-Alive,
// TE, Trailer, Transfer-Encoding, Upgrade), and a User-Agent that is empty. HTTP_HOST is Request.Host.
type Mapping struct {
	Root    string                                         // what the application is told. Set: PHP's way, SCRIPT_FILENAME is Root and SCRIPT_NAME. "": WSGI's, all of the path is PATH_INFO
	Files   fs.FS                                          // what we look into before we ask; nil stands for "do not look" (Root may live in another container)
	Prefix  string                                         // where the application is mounted: SCRIPT_NAME begins so. Cut off URL.Path if it is there
	Split   []string                                       // extensions that end SCRIPT_NAME; nil stands for ".php", empty for "all of the path", with Root
	Index   string                                         // after a path that ends in "/" and names no script; "" stands for index.php, with Root
	Params  func(p *gateway.Params, r *http.Request) error // the last word
	Minimal bool                                           // what the protocol demands and what Params adds, no more: rTorrent
	Body    BodyPolicy
	Spool   gateway.Spool // its limits; Backend is not used
}

// BodyPolicy says what a Proxy or a Transport does with the bodies of requests.
type BodyPolicy uint8

const (
	// SpoolUnknownBody reads a body of unknown length to its end before the backend is called: into memory and then into a
	// temporary file. A body whose length is known is passed on as it arrives.
	SpoolUnknownBody BodyPolicy = iota

	// SpoolBody reads every body to its end before the backend is called, as nginx does by default, so that a slow client
	// does not occupy a worker. Use it in front of applications whose workers take one request at a time.
	SpoolBody

	// RefuseUnknownBody refuses a body of unknown length with gateway.ErrLengthRequired, status 411.
	RefuseUnknownBody

	// StreamBody passes every body on as it arrives, one of unknown length without a length. The backend must support
	// that, as fastcgi.Client does with UnknownLength.
	StreamBody
)

var noMapping Mapping

func (m *Mapping) orZero() *Mapping {
	if m == nil {
		return &noMapping
	}
	return m
}

// Script is a script that has been chosen; it beats what Mapping would make of the path.
type Script struct{ Filename, Name, PathInfo string }

type scriptKey struct{}

// WithScript chooses the script for requests with the returned context.
func WithScript(ctx context.Context, s Script) context.Context {
	return context.WithValue(ctx, scriptKey{}, s)
}

// extra is a param for one request; those of a context form a list.
type extra struct {
	name, value string
	before      *extra
}

type extraKey struct{}

// WithParam adds a param for requests with the returned context. It beats Mapping, but not Mapping.Params.
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

// AddParams adds r's params to p, all but CONTENT_LENGTH, which the protocol's writer takes from ContentLength.
//
// gateway.ErrParam: a NUL, CR or LF in the path, a script outside the root, a host or protocol that is none.
// fs.ErrNotExist: with Root, a path that names no script, or a script that Files lacks.
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

// setExtras sets what WithParam added; the last of a name counts.
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
	urlPath := r.URL.Path
	if urlPath == "" {
		urlPath = "/" // http.Get("http://host")
	}
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

// below takes Prefix off the path, unless somebody has done so. A path that is not below it has none: together, name and
// info are always the path (F24).
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

// rooted gives a path its slash: http.StripPrefix may have taken that, too.
func rooted(p string) string {
	if p == "" || p[0] == '/' || p == "*" {
		return p
	}
	return "/" + p
}

// stripped reports whether somebody, http.StripPrefix for one, has cut prefix off the path already, and its slash maybe.
func stripped(r *http.Request, prefix, urlPath string) bool {
	if prefix == "" || r.RequestURI == "" {
		return false
	}
	asked, err := url.ParseRequestURI(r.RequestURI)
	return err == nil && asked.Path != urlPath && asked.Path == prefix+rooted(urlPath)
}

// split cuts p after the first of its elements that ends with an extension. Extensions match without regard to the case
// of ASCII letters, and byte for byte: no other folding, whose lengths differ from those of p (F9).
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
	index := m.Index
	if index == "" {
		index = "index.php"
	}
	return p + index, "", true
}

// scriptEnd is where the first element of p that ends with an extension ends, 0 if there is none.
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

// protocol is r's as applications know it: they put it into their status line as it is (F13).
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

func methodOf(r *http.Request) string {
	if r.Method == "" {
		return "GET" // a client's request
	}
	return r.Method
}

func requestURI(r *http.Request) string {
	if r.RequestURI != "" {
		return r.RequestURI
	}
	return r.URL.RequestURI()
}

// addPeers adds what is known of both ends of the browser's connection.
func addPeers(p *gateway.Params, r *http.Request) error {
	host := r.Host // rule F45
	if host == "" {
		host = r.URL.Host
	}
	name, port, ok := authority(host)
	if !ok {
		return fmt.Errorf("host: %w", gateway.ErrParam)
	}
	usual, scheme := "80", "http"
	if r.TLS != nil {
		usual, scheme = "443", "https"
		p.Add("HTTPS", "on")
	}
	if port == "" {
		port = usual
	}
	p.Add("REQUEST_SCHEME", scheme)
	if name == "" {
		name = "localhost" // HTTP/1.0 without Host
	}
	p.Add("SERVER_NAME", name)
	p.Add("SERVER_PORT", port)
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
	var drop map[string]bool
	for name := range listed(header["Connection"]) {
		if drop == nil {
			drop = make(map[string]bool)
		}
		drop[name] = true
	}
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

// request fills req from r.
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
		// A server's request: 0 is a length. In a client's it stands for unknown.
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

// Request returns the request that a Proxy would send for r, for tests and for programs between a Proxy and a client. Its
// Body reads r.Body. Errors are those of AddParams, and gateway.ErrLengthRequired where Body refuses the request.
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
