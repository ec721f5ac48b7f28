// Package gatehouse is the map of a module for the protocols between a web server and an
// application.
//
//	gateway               the model: Request, Response, Params, Header, Handler, RoundTripper, Proxy, errors
//	gateway/gatewayhttp   to and from net/http: Proxy, Transport, Handler, and the one Mapping
//	gateway/gatewaytest   for the tests of programs that use the module
//	gateway/gatehouse     a command-line tool
//	fastcgi               FastCGI: bytes, streams, Client and Server
//	scgi                  SCGI: the same
//	uwsgi                 the uwsgi protocol: the same
//	cgi                   CGI/1.1: bytes, a Client that runs scripts and a Server that is one
//	fuzz                  seeds and a harness with which other implementations are fuzzed
//
// Words that have one meaning everywhere: a param is a CGI meta-variable of a request, a field a
// line of a response's header, the head all that comes before the body, a record FastCGI's unit, a
// view a slice that is valid until the next call on what it came from.
//
// Verbs tell the layer: Append and Consume work on bytes, Read and Write on streams, RoundTrip and
// Serve on connections.
package gatehouse
