package conformance

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// Callbacks are the functions of a caller that a client calls.
type Callbacks struct {
	Connect func() // called by Dial, or by Prepare
	Observe func(ctx context.Context, x *gateway.Exchange)
	Stderr  func(ctx context.Context, line []byte) // of FastCGI and CGI
}

// A CallbackClient returns a client with these functions and one place, of a server with the
// handler "callbacks" and SendInterim.
type CallbackClient func(t testing.TB, b Callbacks) gateway.RoundTripper

// TestCallbacks checks a client whose functions panic or close the Body. protocol is its name.
func TestCallbacks(t *testing.T, protocol string, newClient CallbackClient) {
	for name, f := range map[string]func(*testing.T, CallbackClient){
		"a panic while connecting": panicInConnect,
		"a panic in Observe":       panicInClientObserve,
		"a panic in Observe, behind a response that is read in the background": panicBehindResponse,
		"Observe closes the Body": closeInObserve,
	} {
		t.Run(name, func(t *testing.T) { f(t, newClient) })
	}
	if protocol != "cgi" { // its server sends no interim response
		t.Run("a panic in Interim", func(t *testing.T) { panicInInterim(t, newClient) })
	}
	if protocol == "fastcgi" || protocol == "cgi" {
		t.Run("a panic in the client's Stderr", func(t *testing.T) { panicInClientStderr(t, newClient) })
	}
	if protocol == "fastcgi" { // no other client calls Stderr in the goroutine of its caller
		t.Run("a panic in Stderr", func(t *testing.T) { panicInStderr(t, newClient) })
		t.Run("Stderr closes the Body", func(t *testing.T) { closeInStderr(t, newClient) })
	}
}

// panics checks that f panics because of the caller.
func panics(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if v := recover(); v != "of the caller" {
			t.Errorf("recovered %v", v)
		}
	}()
	f()
}

// stillGood checks that a request still finds a place.
func stillGood(t *testing.T, c gateway.RoundTripper) {
	t.Helper()
	noneInFlight(t, c)
	if o := Ask(t, c, get("/")); o.Err != nil || o.Body != "ok" {
		t.Errorf("%q, %v", o.Body, o.Err)
	}
}

func panicInConnect(t *testing.T, newClient CallbackClient) {
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
	stillGood(t, c)
}

func panicInInterim(t *testing.T, newClient CallbackClient) {
	c := newClient(t, Callbacks{})
	for range 3 {
		r := get("/interim")
		r.Interim = func(int, *gateway.Header) error { panic("of the caller") }
		panics(t, func() { c.RoundTrip(t.Context(), r, new(gateway.Response)) })
	}
	stillGood(t, c)
}

func panicInClientObserve(t *testing.T, newClient CallbackClient) {
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
	stillGood(t, c)
}

func panicBehindResponse(t *testing.T, newClient CallbackClient) {
	c := newClient(t, Callbacks{Observe: func(context.Context, *gateway.Exchange) { panic("of the caller") }})
	var res gateway.Response
	if err := c.RoundTrip(t.Context(), request("HEAD", "/slow", ""), &res); err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() { recover() }() // if there is nothing to be read
		res.Body.Close()
	}()
	noneInFlight(t, c)
}

func closeInObserve(t *testing.T, newClient CallbackClient) {
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
	stillGood(t, c)
}

func panicInStderr(t *testing.T, newClient CallbackClient) {
	c := newClient(t, Callbacks{})
	for range 3 {
		r := get("/stderr")
		r.Stderr = writer(func([]byte) { panic("of the caller") })
		panics(t, func() { Ask(t, c, r) })
	}
	stillGood(t, c)
}

// panicInClientStderr has Stderr panic where no goroutine of the caller is left: while a response
// without a body is read in the background, and at a last line without an end.
func panicInClientStderr(t *testing.T, newClient CallbackClient) {
	bad := true
	c := newClient(t, Callbacks{Stderr: func(context.Context, []byte) {
		if bad {
			panic("of the caller")
		}
	}})
	for _, path := range []string{"/slow-stderr", "/stderr", "/partial-stderr"} {
		var res gateway.Response
		func() {
			defer func() { recover() }() // it may be the caller's goroutine
			if err := c.RoundTrip(t.Context(), request("HEAD", path, ""), &res); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
			res.Body.Close()
		}()
	}
	noneInFlight(t, c)
	bad = false
	stillGood(t, c)
}

func closeInStderr(t *testing.T, newClient CallbackClient) {
	c := newClient(t, Callbacks{})
	var res gateway.Response
	r := get("/stderr")
	r.Stderr = writer(func([]byte) { res.Body.Close() })
	if err := c.RoundTrip(t.Context(), r, &res); err != nil {
		t.Fatal(err)
	}
	io.ReadAll(res.Body) // "ok", if it had arrived, or an error
	stillGood(t, c)
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
	case "/slow":
		if err := w.Flush(); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	case "/slow-stderr", "/partial-stderr":
		if err := w.Flush(); err != nil {
			return err
		}
		if r.Path() == "/slow-stderr" {
			time.Sleep(30 * time.Millisecond)
		}
		if _, err := io.WriteString(w.Stderr(), map[string]string{"/slow-stderr": "a word\n", "/partial-stderr": "a wo"}[r.Path()]); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
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
