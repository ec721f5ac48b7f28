package gateway_test

import (
	"context"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
)

type contextKey struct{}

func TestSetContext(t *testing.T) {
	var r gateway.Request
	ctx := context.WithValue(t.Context(), contextKey{}, "value")
	r.SetContext(ctx)
	if r.Context() != ctx {
		t.Error("Context is not what SetContext set")
	}
	var copied gateway.Request
	copied.CopyFrom(&r)
	if copied.Context() != context.Background() {
		t.Error("CopyFrom copies the context")
	}
	r.Reset()
	if r.Context() != context.Background() {
		t.Error("Reset keeps the context")
	}
	r.SetContext(ctx)
	r.SetContextSource(nil)
	if r.Context() != context.Background() {
		t.Error("a nil source keeps the context")
	}
}

// A middleware passes a context on to the next handler through SetContext.
func TestSetContextReachesHandler(t *testing.T) {
	var got any
	next := gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		got = r.Context().Value(contextKey{})
		return nil
	})
	h := gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		r.SetContext(context.WithValue(r.Context(), contextKey{}, "value"))
		return next.ServeGateway(w, r)
	})
	var r gateway.Request
	if err := r.SetTarget("GET", "/"); err != nil {
		t.Fatal(err)
	}
	var res gateway.Response
	if err := gateway.InProcess(h).RoundTrip(t.Context(), &r, &res); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got != "value" {
		t.Errorf("the next handler got %v", got)
	}
}

func TestLocalRedirect(t *testing.T) {
	for head, want := range map[string]bool{
		"Location: /x\r\n\r\n":                      true,
		"Location: http://h/x\r\n\r\n":              false,
		"Location: /x\r\nX: 1\r\n\r\n":              false,
		"Status: 302\r\nLocation: /x\r\n\r\n":       false,
		"Content-Type: text/plain\r\n\r\n":          false,
		"Location: /x\r\nContent-Length: 0\r\n\r\n": false,
	} {
		var res gateway.Response
		if _, err := gateway.ConsumeResponse([]byte(head), &res); err != nil || res.LocalRedirect != want {
			t.Errorf("%q: %v, %v", head, res.LocalRedirect, err)
		}
		res.Reset()
		if res.LocalRedirect {
			t.Errorf("%q: Reset keeps LocalRedirect", head)
		}
	}
}
