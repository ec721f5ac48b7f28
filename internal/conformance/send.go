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

// SendTimeout tests a client whose SendTimeout is zero or negative. respond writes a response of
// the protocol with the body "early".
func SendTimeout(t *testing.T, newClient func(dial func(context.Context) (net.Conn, error), timeout time.Duration) gateway.RoundTripper, respond func(w io.Writer)) {
	const size = 256 << 10
	bodies := map[string]func() io.Reader{
		"no body":                  func() io.Reader { return nil },
		"a body in memory":         func() io.Reader { return bytes.NewReader(make([]byte, size)) },
		"a body from a reader":     func() io.Reader { return io.MultiReader(bytes.NewReader(make([]byte, size))) },
		"a small body":             func() io.Reader { return bytes.NewReader(make([]byte, 10)) },
		"a small body of a reader": func() io.Reader { return io.MultiReader(bytes.NewReader(make([]byte, 10))) },
	}
	request := func(body io.Reader) *gateway.Request {
		r := new(gateway.Request)
		if err := r.SetTarget("POST", "/"); err != nil {
			t.Fatal(err)
		}
		if r.Body = body; body != nil {
			n, _ := io.Copy(io.Discard, body)
			r.ContentLength = n
		}
		return r
	}
	over := func(timeout time.Duration, app func(c net.Conn)) gateway.RoundTripper {
		return newClient(func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go app(theirs)
			return ours, nil
		}, timeout)
	}
	for name, body := range bodies {
		t.Run("an application that reads nothing:  [472]"+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				c := over(0, func(c net.Conn) {
					<-t.Context().Done()
					c.Close()
				})
				r := request(body())
				r.Body = body()
				err := c.RoundTrip(t.Context(), r, new(gateway.Response))
				e, ok := errors.AsType[*gateway.Error](err)
				if !ok || e.Phase != gateway.PhaseSend || !e.Timeout() || gateway.ErrorStatus(err) != http.StatusGatewayTimeout {
					t.Errorf("got %v", err)
				}
				if took := time.Since(begun); took != time.Minute {
					t.Errorf("after %v", took)
				}
			})
		})
		t.Run("no SendTimeout:  [472]"+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				c := over(-1, func(c net.Conn) {
					<-t.Context().Done()
					c.Close()
				})
				r := request(body())
				r.Body = body()
				if err := c.RoundTrip(ctx, r, new(gateway.Response)); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
	t.Run("an application that reads slowly", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := over(0, func(c net.Conn) {
				defer c.Close()
				for total := 0; total < size; total += 8 << 10 {
					io.ReadFull(c, make([]byte, 8<<10))
					time.Sleep(50 * time.Second)
				}
				respond(c)
				io.Copy(io.Discard, c)
			})
			r := request(bodies["a body in memory"]())
			r.Body = bodies["a body in memory"]()
			o := new(Outcome)
			if o.Err = c.RoundTrip(t.Context(), r, &o.Res); o.Err != nil {
				t.Fatal(o.Err)
			}
			b, err := io.ReadAll(o.Res.Body)
			if string(b) != "early" || err != nil {
				t.Errorf("got %q, %v", b, err)
			}
			o.Res.Body.Close()
		})
	})
	t.Run("a response to a body that is not read", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := over(0, func(c net.Conn) {
				defer c.Close()
				respond(c)
			})
			r := request(bodies["a body from a reader"]())
			r.Body = bodies["a body from a reader"]()
			var res gateway.Response
			if err := c.RoundTrip(t.Context(), r, &res); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Minute)
			b, err := io.ReadAll(res.Body)
			if string(b) != "early" || err != nil {
				t.Errorf("got %q, %v", b, err)
			}
			res.Body.Close()
		})
	})
}

// ResponseTimeouts tests a client whose HeadTimeout and BodyTimeout are zero or negative. begin
// writes the head of a response and a part of its body.
func ResponseTimeouts(t *testing.T, newClient func(dial func(context.Context) (net.Conn, error), timeout time.Duration) gateway.RoundTripper, begin func(w io.Writer)) {
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

func silent(t *testing.T, newClient func(dial func(context.Context) (net.Conn, error), timeout time.Duration) gateway.RoundTripper,
	app func(w io.Writer), phase gateway.Phase, timeout time.Duration) {
	c := newClient(func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go io.Copy(io.Discard, theirs)
		go app(theirs)
		return ours, nil
	}, timeout)
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
	case timeout == 0 && took != time.Minute:
		t.Errorf("after %v, want a minute", took)
	case timeout < 0 && took != time.Hour:
		t.Errorf("after %v, want that of the context", took)
	}
}
