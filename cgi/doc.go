// Package cgi implements CGI/1.1, RFC 3875: both ends, the script's and the web server's. CGI
// transfers a request in an environment and two pipes, so there is no Reader and no Writer.
//
// It has two layers. The functions Append… and Consume… encode and decode an environment block
// (NAME=value and a NUL, as in /proc/self/environ) and an environment as in os/exec. [Client] is a
// gateway.RoundTripper that runs a script for each request, and [Server] calls a gateway.Handler
// for the one request that this process was started for.
//
// A folder of scripts behind net/http:
//
//	site := &gatewayhttp.Proxy{Backend: &cgi.Client{Root: "/usr/lib/cgi-bin"}}
//
// A program that is a CGI script or a FastCGI application, depending on how it is started:
//
//	handler := gatewayhttp.Handler(mux)
//	if fastcgi.Started() {
//		err = (&fastcgi.Server{Handler: handler}).Run(ctx, "fd:0")
//	} else {
//		err = (&cgi.Server{Handler: handler}).Serve(ctx)
//	}
//
// Section numbers in this package are those of RFC 3875. Comments name implementations that deviate
// from it.
package cgi
