// Package scgi implements SCGI: both ends, the application's and the web server's.
//
// It has three layers. The functions Append… and Consume… encode and decode byte slices. [Reader]
// and [Writer] read and write the requests and responses of a stream, with one buffer each.
// [Client], a gateway.RoundTripper, and [Server], which calls a gateway.Handler, manage
// connections.
//
// An http.Handler behind scgi_pass of nginx, mod_proxy_scgi of Apache or mod_scgi of lighttpd:
//
//	srv := &scgi.Server{Handler: gatewayhttp.Handler(mux)}
//	err := srv.Run(ctx, "unix:/run/app.sock")
//
// An SCGI application behind net/http:
//
//	site := &gatewayhttp.Proxy{Backend: &scgi.Client{Addr: "127.0.0.1:4000"}}
//
// The rules in this package are those of "SCGI: A Simple Common Gateway Interface alternative" by
// Neil Schemenauer, protocol.txt of 2008-06-23. Comments name implementations that deviate from it.
//
// A connection carries one request, and the response ends with the connection. If the connection is
// closed and not reset, only a Content-Length shows that a response is incomplete. The protocol has
// no STDERR, and no status other than that of HTTP.
//
// rTorrent is an SCGI application that accepts a head of 17 to 2,000 bytes and a body that is not
// empty: use gatewayhttp.Mapping.Minimal, or a Request without params of its own. Every process
// that can connect to it can run any program as its user: give it a Unix socket.
package scgi
