//go:build unix

package cgi_test

import (
	"context"
	"errors"
	"os/exec"
	"testing"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

// TestConformance is the suite that the siblings share.
func TestConformance(t *testing.T) {
	conformance.Run(t, conformance.Protocol{
		Name: "cgi", Refuses: true, Stderr: true,
		Serve:   func(t testing.TB, handler string) gateway.RoundTripper { return program(t, handler) },
		Respond: func(t testing.TB, response string) gateway.RoundTripper { return responding(t, response) },
		Ask: func(t testing.TB, handler, body string, nv ...string) string {
			env := []string{"GATEWAY_INTERFACE=CGI/1.1"}
			for i := 0; i < len(nv); i += 2 {
				env = append(env, nv[i]+"="+nv[i+1])
			}
			out, _, _ := run(t, handler, body, env...)
			return out
		},
		Sent: func(t testing.TB, r *gateway.Request) (*gateway.Params, error) {
			p := new(gateway.Params)
			c := &cgi.Client{Path: "/bin/true", Prepare: func(_ context.Context, cmd *exec.Cmd, _ *gateway.Request) error {
				if err := cgi.ConsumeEnv(cmd.Env, p); err != nil {
					t.Fatal(err)
				}
				return errSent
			}}
			err := c.RoundTrip(t.Context(), r, new(gateway.Response))
			if !errors.Is(err, errSent) {
				return nil, err
			}
			return p, nil
		},
	})
}

func TestVectors(t *testing.T) { conformance.Vectors(t, streams) }

func TestCallbacks(t *testing.T) {
	conformance.TestCallbacks(t, "cgi", func(t testing.TB, b conformance.Callbacks) gateway.RoundTripper {
		c := program(t, "callbacks")
		c.MaxProcs, c.Observe, c.Stderr = 1, b.Observe, b.Stderr
		c.Prepare = func(context.Context, *exec.Cmd, *gateway.Request) error {
			if b.Connect != nil {
				b.Connect()
			}
			return nil
		}
		return c
	})
}
