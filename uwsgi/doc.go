// Package uwsgi implements the uwsgi protocol: both ends, the application's and the web server's.
//
// It has three floors. Bytes: AppendX and ConsumeX are pure functions over slices. Streams:
// [Reader] and [Writer] read and write requests and responses, with one buffer each. Connections:
// [Client] is a gateway.RoundTripper, and [Server] calls a gateway.Handler.
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
// The protocol is described in "The uwsgi (lowercase!) Protocol" of uWSGI's documentation. Comments
// name the real peers that deviate from it.
//
// A connection carries one request, and the response, a bare HTTP response, ends with the
// connection. If the connection is closed and not reset, only a Content-Length shows that a
// response is incomplete. The protocol has no STDERR, and no status other than that of HTTP. Params
// whose names begin with UWSGI_ tell uWSGI what to load and where: set them in [Client].Env, never
// from a request.
package uwsgi
