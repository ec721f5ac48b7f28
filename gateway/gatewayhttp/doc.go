// Package gatewayhttp joins the gateway model to net/http. It is the only package of the module
// that imports net/http.
//
// Towards an application, [Proxy] is an http.Handler that passes requests to a gateway.RoundTripper
// such as fastcgi.Client, and [Transport] is an http.RoundTripper over one, for
// httputil.ReverseProxy and http.Client. Both make a gateway.Request of an http.Request by the same
// [Mapping].
//
// Towards a web server, [Handler] makes an http.Handler a gateway.Handler, which fastcgi.Server can
// call. [Params] returns the params that have no place in an http.Request.
//
// HTTP policy belongs to this package and not to the protocols: which header fields become HTTP_*
// params, fields that belong to one hop, responses that have no body, content sniffing, and how a
// script is found in a path.
package gatewayhttp
