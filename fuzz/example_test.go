package fuzz_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/fuzz"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/scgi"
)

// The name of a seed tells the side that sends it, and whether it is valid.
func ExampleSeeds() {
	count := make(map[string]int)
	for name := range fuzz.Seeds(fuzz.SCGI) {
		side, _, _ := strings.Cut(name, "/")
		if strings.HasSuffix(name, ".bad") {
			side += ", invalid"
		}
		count[side]++
	}
	for side := range maps.Keys(count) {
		fmt.Println(side)
	}
	// Unordered output:
	// request
	// request, invalid
	// response
	// response, invalid
}

// The decoder under test is a function. In a fuzz target, t and b come from f.Fuzz.
func ExampleDecoder() {
	var t testing.TB = new(printer)
	theirs := func(b []byte) (params map[string]string, n int, err error) {
		var p gateway.Params
		if n, err = scgi.ConsumeRequest(b, &p); err != nil || n == 0 {
			return nil, 0, io.ErrUnexpectedEOF // a wrong error if the head is malformed
		}
		params = make(map[string]string)
		for name, value := range p.All() {
			params[string(name)] = string(value)
		}
		return params, n, nil
	}
	fuzz.Decoder(t, fuzz.SCGI, []byte("24:CONTENT_LENGTH\x000\x00SCGI\x001\x00,"), theirs)
	fmt.Println(t.Failed())
	// Output: false
}

// The server under test is reached through Dial. The handler echoes the query, so that the response
// to one request shows bytes of another.
func ExampleServer() {
	var t testing.TB = new(printer)
	addr := gatewaytest.Start(t, &scgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		_, err := io.WriteString(w, r.Query())
		return err
	})})
	s := &fuzz.Server{Protocol: fuzz.SCGI, Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}}
	s.Play(t, []byte("24:CONTENT_LENGTH\x000\x00SCGI\x001\x00,"))
	fmt.Println(t.Failed())
	// Output: false
}

// The client under test sends a GET to the address that it is given.
func ExampleClient() {
	var t testing.TB = new(printer)
	c := &fuzz.Client{Protocol: fuzz.SCGI, Call: func(ctx context.Context, addr string) (io.ReadCloser, error) {
		var res gateway.Response
		err := (&scgi.Client{Addr: addr}).RoundTrip(ctx, gatewaytest.NewRequest("GET", "/", nil), &res)
		return res.Body, err
	}}
	c.Play(t, []byte("Status: 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
	fmt.Println(t.Failed())
	// Output: false
}

// printer takes the place of a test, which an example has not, and prints failures.
type printer struct {
	testing.TB
	failed bool
}

func (p *printer) Helper()                  {}
func (p *printer) Cleanup(func())           {}
func (p *printer) Context() context.Context { return context.Background() }
func (p *printer) Failed() bool             { return p.failed }

func (p *printer) Errorf(format string, a ...any) {
	p.failed = true
	fmt.Printf(format+"\n", a...)
}

func (p *printer) Fatalf(format string, a ...any) {
	p.Errorf(format, a...)
	panic("failed")
}

func (p *printer) Fatal(a ...any) { p.Fatalf("%s", fmt.Sprint(a...)) }
