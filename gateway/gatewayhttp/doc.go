// Package gatewayhttp joins the gateway model to net/http, and is the only package of the module that imports it.
//
// Towards an application: [Proxy] is an http.Handler straight onto a gateway.RoundTripper such as fastcgi.Client, and
// [Transport] an http.RoundTripper over one, for httputil.ReverseProxy and http.Client. Both make a gateway.Request of an
// http.Request by the same [Mapping].
//
// Towards a web server: [Handler] makes an http.Handler one that fastcgi.Server can call; [Params] gives it the params
// that net/http has no place for.
//
// HTTP policy lives here and not in the protocols: which header fields become HTTP_* params and which do not, fields
// that belong to one hop, answers that have no body, content sniffing, how a script is found in a path.
package gatewayhttp
