// Package hook is how the four protocol packages reach what package gateway keeps from its users: the lists inside
// Params and Header, and the context of a Request that a server received. Package gateway sets every variable when it
// is initialized; nobody changes one later. The arguments are pointers to gateway's types, untyped because gateway
// imports this package.
package hook

import (
	"context"

	"github.com/gatehouse-go/gatehouse/internal/pairs"
)

// ContextSource makes the context of a request when it is first asked for.
type ContextSource interface {
	RequestContext() context.Context
}

var (
	// Params is the list inside a *gateway.Params.
	Params func(p any) *pairs.List

	// Header is the list inside a *gateway.Header.
	Header func(h any) *pairs.List

	// Receive applies the rules of a received head to the params of a *gateway.Request and sets its ContentLength from
	// CONTENT_LENGTH: -1 if that is absent, empty or "-1".
	Receive func(r any) error

	// Send checks the params of a *gateway.Request against the rules of a head that is sent and reports whether a
	// name stands more than once.
	Send func(r any) (repeats bool, err error)

	// Normalize joins and drops what stands more than once in a *gateway.Params, as Receive does.
	Normalize func(p any) error

	// LocalRedirect reports whether the head of a *gateway.Response was a Location with a path and nothing else.
	LocalRedirect func(r any) bool

	// SetContext gives a *gateway.Request its context; nil takes it away.
	SetContext func(r any, c ContextSource)
)
