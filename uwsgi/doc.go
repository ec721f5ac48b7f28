// Package uwsgi implements the uwsgi protocol: both ends, the application's and the web server's.
//
// It has three layers. The functions Append… and Consume… encode and decode byte slices. [Reader]
// and [Writer] read and write the requests and responses of a stream, with one buffer each.
// [Client], a gateway.RoundTripper, and [Server], which calls a gateway.Handler, manage
// connections.
//
// An http.Handler behind uwsgi_pass of nginx or mod_proxy_uwsgi of Apache:
//
//	srv := &uwsgi.Server{Handler: gatewayhttp.Handler(mux)}
//	err := srv.Run(ctx, "unix:/run/app.sock")
//
// Django or Flask in uWSGI behind net/http:
//
//	site := &gatewayhttp.Proxy{Backend: &uwsgi.Client{Addr: "unix:/run/uwsgi.sock"}}
//
// The protocol, which calls params vars, is described in "The uwsgi (lowercase!) Protocol" of
// uWSGI's documentation. Comments name implementations that deviate from it.
//
// A connection carries one request, and the response, an HTTP response, ends with the connection.
// If the connection is closed and not reset, only a Content-Length shows that a response is
// incomplete. The protocol has no STDERR, and no status other than that of HTTP. Params whose names
// begin with UWSGI_ tell uWSGI what to load and where: set them in [Client].Env, never from a
// request.
package uwsgi
