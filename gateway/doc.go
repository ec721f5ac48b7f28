// Package gateway is the model that CGI, FastCGI, SCGI and uwsgi share: a request, a response, and
// the two ends of an exchange.
//
// The web server's end is a [RoundTripper], such as fastcgi.Client: it sends a [Request] and fills
// a [Response]. The application's end is a [Handler], which fastcgi.Server calls: it receives a
// Request and responds through a [ResponseWriter]. [Proxy] is a Handler that passes requests to a
// RoundTripper of the same protocol or another. [InProcess] is its inverse, a RoundTripper that
// calls a Handler.
//
// A request consists of its params, the CGI meta-variables of RFC 3875 section 4.1, and its body.
// [Params] and [Header] keep their bytes in one buffer: nothing is allocated for a name or a value,
// and both can be reset and used again. Methods that return bytes return views and say how long
// they are valid. Methods that return a string return a copy.
//
// The package imports neither net nor net/http; package gatewayhttp joins it to net/http.
package gateway
