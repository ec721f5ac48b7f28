package gateway

import (
	"cmp"
	"net/url"
	"strings"

	"github.com/gatehouse-go/gatehouse/internal/grammar"
	"github.com/gatehouse-go/gatehouse/internal/paths"
)

// The methods in this file read params by their meaning. Every string is a copy.

// Method returns REQUEST_METHOD, RFC 3875 section 4.1.12, as it was sent, or "" if it was not.
func (r *Request) Method() string { return r.Params.Get("REQUEST_METHOD") }

// ScriptName returns SCRIPT_NAME, section 4.1.13: the decoded path up to and including the script.
func (r *Request) ScriptName() string { return r.Params.Get("SCRIPT_NAME") }

// PathInfo returns PATH_INFO, section 4.1.5: the decoded path after the script. It returns the
// whole path if neither PATH_INFO nor SCRIPT_NAME was sent, as by nginx with scgi_params. PathInfo
// cannot tell "%2F" from "/"; URI can. It must not be decoded again.
func (r *Request) PathInfo() string {
	info, sent := r.Params.Lookup("PATH_INFO")
	if _, script := r.Params.Lookup("SCRIPT_NAME"); !sent && !script {
		return r.Path()
	}
	return string(info)
}

// Query returns QUERY_STRING, section 4.1.7, as it was sent, without "?".
func (r *Request) Query() string { return r.Params.Get("QUERY_STRING") }

// Path returns the decoded path of the request: SCRIPT_NAME and PATH_INFO, or, if neither was sent,
// DOCUMENT_URI or the path of REQUEST_URI.
func (r *Request) Path() string {
	if path := r.Params.Get("SCRIPT_NAME") + r.Params.Get("PATH_INFO"); path != "" {
		return path
	}
	if uri := r.Params.Get("DOCUMENT_URI"); uri != "" {
		return uri
	}
	path, _ := decodedPath(r.Params.Get("REQUEST_URI"))
	return path
}

// URI returns the target of the request: REQUEST_URI as it was sent, in any form (origin, absolute,
// "*" or authority). Without REQUEST_URI it is built from the params that hold the decoded path and
// the query.
func (r *Request) URI() string {
	if uri := r.Params.Get("REQUEST_URI"); uri != "" {
		return uri
	}
	u := url.URL{Path: cmp.Or(r.Path(), "/"), RawQuery: r.Query()}
	// EscapedPath and not String: a path that begins with "//" is not an authority.
	if u.RawQuery == "" {
		return u.EscapedPath()
	}
	return u.EscapedPath() + "?" + u.RawQuery
}

// PathAgrees reports whether REQUEST_URI names the same path as SCRIPT_NAME and PATH_INFO together,
// or whether one of the two is absent or empty. Two slashes in a row are one, and dot segments are
// resolved, as web servers do when they look for a script. The paths differ if the web server
// rewrote the path or if one of them is forged. Then the application must decide which one to
// trust.
func (r *Request) PathAgrees() bool {
	uri, decoded := r.Params.Get("REQUEST_URI"), r.Params.Get("SCRIPT_NAME")+r.Params.Get("PATH_INFO")
	if uri == "" || decoded == "" {
		return true
	}
	path, ok := decodedPath(uri)
	return ok && (path == decoded || cleaned(path) == cleaned(decoded))
}

// cleaned returns the clean form of path, or path if it has none.
func cleaned(path string) string {
	if c, err := paths.Clean(path); err == nil {
		return c
	}
	return path
}

// decodedPath returns the decoded path of a request target.
func decodedPath(uri string) (path string, ok bool) {
	if !strings.HasPrefix(uri, "/") {
		scheme, rest, absolute := strings.Cut(uri, "://")
		if !absolute || strings.ContainsAny(scheme, "/?") {
			return "", false
		}
		slash := strings.IndexAny(rest, "/?")
		if slash < 0 || rest[slash] == '?' {
			return "/", true
		}
		uri = rest[slash:]
	}
	uri, _, _ = strings.Cut(uri, "?")
	path, err := url.PathUnescape(uri)
	return path, err == nil
}

// Protocol returns SERVER_PROTOCOL, section 4.1.16, as numbers. "HTTP/2" and "HTTP/2.0" are equal.
// An absent one, and INCLUDED (server-side includes), mean HTTP/1.0. ok is false for anything else.
func (r *Request) Protocol() (major, minor int, ok bool) {
	v, _ := r.Params.Lookup("SERVER_PROTOCOL")
	s := string(v)
	if s == "" || s == "INCLUDED" {
		return 1, 0, true
	}
	digits, found := strings.CutPrefix(s, "HTTP/")
	if !found || !isVersion(digits) {
		return 0, 0, false
	}
	if len(digits) == 3 {
		minor = int(digits[2] - '0')
	}
	return int(digits[0] - '0'), minor, true
}

// Host returns HTTP_HOST, or else SERVER_NAME, with SERVER_PORT unless that is the default port of
// the scheme.
func (r *Request) Host() string {
	if v, ok := r.Params.Lookup("HTTP_HOST"); ok {
		return string(v)
	}
	name, port := r.Params.Get("SERVER_NAME"), r.Params.Get("SERVER_PORT")
	usual := "80"
	if r.TLS() {
		usual = "443"
	}
	// HAProxy 2.6 sends SERVER_NAME with its port.
	if name == "" || port == "" || port == usual || strings.HasSuffix(name, ":"+port) {
		return name
	}
	return name + ":" + port
}

// TLS reports whether the client's connection was encrypted, according to the web server (HTTPS,
// REQUEST_SCHEME, UWSGI_SCHEME). A header field of the request, such as X-Forwarded-Proto, is never
// consulted.
func (r *Request) TLS() bool {
	v, _ := r.Params.Lookup("HTTPS")
	if grammar.EqualFold(v, "on") || grammar.EqualFold(v, "true") || string(v) == "1" {
		return true
	}
	for _, name := range [...]string{"REQUEST_SCHEME", "UWSGI_SCHEME"} { // rule F37
		if v, _ := r.Params.Lookup(name); string(v) == "https" {
			return true
		}
	}
	return false
}

// ContentType returns CONTENT_TYPE, section 4.1.3.
func (r *Request) ContentType() string { return r.Params.Get("CONTENT_TYPE") }

// RemoteAddr returns REMOTE_ADDR, section 4.1.8, as it was sent. Any peer that can connect to the
// server can claim any address.
func (r *Request) RemoteAddr() string { return r.Params.Get("REMOTE_ADDR") }

// ScriptFilename returns SCRIPT_FILENAME without the prefix that Apache's proxy modules add:
// "proxy:fcgi://host:port/x?q" becomes "/x", and so with balancer, scgi and uwsgi.
func (r *Request) ScriptFilename() string {
	name := r.Params.Get("SCRIPT_FILENAME")
	proxied, found := strings.CutPrefix(name, "proxy:")
	if !found {
		return name
	}
	for _, scheme := range [...]string{"fcgi://", "balancer://", "scgi://", "uwsgi://"} {
		rest, found := strings.CutPrefix(proxied, scheme)
		if !found {
			continue
		}
		slash := strings.IndexByte(rest, '/')
		if slash < 0 {
			return ""
		}
		path, _, _ := strings.Cut(rest[slash:], "?")
		return path
	}
	return name
}
