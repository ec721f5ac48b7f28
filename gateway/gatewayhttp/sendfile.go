package gatewayhttp

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// maxDropped limits in bytes what is read of a body that a file replaces. An application whose body
// is longer loses its connection.
const maxDropped = 256 << 10

// sentFile has SendFile serve the file that the response names. It returns false if there is none.
func (p *Proxy) sentFile(x *crossing, w http.ResponseWriter, r *http.Request) bool {
	name, err := fileOf(&x.res)
	if name == "" && err == nil {
		return false
	}
	io.CopyN(io.Discard, x.res.Body, maxDropped)
	x.res.Body.Close() // the application is free
	x.res.Body = http.NoBody
	if err != nil {
		p.handleError(x, w, r, err)
		return true
	}
	header := w.Header()
	addTo(header, &x.res.Header)
	for _, field := range [...]string{"Content-Length", "Content-Encoding", "Etag", "Last-Modified", "Accept-Ranges", "Content-Range", "Content-Md5", "Digest", "Content-Digest", "Repr-Digest"} {
		header.Del(field)
	}
	p.SendFile.ServeHTTP(w, fileRequest(r, name))
	return true
}

// fileOf returns the path of the file that a response names, or "".
func fileOf(res *gateway.Response) (string, error) {
	if res.Status != http.StatusOK { // rule F63
		return "", nil
	}
	if v, ok := res.Header.Lookup("X-Accel-Redirect"); ok {
		raw, _, _ := strings.Cut(string(v), "?")
		name, err := url.PathUnescape(raw)
		if err != nil || !strings.HasPrefix(name, "/") {
			return "", fmt.Errorf("gatewayhttp: X-Accel-Redirect %q is no path: %w", v, gateway.ErrMalformed)
		}
		return name, nil
	}
	if v, ok := res.Header.Lookup("X-Sendfile"); ok && len(v) > 0 {
		if v[0] != '/' {
			return "", fmt.Errorf("gatewayhttp: X-Sendfile %q is no absolute path: %w", v, gateway.ErrMalformed)
		}
		return string(v), nil
	}
	return "", nil
}

// fileRequest returns the request for a file. It has those of the client's fields that decide what
// is sent of the file.
func fileRequest(r *http.Request, name string) *http.Request {
	method := http.MethodGet
	if r.Method == http.MethodHead {
		method = r.Method
	}
	next := (&http.Request{
		Method: method, URL: &url.URL{Path: name}, Host: r.Host, RemoteAddr: r.RemoteAddr, TLS: r.TLS,
		Proto: r.Proto, ProtoMajor: r.ProtoMajor, ProtoMinor: r.ProtoMinor, Header: make(http.Header), Body: http.NoBody,
	}).WithContext(r.Context())
	for field, values := range r.Header {
		if field == "Range" || strings.HasPrefix(field, "If-") {
			next.Header[field] = values
		}
	}
	return next
}
