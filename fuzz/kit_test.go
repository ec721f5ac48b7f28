package fuzz_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/fuzz"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// This file has the helpers of the tests: both ends of each protocol by its name, and a test that
// may fail.

var quiet = slog.New(slog.DiscardHandler)

var protocols = []fuzz.Protocol{fuzz.CGI, fuzz.FastCGI, fuzz.SCGI, fuzz.UWSGI}

// wires are those that have connections.
var wires = protocols[1:]

// server returns our server of a protocol.
func server(p fuzz.Protocol, h gateway.Handler) interface {
	Serve(l net.Listener) error
	ServeConn(ctx context.Context, c net.Conn) error
	Shutdown(ctx context.Context) error
	Close() error
} {
	switch p {
	case fuzz.FastCGI:
		return &fastcgi.Server{Handler: h, Authorizer: h, Filter: h, Logger: quiet}
	case fuzz.SCGI:
		return &scgi.Server{Handler: h, Logger: quiet}
	case fuzz.UWSGI:
		return &uwsgi.Server{Handler: h, Logger: quiet}
	}
	panic(p)
}

// client returns our client of a protocol, for an address or, with CGI, a program.
func client(p fuzz.Protocol, addr string) gateway.RoundTripper {
	switch p {
	case fuzz.CGI:
		return &cgi.Client{Path: addr, Logger: quiet}
	case fuzz.FastCGI:
		return &fastcgi.Client{Addr: addr, Logger: quiet}
	case fuzz.SCGI:
		return &scgi.Client{Addr: addr}
	case fuzz.UWSGI:
		return &uwsgi.Client{Addr: addr}
	}
	panic(p)
}

// echo responds with the params and the body of the request.
var echo = gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
	for name, value := range r.Params.All() {
		fmt.Fprintf(w, "%s=%s\n", name, value)
	}
	if r.Body != nil {
		io.Copy(w, r.Body)
	}
	if r.Data != nil {
		io.Copy(w, r.Data)
	}
	return nil
})

// dialer dials one address.
func dialer(addr string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
}

// A record keeps the failures that a test reports.
type record struct {
	testing.TB
	said []string
}

func (r *record) Errorf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func (r *record) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// failures returns the failures that f reports.
func failures(t *testing.T, f func(t testing.TB)) string {
	r := &record{TB: t}
	over := make(chan struct{})
	go func() {
		defer close(over)
		f(r)
	}()
	<-over
	return strings.Join(r.said, "\n")
}

// expect fails t unless f says something with those words.
func expect(t *testing.T, words string, f func(t testing.TB)) {
	t.Helper()
	if said := failures(t, f); !strings.Contains(said, words) {
		t.Errorf("not found: %s; said: %q", words, said)
	}
}

var errOther = errors.New("refused")
