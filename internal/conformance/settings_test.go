package conformance_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"runtime"
	"testing"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// TestNegativeSettings sets every number of a server, a client and a Spool to -1, which means no
// limit for a time and the default for any other limit.
func TestNegativeSettings(t *testing.T) {
	echo := gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		_, err := io.Copy(w, r.Body)
		return err
	})
	quiet := slog.New(slog.DiscardHandler)
	type server interface {
		gatewaytest.Server
		Listen(addr string) (net.Listener, error)
	}
	for _, c := range []struct {
		name    string
		server  server
		backend func(addr string) gateway.RoundTripper
	}{
		{"fastcgi", &fastcgi.Server{Handler: echo, Logger: quiet}, func(addr string) gateway.RoundTripper { return &fastcgi.Client{Addr: addr} }},
		{"scgi", &scgi.Server{Handler: echo, Logger: quiet}, func(addr string) gateway.RoundTripper { return &scgi.Client{Addr: addr} }},
		{"uwsgi", &uwsgi.Server{Handler: echo, Logger: quiet}, func(addr string) gateway.RoundTripper { return &uwsgi.Client{Addr: addr} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			conformance.Negative(c.server)
			backend := c.backend(gatewaytest.Start(t, c.server))
			conformance.Negative(backend)
			post(t, backend)
		})
	}
	t.Run("cgi", func(t *testing.T) {
		if runtime.GOOS == "windows" {
			t.Skip("needs a shell")
		}
		c := &cgi.Client{Path: "/bin/sh", Args: []string{"-c", `printf 'Content-Type: text/plain\n\n'; cat`}}
		conformance.Negative(c)
		post(t, c)
		c.Close()
	})
	t.Run("Spool", func(t *testing.T) {
		spool := &gateway.Spool{Backend: gateway.InProcess(echo)}
		conformance.Negative(spool)
		post(t, spool)
	})
}

// post sends a body of unknown length, if the backend is a Spool, or else of 100,000 bytes, which
// backend must echo.
func post(t *testing.T, backend gateway.RoundTripper) {
	t.Helper()
	body := bytes.Repeat([]byte("0123456789"), 10_000)
	r := gatewaytest.NewRequest("POST", "/", body)
	if _, spools := backend.(*gateway.Spool); spools {
		r.Body, r.ContentLength = io.MultiReader(bytes.NewReader(body)), -1
	}
	var res gateway.Response
	if err := backend.RoundTrip(context.Background(), r, &res); err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
