package gatewayhttp

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// addTo adds the fields of a response to dst, except those that belong to one hop or are orders to
// a web server. The strings are substrings of one copy of the head.
func addTo(dst http.Header, h *gateway.Header) {
	size := 0
	for name, value := range h.All() {
		size += len(name) + len(value)
	}
	var buf strings.Builder
	buf.Grow(size)
	for name, value := range h.All() {
		buf.Write(name)
		buf.Write(value)
	}
	all := buf.String()
	values := make([]string, 0, h.Len())
	var connection []string
	for v := range h.Values("Connection") {
		connection = append(connection, string(v))
	}
	drop := named(connection)
	for n, v := range h.All() {
		name := http.CanonicalHeaderKey(all[:len(n)])
		value := all[len(n) : len(n)+len(v)]
		all = all[len(n)+len(v):]
		if hopByHop(name) || forServer(name) || drop[name] { // rule F28, F29
			continue
		}
		if dst[name] == nil || name == "Content-Type" { // the application's wins
			values = append(values, value)
			dst[name] = values[len(values)-1 : len(values) : len(values)]
		} else {
			dst[name] = append(dst[name], value)
		}
	}
}

// Transport is an http.RoundTripper over a gateway.RoundTripper, for httputil.ReverseProxy and
// http.Client. Interim responses go to the request's httptrace.ClientTrace.
//
// A ReverseProxy responds to every error with 502, unless its ErrorHandler calls w.WriteHeader with
// gateway.ErrorStatus(err): a script that does not exist is then a 404. Its BufferPool saves most
// of the memory of a request.
type Transport struct {
	// Backend receives the requests.
	Backend gateway.RoundTripper

	// Mapping makes the gateway.Request. Nil means a Mapping of zero values.
	Mapping *Mapping
}

// RoundTrip sends r and returns the response, as http.RoundTripper requires. Errors are
// *gateway.Error.
//
// If the response is a 101 to a request for a WebSocket, its Body is a gateway.Stream.
//
// Behind a ReverseProxy over HTTP/1, an application that responds before it has read the whole
// request needs http.ResponseController.EnableFullDuplex.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	x := &exchange{body: r.Body}
	m := t.Mapping.orZero()
	err := m.request(&x.req, r, true)
	if err != nil {
		err = &gateway.Error{Phase: gateway.PhaseRequest, Err: err}
	} else {
		x.req.Interim = traceInterim(r.Context())
		err = m.backend(t.Backend, &x.req).RoundTrip(r.Context(), &x.req, &x.res)
	}
	if err != nil {
		x.closeRequest()
		return nil, err
	}
	res := &http.Response{
		StatusCode: x.res.Status,
		Status:     statusText(x.res.Status),
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        make(http.Header, x.res.Header.Len()),
		ContentLength: x.res.ContentLength,
		Body:          x,
		Request:       r,
	}
	addTo(res.Header, &x.res.Header)
	if stream, ok := x.res.Body.(gateway.Stream); ok && x.res.Status == http.StatusSwitchingProtocols {
		switched(res.Header, &x.res.Header)
		res.Body, res.ContentLength = stream, 0 // an io.ReadWriteCloser, as with http.Transport
		return res, nil
	}
	if r.Method == "HEAD" || !bodyAllowed(x.res.Status) {
		res.Body = headless{x}
		if !bodyAllowed(x.res.Status) {
			res.ContentLength = 0
		}
	}
	return res, nil
}

// switched adds the fields that make the head of a 101.
func switched(dst http.Header, h *gateway.Header) {
	dst.Set("Upgrade", h.Get("Upgrade"))
	dst.Set("Connection", "Upgrade")
}

func statusText(status int) string {
	text := cmp.Or(http.StatusText(status), "Unknown")
	return string([]byte{byte('0' + status/100), byte('0' + status/10%10), byte('0' + status%10), ' '}) + text
}

// An exchange lives as long as the Body of an http.Response.
type exchange struct {
	req  gateway.Request
	res  gateway.Response
	body io.Closer // the request's, closed with the exchange
}

func (x *exchange) Read(p []byte) (int, error) { return x.res.Body.Read(p) }

func (x *exchange) Close() error {
	err := x.res.Body.Close()
	x.closeRequest()
	return err
}

// A headless is the Body of a response without one.
type headless struct{ *exchange }

func (headless) Read([]byte) (int, error) { return 0, io.EOF }

func (x *exchange) closeRequest() {
	if x.body != nil {
		x.body.Close()
	}
}

// traceInterim passes interim responses to the caller's trace.
func traceInterim(ctx context.Context) func(int, *gateway.Header) error {
	trace := httptrace.ContextClientTrace(ctx)
	if trace == nil || trace.Got1xxResponse == nil {
		return nil
	}
	return func(status int, h *gateway.Header) error {
		if status == http.StatusContinue {
			return nil // it was meant for the client, which had the body to send
		}
		header := make(http.Header)
		addTo(header, h)
		return trace.Got1xxResponse(status, textproto.MIMEHeader(header))
	}
}
