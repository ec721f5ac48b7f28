package gatewayhttp

import (
	"cmp"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/tunnel"
)

// Authorizer asks a FastCGI authorizer whether a request may pass, section 6.3 of the FastCGI
// specification. It passes only if the authorizer sends a complete response with the status 200.
// Any other response is sent to the client. If the authorizer cannot be asked, or its response is
// truncated, the request does not pass. Set the fields before the first use and do not change them
// afterwards.
type Authorizer struct {
	// Backend is the authorizer.
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

// Wrap returns a handler that calls next for the requests that the authorizer allows. The fields of
// the client that are called like a variable, such as Remote-User, do not reach next.
func (a *Authorizer) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		allowed, err := a.ask(w, r)
		switch {
		case err != nil:
			(&Proxy{ErrorHandler: a.ErrorHandler, Logger: a.Logger}).handleError(new(crossing), w, r, err)
		case allowed != nil:
			next.ServeHTTP(w, allowed)
		}
	})
}

// ask returns the request with the variables of the authorizer, if that allows it. If it does not,
// its response is sent.
func (a *Authorizer) ask(w http.ResponseWriter, r *http.Request) (allowed *http.Request, err error) {
	req, err := a.request(r)
	if err != nil {
		return nil, &gateway.Error{Phase: gateway.PhaseRequest, Err: err}
	}
	var res gateway.Response
	if err := a.Backend.RoundTrip(r.Context(), req, &res); err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.Status != http.StatusOK {
		a.relay(w, r, &res)
		return nil, nil
	}
	// Only its end shows that the response is complete.
	if _, err := io.Copy(io.Discard, res.Body); err != nil { // rule F64
		return nil, err
	}
	return a.allow(r, &res), nil
}

// request makes the request for the authorizer.
func (a *Authorizer) request(r *http.Request) (*gateway.Request, error) {
	m := a.Mapping.orZero()
	var req gateway.Request
	bare := new(http.Request)
	*bare = *r
	bare.Body, bare.ContentLength = http.NoBody, 0
	if err := m.request(&req, bare, m.TrustForwarded); err != nil {
		return nil, err
	}
	req.Role, req.Upgrade = gateway.RoleAuthorizer, ""
	return &req, nil
}

// relay sends the response of an authorizer that does not allow the request.
func (a *Authorizer) relay(w http.ResponseWriter, r *http.Request, res *gateway.Response) {
	header := w.Header()
	addTo(header, &res.Header)
	setLength(header, res)
	for name := range header {
		if strings.HasPrefix(name, "Variable-") {
			header.Del(name)
		}
	}
	w.WriteHeader(res.Status)
	if r.Method == http.MethodHead || !bodyAllowed(res.Status) {
		return
	}
	if err := tunnel.CopyBody(w, flusher(w), res.Body, make([]byte, 32<<10)); err != nil {
		cmp.Or(a.Logger, slog.Default()).WarnContext(r.Context(), "response cut", "error", err, "method", r.Method, "path", r.URL.Path)
		cut(w, r)
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
