// Package gatewayhttp joins the gateway model to net/http. No other public package of the module
// imports net/http; the command does.
//
// Towards an application, [Proxy] is an http.Handler that passes requests to a gateway.RoundTripper
// such as fastcgi.Client, and [Transport] is an http.RoundTripper over one, for
// httputil.ReverseProxy and http.Client. Both use a [Mapping] to turn an http.Request into a
// gateway.Request.
//
// Towards a web server, [Handler] turns an http.Handler into a gateway.Handler, which
// fastcgi.Server can call. [Params] returns the params that have no place in an http.Request.
//
// HTTP policy belongs to this package and not to the protocols: which header fields become HTTP_*
// params, hop-by-hop fields, responses that have no body, content sniffing, and how a script is
// found in a path.
package gatewayhttp
