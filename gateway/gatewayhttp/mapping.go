package gatewayhttp

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// Mapping describes how an http.Request becomes a gateway.Request, for Proxy and Transport. A nil
// *Mapping is a Mapping of zero values. The fields must not be changed after the first use, and a
// Mapping must not be copied after it.
//
// The path and the query are those of URL. REQUEST_URI is RequestURI, or URL if that is empty. With
// Root the path is cleaned before a script is looked for: slashes are merged and dot segments
// resolved, as nginx does, and a slash at the end stays. A path with a backslash, NUL, CR or LF, or
// one that leaves the root, is then gateway.ErrParam.
//
// Besides the params of RFC 3875, REQUEST_URI and REQUEST_SCHEME are sent, and UWSGI_SCHEME with
// the same value: otherwise uWSGI believes the client's X-Forwarded-Proto and X-Forwarded-Ssl.
// SERVER_ADDR is the address of the connection, unless that is a Unix socket. Root adds
// DOCUMENT_ROOT and REDIRECT_STATUS, which is 200 and which php-cgi requires as a CGI program. TLS
// adds HTTPS, which is "on", SSL_PROTOCOL, such as "TLSv1.3", and SSL_CIPHER, the name of
// tls.CipherSuiteName.
//
// HTTP_HOST is Host. Every other header field whose name consists of letters, digits and "-"
// becomes an HTTP_* param; these are sorted by name. The values of a repeated field are joined with
// ", ", and those of Cookie with "; ".
//
// The following fields are not passed: Content-Type and Content-Length, which have their own
// params; Proxy and Expect; the hop-by-hop fields Connection and those that it names, Keep-Alive,
// Proxy-Authenticate, Proxy-Authorization, Proxy-Connection, TE, Trailer, Transfer-Encoding and
// Upgrade, except Connection and Upgrade of a request for a WebSocket; an empty User-Agent; and, by
// a Proxy, the fields that TrustForwarded names.
type Mapping struct {
	// Root is the document root as the application sees it. If it is set, the path names a script,
	// as PHP expects: SCRIPT_FILENAME is Root followed by the path of the script without Prefix. If
	// it is empty, the path below Prefix is PATH_INFO, as WSGI applications expect.
	Root string

	// Files is the file system below Root. A request whose script is not in it fails with
	// fs.ErrNotExist before the backend is called. Without this check PHP's cgi.fix_pathinfo runs
	// /upload/x.jpg for /upload/x.jpg/y.php. Nil means the folder Root, if it exists on this
	// machine: until it has been seen there, scripts are not looked for. It is opened with
	// os.OpenRoot for each request, so that no link leads out of it. Set NoFiles if the backend
	// sees another folder of that name than this program does, and os.DirFS(Root) to follow links.
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

	// PathTranslated sends PATH_TRANSLATED, if Root is set. Leave it false for PHP: with
	// cgi.fix_pathinfo=0 php-fpm runs the file that it names, which the client chooses.
	PathTranslated bool

	// TrustForwarded says that a trusted proxy is in front of this program. A Proxy then passes the
	// fields Forwarded, X-Forwarded-* and X-Real-IP, and sends no UWSGI_SCHEME. Otherwise it drops
	// them, since the client may have set them. A Transport always passes them, since its program
	// has set them.
	TrustForwarded bool

	// Body says what to do with request bodies. The zero value is SpoolUnknownBody.
	Body BodyPolicy

	// Spool holds the limits for bodies that are spooled. Its Backend and All are not used.
	Spool gateway.Spool

	once   sync.Once   // sets folder
	folder fs.FS       // Root
	local  atomic.Bool // the folder was seen on this machine
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

// AddParams adds the params of r to p, as a Proxy sends them. It omits CONTENT_LENGTH, which
// clients set from ContentLength. The error is gateway.ErrParam if the path contains a NUL, CR or
// LF, if it leads out of Root, or if the host or the protocol is invalid. It is fs.ErrNotExist if
// Root is set and the path names no script, or one that is not in Files. An error of m.Params is
// returned as it is.
func (m *Mapping) AddParams(p *gateway.Params, r *http.Request) error {
	m = m.orZero()
	return m.addParams(p, r, m.TrustForwarded)
}

// addParams is AddParams. forwarded says whether the fields that TrustForwarded names are passed.
func (m *Mapping) addParams(p *gateway.Params, r *http.Request, forwarded bool) error {
	if !m.Minimal {
		if err := m.all(p, r, forwarded); err != nil {
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

func (m *Mapping) all(p *gateway.Params, r *http.Request, forwarded bool) error {
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
		p.Add("REDIRECT_STATUS", "200")
		if s.PathInfo != "" && m.PathTranslated { // rule F51
			p.Add("PATH_TRANSLATED", path.Join(m.Root, path.Clean("/"+s.PathInfo)))
		}
	}
	if s.Filename != "" {
		p.Add("SCRIPT_FILENAME", s.Filename)
	}
	if v := r.Header["Content-Type"]; len(v) > 0 {
		p.Add("CONTENT_TYPE", v[0])
	}
	if err := m.addPeers(p, r); err != nil {
		return err
	}
	addFields(p, r.Header, forwarded)
	return nil
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
func (m *Mapping) addPeers(p *gateway.Params, r *http.Request) error {
	host := cmp.Or(r.Host, r.URL.Host) // rule F45
	name, port, ok := authority(host)
	if !ok {
		return fmt.Errorf("host: %w", gateway.ErrParam)
	}
	usual, scheme := "80", "http"
	if r.TLS != nil {
		usual, scheme = "443", "https"
		addTLS(p, r.TLS)
	}
	p.Add("REQUEST_SCHEME", scheme)
	if !m.TrustForwarded {
		p.Add("UWSGI_SCHEME", scheme) // rule F53
	}
	p.Add("SERVER_NAME", cmp.Or(name, "localhost")) // HTTP/1.0 without Host
	p.Add("SERVER_PORT", cmp.Or(port, usual))
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		if addr, _ := peer(local.String()); addr != "" {
			p.Add("SERVER_ADDR", addr)
		}
	}
	addr, port := peer(r.RemoteAddr)
	p.Add("REMOTE_ADDR", addr) // empty for a Unix socket
	if port != "" {
		p.Add("REMOTE_PORT", port)
	}
	if host != "" {
		p.Add("HTTP_HOST", host)
	}
	return nil
}

// addTLS adds what mod_ssl calls the protocol and the cipher.
func addTLS(p *gateway.Params, state *tls.ConnectionState) {
	p.Add("HTTPS", "on")
	if state.Version != 0 { // a program may have set TLS to no more than a mark
		p.Add("SSL_PROTOCOL", strings.Replace(tls.VersionName(state.Version), " ", "v", 1))
		p.Add("SSL_CIPHER", tls.CipherSuiteName(state.CipherSuite))
	}
}

// peer returns the IP address, without a zone, and the port of a connection's end. The port is
// empty if there is none, as behind middleware that sets RemoteAddr to a client's address alone.
func peer(s string) (addr, port string) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = s, ""
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		return "", ""
	}
	return ip.WithZone("").String(), port
}

// addFields adds the HTTP_* params.
func addFields(p *gateway.Params, header http.Header, forwarded bool) {
	drop := named(header["Connection"])
	var buf [64]byte
	for _, field := range slices.Sorted(maps.Keys(header)) {
		canonical := http.CanonicalHeaderKey(field)
		if notPassed(canonical) || drop[canonical] || !forwarded && isForwarded(canonical) { // rule F52
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

// request sets req from r. forwarded is that of addParams.
func (m *Mapping) request(req *gateway.Request, r *http.Request, forwarded bool) error {
	if err := m.addParams(&req.Params, r, forwarded); err != nil {
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
	m = m.orZero()
	req := new(gateway.Request)
	if err := m.request(req, r, m.TrustForwarded); err != nil {
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
