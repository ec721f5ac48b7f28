// Package conformance is the suite that the four protocols run, so that they stay siblings. Rules
// that hold for all protocols are tested once, here; rules of one protocol are tested beside its
// code.
package conformance

import (
	"context"
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

// A Protocol is one of the four, as the suite uses it.
type Protocol struct {
	Name string

	// Serve starts a server with the named handler of Handlers and returns a client of it.
	Serve func(t testing.TB, handler string) gateway.RoundTripper

	// Respond returns a client of an application that reads a request, responds with those bytes, a
	// head and a body, and ends.
	Respond func(t testing.TB, response string) gateway.RoundTripper

	// Ask sends a server with the named handler a head of these params (name, value, name, value)
	// and body. It returns the response, with the head that a CGI program writes, or "" if there is
	// none.
	Ask func(t testing.TB, handler, body string, params ...string) string

	// Sent returns the params that a client sends for r, with no rule applied.
	Sent func(t testing.TB, r *gateway.Request) (*gateway.Params, error)

	Stderr        bool // STDERR and an exit status reach the client
	UnknownLength bool // a body of unknown length is received
	Refuses       bool // a request that violates a rule gets a response
}

// Limit is how long a test waits for an event that should take no time.
const Limit = 30 * time.Second

// An Outcome is the result of a client's request.
type Outcome struct {
	Res  gateway.Response
	Body string
	Err  error // of RoundTrip or of the body
}

// Ask sends r through c and reads the whole response.
func Ask(t testing.TB, c gateway.RoundTripper, r *gateway.Request) *Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Limit)
	defer cancel()
	o := new(Outcome)
	if o.Err = c.RoundTrip(ctx, r, &o.Res); o.Err != nil {
		return o
	}
	defer o.Res.Body.Close()
	b, err := io.ReadAll(o.Res.Body)
	o.Body, o.Err = string(b), err
	return o
}

func request(method, target, body string) *gateway.Request {
	return gatewaytest.NewRequest(method, target, []byte(body))
}

func get(target string) *gateway.Request { return request("GET", target, "") }

// Run runs the suite.
func Run(t *testing.T, p Protocol) {
	t.Run("sent", func(t *testing.T) { sent(t, p) })
	t.Run("received", func(t *testing.T) { received(t, p) })
	t.Run("bodies", func(t *testing.T) { bodies(t, p) })
	t.Run("heads", func(t *testing.T) { heads(t, p) })
	t.Run("handlers", func(t *testing.T) { handlers(t, p) })
	t.Run("ends", func(t *testing.T) { ends(t, p) })
}

// Play sends input to a server over c, closes that direction, and returns everything that the
// server sends.
func Play(t testing.TB, c Conn, input string) string {
	t.Helper()
	response, err := play(t, c, input)
	if err != nil {
		t.Errorf("reading the response to %.200q: %v", input, err)
	}
	return response
}

// PlayReset is Play for a response that may be cut by a reset.
func PlayReset(t testing.TB, c Conn, input string) string {
	t.Helper()
	response, err := play(t, c, input)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reading the response: %v", err)
	}
	return response
}

// Dropped sends input to the server at addr, which must close without a response. Unread input may
// cause a reset.
func Dropped(t testing.TB, addr, input string) {
	t.Helper()
	if got := PlayReset(t, Dial(t, addr), input); got != "" {
		t.Errorf("%q: response %q", input, got)
	}
}

func play(t testing.TB, c Conn, input string) (string, error) {
	t.Helper()
	defer c.Close()
	c.SetDeadline(time.Now().Add(Limit))
	go func() {
		io.WriteString(c, input)
		c.CloseWrite()
	}()
	b, err := io.ReadAll(c)
	return string(b), err
}

// A Conn is a connection one of whose directions can end.
type Conn interface {
	io.ReadWriteCloser
	CloseWrite() error
	SetDeadline(t time.Time) error
}
