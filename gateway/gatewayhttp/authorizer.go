package gatewayhttp

import (
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// Authorizer asks a FastCGI authorizer whether a request may pass, section 6.3 of the FastCGI
// specification. It passes only if the authorizer sends a complete response with the status 200,
// whose other fields and body are dropped. Any other response is sent to the client. If the
// authorizer cannot be asked, or its response is truncated, the request does not pass. Set the
// fields before the first use and do not change them afterwards.
type Authorizer struct {
	// Backend is the authorizer: a fastcgi.Client, or gateway.InProcess. The other protocols have
	// no such role, and their clients refuse the request. It must not be nil. An application that
	// is no authorizer, such as PHP, responds with 200 to every request.
	Backend gateway.RoundTripper

	// Mapping makes the request for the authorizer. Nil means a Mapping of zero values. The body is
	// not sent.
	Mapping *Mapping

	// Variables lists the names that the authorizer may set: the value of its field Variable-NAME
	// is passed to the next handler as by WithParam. Nil means REMOTE_USER and AUTH_TYPE. Others
	// are dropped, since a variable such as PHP_VALUE would configure the application.
	Variables []string

	// ErrorHandler, if not nil, responds to a request that could not be checked. Nil means a
	// response with the status of gateway.ErrorStatus and a log record.
	ErrorHandler func(http.ResponseWriter, *http.Request, error)

	// Logger receives log records. Nil means slog.Default.
	Logger *slog.Logger
}

// Wrap returns a handler that calls next for the requests that the authorizer allows. Fields
// of the client with the name of a variable, such as Remote-User, do not reach next.
func (a *Authorizer) Wrap(next http.Handler) http.Handler {
	p := &Proxy{Backend: a.Backend, Mapping: a.Mapping, ErrorHandler: a.ErrorHandler, Logger: a.Logger}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if allowed := a.ask(p, w, r); allowed != nil {
			next.ServeHTTP(w, allowed)
		}
	})
}

// ask returns the request with the variables of the authorizer, if that allows it. If it does not,
// p sends its response, or the error.
func (a *Authorizer) ask(p *Proxy, w http.ResponseWriter, r *http.Request) (allowed *http.Request) {
	x := crossings.Get().(*crossing)
	defer x.release()
	if err := a.request(&x.req, r); err != nil {
		p.handleError(x, w, r, &gateway.Error{Phase: gateway.PhaseRequest, Err: err})
		return nil
	}
	if err := a.Backend.RoundTrip(r.Context(), &x.req, &x.res); err != nil {
		p.handleError(x, w, r, err)
		return nil
	}
	defer func() { x.res.Body.Close() }()
	if x.res.Status != http.StatusOK {
		dropVariables(&x.res.Header)
		p.respond(x, w, r)
		return nil
	}
	// Only its end shows that the response is complete.
	if _, err := io.Copy(io.Discard, x.res.Body); err != nil { // rule F64
		p.handleError(x, w, r, err)
		return nil
	}
	return a.allow(r, &x.res)
}

// request makes the request for the authorizer.
func (a *Authorizer) request(req *gateway.Request, r *http.Request) error {
	m := a.Mapping.orZero()
	bare := new(http.Request)
	*bare = *r
	bare.Body, bare.ContentLength = http.NoBody, 0
	if err := m.request(req, bare, m.TrustForwarded); err != nil {
		return err
	}
	req.Role, req.Upgrade = gateway.RoleAuthorizer, ""
	return nil
}

// dropVariables deletes the fields that are for the web server alone.
func dropVariables(h *gateway.Header) {
	var names []string
	for name := range h.All() {
		if _, found := cutPrefixFold(string(name), "Variable-"); found {
			names = append(names, string(name))
		}
	}
	for _, name := range names {
		h.Del(name)
	}
}

// allow returns r with the variables of the authorizer, and without the fields that could be taken
// for them.
func (a *Authorizer) allow(r *http.Request, res *gateway.Response) *http.Request {
	names := a.Variables
	if names == nil {
		names = []string{"REMOTE_USER", "AUTH_TYPE"}
	}
	ctx := r.Context()
	for name, value := range res.Header.All() {
		variable, found := cutPrefixFold(string(name), "Variable-")
		if found && slices.Contains(names, variable) { // rule F65
			ctx = WithParam(ctx, variable, string(value))
		}
	}
	next := r.WithContext(ctx)
	next.Header = r.Header.Clone()
	for field := range next.Header {
		claimed := strings.ToUpper(strings.ReplaceAll(field, "-", "_"))
		if slices.Contains(names, claimed) || strings.HasPrefix(claimed, "VARIABLE_") { // rule F66
			delete(next.Header, field)
		}
	}
	return next
}

func cutPrefixFold(s, prefix string) (rest string, found bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}
