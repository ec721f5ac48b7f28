package gatewayhttp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/paths"
)

// maxRedirects limits the consecutive local redirects of a request.
const maxRedirects = 10

type redirectKey struct{}

// redirected serves a local redirect, RFC 3875 section 6.2.2: a head that is a Location with a path
// and nothing else, and no body. It reports whether it did; if not, x.res is unchanged.
func (p *Proxy) redirected(x *crossing, w http.ResponseWriter, r *http.Request) bool {
	if p.LocalRedirect == nil || !x.res.LocalRedirect {
		return false
	}
	location := x.res.Header.Get("Location")
	if strings.Contains(location, "#") {
		return false // only the client can resolve a fragment
	}
	first := make([]byte, 512)
	n, err := io.ReadFull(x.res.Body, first)
	if n > 0 || err != io.EOF {
		rest := io.Reader(x.res.Body)
		if err != nil && err != io.ErrUnexpectedEOF {
			rest = failing{err} // a Body need not repeat its error
		}
		x.res.Body = resumed{io.MultiReader(bytes.NewReader(first[:n]), rest), x.res.Body}
		return false
	}
	x.res.Body.Close()
	next, err := localRequest(r, location)
	if err != nil {
		p.handleError(x, w, r, err)
		return true
	}
	p.LocalRedirect.ServeHTTP(w, next)
	return true
}

// localRequest returns the request for which a local redirect asks: a GET, or HEAD after HEAD,
// without a body. The path must be clean.
func localRequest(r *http.Request, location string) (*http.Request, error) {
	count, _ := r.Context().Value(redirectKey{}).(int)
	if count == maxRedirects { // rule F27
		return nil, errLoop
	}
	u, err := url.ParseRequestURI(location)
	if err != nil || u.Host != "" || u.Scheme != "" || !clean(u.Path) {
		return nil, fmt.Errorf("gatewayhttp: local redirect: %w", gateway.ErrMalformed)
	}
	ctx := context.WithValue(r.Context(), redirectKey{}, count+1)
	ctx = context.WithValue(ctx, scriptKey{}, nil) // WithScript's was for the other path
	next := r.Clone(ctx)
	if next.Method != http.MethodHead {
		next.Method = http.MethodGet
	}
	next.URL, next.RequestURI = u, u.RequestURI()
	next.Body, next.GetBody, next.ContentLength, next.TransferEncoding = http.NoBody, nil, 0, nil
	for _, name := range [...]string{"Content-Type", "Content-Length", "Content-Encoding", "Transfer-Encoding", "Expect"} {
		next.Header.Del(name)
	}
	return next, nil
}

// errLoop is an error of the scripts: a 500.
var errLoop = fmt.Errorf("gatewayhttp: more than %d local redirects", maxRedirects)

// clean reports whether no element of p leads elsewhere.
func clean(p string) bool {
	c, err := paths.Clean(p)
	return err == nil && p == c
}

// A resumed is a body whose beginning has been read.
type resumed struct {
	io.Reader
	io.Closer
}

// failing is a reader that returns an error.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
