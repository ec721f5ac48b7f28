// Package fastcgi implements FastCGI 1.0: both ends, the application's and the web server's, for
// every role.
//
// It has three floors. Bytes: AppendX and ConsumeX are pure functions over slices. Streams:
// [Reader] and [Writer] read and write requests, responses and records, with one buffer each.
// Connections: [Client] is a gateway.RoundTripper, and [Server] calls a gateway.Handler.
//
// An http.Handler behind nginx, Apache or another FastCGI web server:
//
//	srv := &fastcgi.Server{Handler: gatewayhttp.Handler(mux)}
//	err := srv.Run(ctx, "unix:/run/app.sock")
//
// PHP behind net/http:
//
//	site := &gatewayhttp.Proxy{
//		Mapping: &gatewayhttp.Mapping{Root: "/srv/www"},
//		Backend: &fastcgi.Client{Addr: "unix:/run/php/php-fpm.sock"},
//	}
//
// Section numbers in this package are those of the FastCGI Specification 1.0 by Mark R. Brown, 29
// April 1996. Comments name the real peers that deviate from it.
//
// Not supported are upgrades, which only lighttpd passes, and several requests at once on one
// connection of a Client. A Server accepts several.
package fastcgi
