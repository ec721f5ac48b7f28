package conformance

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// A TimedClient makes a client over dial with a time-out, which may be zero or negative.
type TimedClient func(dial func(context.Context) (net.Conn, error), timeout time.Duration) gateway.RoundTripper

// over makes a client of app, an application that is given its end of a connection.
func (newClient TimedClient) over(timeout time.Duration, app func(c net.Conn)) gateway.RoundTripper {
	return newClient(func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go app(theirs)
		return ours, nil
	}, timeout)
}

const sentSize = 256 << 10

// sentBodies are bodies that a client sends in different ways.
var sentBodies = map[string]func() io.Reader{
	"no body":                  func() io.Reader { return nil },
	"a body in memory":         func() io.Reader { return bytes.NewReader(make([]byte, sentSize)) },
	"a body from a reader":     func() io.Reader { return io.MultiReader(bytes.NewReader(make([]byte, sentSize))) },
	"a small body":             func() io.Reader { return bytes.NewReader(make([]byte, 10)) },
	"a small body of a reader": func() io.Reader { return io.MultiReader(bytes.NewReader(make([]byte, 10))) },
}

// post returns a POST with a body of sentBodies.
func post(t *testing.T, name string) *gateway.Request {
	t.Helper()
	r := new(gateway.Request)
	if err := r.SetTarget("POST", "/"); err != nil {
		t.Fatal(err)
	}
	if r.Body = sentBodies[name](); r.Body != nil {
		r.ContentLength, _ = io.Copy(io.Discard, sentBodies[name]())
	}
	return r
}

// SendTimeout tests a client whose SendTimeout is zero or negative. respond writes a response of
// the protocol with the body "early".
func SendTimeout(t *testing.T, newClient TimedClient, respond func(w io.Writer)) {
	run := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
	}
	for name := range sentBodies {
		run("an application that reads nothing:  [472]"+name, func(t *testing.T) { readsNothing(t, newClient, name) })
		run("no SendTimeout:  [472]"+name, func(t *testing.T) { noSendTimeout(t, newClient, name) })
	}
	run("an application that reads slowly", func(t *testing.T) {
		early(t, "a body in memory", newClient.over(0, func(c net.Conn) {
			defer c.Close()
			for total := 0; total < sentSize; total += 8 << 10 {
				io.ReadFull(c, make([]byte, 8<<10))
				time.Sleep(50 * time.Second)
			}
			respond(c)
			io.Copy(io.Discard, c)
		}))
	})
	run("a response to a body that is not read", func(t *testing.T) {
		early(t, "a body from a reader", newClient.over(0, func(c net.Conn) {
			defer c.Close()
			c.Read(make([]byte, 1)) // before a request net/http expects no response
			respond(c)
		}))
	})
}

// silentUntilEnd is an application that neither reads nor responds.
func silentUntilEnd(t *testing.T) func(c net.Conn) {
	return func(c net.Conn) {
		<-t.Context().Done()
		c.Close()
	}
}

func readsNothing(t *testing.T, newClient TimedClient, name string) {
	begun := time.Now()
	err := newClient.over(0, silentUntilEnd(t)).RoundTrip(t.Context(), post(t, name), new(gateway.Response))
	e, ok := errors.AsType[*gateway.Error](err)
	if !ok || e.Phase != gateway.PhaseSend || !e.Timeout() || gateway.ErrorStatus(err) != http.StatusGatewayTimeout {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begun); took != time.Minute {
		t.Errorf("after %v", took)
	}
}

func noSendTimeout(t *testing.T, newClient TimedClient, name string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	err := newClient.over(-1, silentUntilEnd(t)).RoundTrip(ctx, post(t, name), new(gateway.Response))
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// early expects the response "early", and reads it late.
func early(t *testing.T, body string, c gateway.RoundTripper) {
	var res gateway.Response
	if err := c.RoundTrip(t.Context(), post(t, body), &res); err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	time.Sleep(2 * time.Minute)
	if b, err := io.ReadAll(res.Body); string(b) != "early" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
}

// ResponseTimeouts tests a client whose HeadTimeout and BodyTimeout are zero or negative. begin
// writes the head of a response and a part of its body.
func ResponseTimeouts(t *testing.T, newClient TimedClient, begin func(w io.Writer)) {
	for name, c := range map[string]struct {
		app   func(w io.Writer)
		phase gateway.Phase
	}{
		"an application that is silent [472]":               {func(io.Writer) {}, gateway.PhaseHead},
		"an application that is silent within a body [472]": {begin, gateway.PhaseBody},
	} {
		for _, timeout := range []time.Duration{0, -1} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { silent(t, newClient, c.app, c.phase, timeout) })
			})
		}
	}
}

func silent(t *testing.T, newClient TimedClient, app func(w io.Writer), phase gateway.Phase, timeout time.Duration) {
	c := newClient.over(timeout, func(c net.Conn) {
		c.Read(make([]byte, 1))
		go io.Copy(io.Discard, c)
		app(c)
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	var res gateway.Response
	begun := time.Now()
	err := c.RoundTrip(ctx, get("/"), &res)
	if err == nil {
		_, err = io.ReadAll(res.Body)
		res.Body.Close()
	}
	took := time.Since(begun)
	e, ok := errors.AsType[*gateway.Error](err)
	switch {
	case !ok || e.Phase != phase || gateway.ErrorStatus(err) != http.StatusGatewayTimeout:
		t.Errorf("got %v", err)
	case timeout == 0 && (!errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)):
		t.Errorf("got %v, which is the context's", err)
	case timeout == 0 && took != time.Minute:
		t.Errorf("after %v, want a minute", took)
	case timeout < 0 && took != time.Hour:
		t.Errorf("after %v, want that of the context", took)
	}
}
