// Package uwsgi is the uwsgi protocol: both ends, the application's and the web server's.
//
// It has three floors. The bytes: AppendX and ConsumeX are pure functions over slices. The streams: [Reader] and
// [Writer] read and write whole requests and answers, with one buffer each. The connections: [Client] is a
// gateway.RoundTripper, [Server] calls a gateway.Handler.
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
// The protocol is described in "The uwsgi (lowercase!) Protocol" of uWSGI's documentation. Where uWSGI or a web server
// does otherwise a comment says which.
//
// A connection carries one request, and the answer, a bare HTTP response, ends with it: only a Content-Length shows that
// an answer broke off where the connection was closed and not reset. The protocol has no STDERR and no status but that
// of HTTP. Params whose names begin with UWSGI_ tell uWSGI what to load and where: set them in [Client].Env, and never
// from a request.
package uwsgi
