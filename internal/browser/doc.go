// Package browser drives PHP applications behind gatewayhttp.Site with a browser. It is a module of
// its own, so that what it needs for that never reaches the go.sum of a user.
package browser
