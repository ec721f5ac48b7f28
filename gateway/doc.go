// Package gateway is the model that CGI, FastCGI, SCGI and uwsgi share: a request, a response, and the two ends of an
// exchange.
//
// A web server's end is a [RoundTripper]: it sends a [Request] and fills a [Response]. fastcgi.Client is one. An
// application's end is a [Handler]: it is given a Request and answers through a [ResponseWriter]. fastcgi.Server calls
// one. [Proxy] is a Handler that passes each request to a RoundTripper, of the same protocol or another; [Direct] is its
// inverse, a RoundTripper that calls a Handler.
//
// A request is its params, the CGI meta-variables of RFC 3875 section 4.1, and its body. [Params] and the [Header] of a
// response keep their bytes in one buffer of their own: nothing is allocated for a name or a value, and both can be
// reset and used again. Methods that return bytes return views and say how long they are valid; methods that return a
// string return a copy.
//
// The package imports neither net nor net/http; package gatewayhttp joins it to the latter.
package gateway
