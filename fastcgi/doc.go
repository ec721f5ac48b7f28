// Package fastcgi is FastCGI 1.0: both ends, the application's and the web server's, for every role.
//
// It has three floors. The bytes: AppendX and ConsumeX are pure functions over slices. The streams: [Reader] and
// [Writer] read and write whole requests, answers and records, with one buffer each. The connections: [Client] is a
// gateway.RoundTripper, [Server] calls a gateway.Handler.
//
// An http.Handler behind nginx, Apache or any other FastCGI front end:
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
// Section numbers in this package are those of the FastCGI Specification 1.0, by Mark R. Brown, 29 April 1996. Where
// real peers do otherwise a comment says which.
//
// Not supported: upgrades (no front end but lighttpd passes them), and, for now, several requests at once on one
// connection of a Client. A Server takes them.
package fastcgi
