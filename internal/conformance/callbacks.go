package conformance

import (
	"context"
	"io"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// Callbacks are the functions of a caller that a client calls.
type Callbacks struct {
	Connect func() // called by Dial, or by Prepare
	Observe func(ctx context.Context, x *gateway.Exchange)
}

// TestCallbacks checks a client whose functions panic or close the Body. newClient returns one with
// these functions and one place, of a server with the handler "callbacks" and SendInterim. protocol
// is its name.
func TestCallbacks(t *testing.T, protocol string, newClient func(t testing.TB, b Callbacks) gateway.RoundTripper) {
	panics := func(t *testing.T, f func()) {
		t.Helper()
		defer func() {
			if v := recover(); v != "of the caller" {
				t.Errorf("recovered %v", v)
			}
		}()
		f()
	}
	// good checks that a request still finds a place.
	good := func(t *testing.T, c gateway.RoundTripper) {
		t.Helper()
		noneInFlight(t, c)
		if o := Ask(t, c, get("/")); o.Err != nil || o.Body != "ok" {
			t.Errorf("%q, %v", o.Body, o.Err)
		}
	}
	t.Run("a panic while connecting", func(t *testing.T) {
		bad := true
		c := newClient(t, Callbacks{Connect: func() {
			if bad {
				panic("of the caller")
			}
		}})
		for range 3 {
			panics(t, func() { c.RoundTrip(t.Context(), get("/"), new(gateway.Response)) })
		}
		bad = false
		good(t, c)
	})
	t.Run("a panic in Interim", func(t *testing.T) {
		if protocol == "cgi" {
			return // its server sends none
		}
		c := newClient(t, Callbacks{})
		for range 3 {
			r := get("/interim")
			r.Interim = func(int, *gateway.Header) error { panic("of the caller") }
			panics(t, func() { c.RoundTrip(t.Context(), r, new(gateway.Response)) })
		}
		good(t, c)
	})
	t.Run("a panic in Observe", func(t *testing.T) {
		bad := true
		c := newClient(t, Callbacks{Observe: func(context.Context, *gateway.Exchange) {
			if bad {
				panic("of the caller")
			}
		}})
		for range 3 {
			panics(t, func() { Ask(t, c, get("/")) })
			r := get("/")
			r.Params.Add("", "") // a request that fails
			panics(t, func() { c.RoundTrip(t.Context(), r, new(gateway.Response)) })
		}
		bad = false
		good(t, c)
	})
	t.Run("Observe closes the Body", func(t *testing.T) {
		var res gateway.Response
		c := newClient(t, Callbacks{Observe: func(context.Context, *gateway.Exchange) {
			if res.Body != nil {
				res.Body.Close()
			}
		}})
		if err := c.RoundTrip(t.Context(), get("/"), &res); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); string(b) != "ok" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		res.Body = nil
		good(t, c)
	})
	if protocol != "fastcgi" {
		return // no other client calls Stderr in the goroutine of its caller
	}
	t.Run("a panic in Stderr", func(t *testing.T) {
		c := newClient(t, Callbacks{})
		for range 3 {
			r := get("/stderr")
			r.Stderr = writer(func([]byte) { panic("of the caller") })
			panics(t, func() { Ask(t, c, r) })
		}
		good(t, c)
	})
	t.Run("Stderr closes the Body", func(t *testing.T) {
		c := newClient(t, Callbacks{})
		var res gateway.Response
		r := get("/stderr")
		r.Stderr = writer(func([]byte) { res.Body.Close() })
		if err := c.RoundTrip(t.Context(), r, &res); err != nil {
			t.Fatal(err)
		}
		io.ReadAll(res.Body) // "ok", if it had arrived, or an error
		good(t, c)
	})
}

type writer func(p []byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

// callbacks is the handler of TestCallbacks.
func callbacks(w gateway.ResponseWriter, r *gateway.Request) error {
	switch r.Path() {
	case "/interim":
		if err := w.WriteInterim(103, nil); err != nil {
			return err
		}
	case "/stderr":
		if err := w.Flush(); err != nil {
			return err
		}
		if _, err := io.WriteString(w.Stderr(), "a word\n"); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, "ok")
	return err
}
