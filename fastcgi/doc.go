// Package fastcgi implements FastCGI 1.0: both ends, the application's and the web server's, for
// every role.
//
// It has three layers. The functions Append… and Consume… encode and decode byte slices. [Reader]
// and [Writer] read and write the requests, responses and records of a stream, with one buffer
// each. [Client], a gateway.RoundTripper, and [Server], which calls a gateway.Handler, manage
// connections.
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
// April 1996. Comments name implementations that deviate from it.
//
// Upgrades are not supported; of the web servers only lighttpd passes them. A Client sends one
// request at a time on a connection, but a Server accepts several at once.
package fastcgi
