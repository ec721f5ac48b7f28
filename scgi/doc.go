// Package scgi is SCGI: both ends, the application's and the web server's.
//
// It has three floors. The bytes: AppendX and ConsumeX are pure functions over slices. The streams: [Reader] and
// [Writer] read and write whole requests and answers, with one buffer each. The connections: [Client] is a
// gateway.RoundTripper, [Server] calls a gateway.Handler.
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
// Rules in this package are those of "SCGI: A Simple Common Gateway Interface alternative" by Neil Schemenauer, protocol.txt
// of 2008-06-23. Where real peers do otherwise a comment says which.
//
// A connection carries one request, and the answer ends with it: only a Content-Length shows that an answer broke off
// where the connection was closed and not reset. The protocol has no STDERR and no status but that of HTTP.
//
// rTorrent is an SCGI application that takes a head of 17 to 2,000 bytes and a body that is not empty: use
// gatewayhttp.Mapping.Minimal, or a Request with no params of its own. Whoever can connect to it can run any program as
// its user: give it a Unix socket.
package scgi
