package fastcgi_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"strings"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

// A handler that needs no net/http, and a client of it.
func Example() {
	srv := &fastcgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		w.Header().Set("Content-Type", "text/plain")
		_, err := fmt.Fprintf(w, "hello %s", r.PathInfo())
		return err
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go srv.Serve(l)
	defer srv.Close()

	client := &fastcgi.Client{Addr: l.Addr().String()}
	var req gateway.Request
	if err := req.SetTarget("GET", "/world"); err != nil {
		log.Fatal(err)
	}
	var res gateway.Response
	if err := client.RoundTrip(context.Background(), &req, &res); err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	fmt.Println(res.Status, string(body), err)
	// Output: 200 hello /world <nil>
}

// One FastCGI server in front of another.
func ExampleServer_proxy() {
	srv := &fastcgi.Server{Handler: &gateway.Proxy{Backend: &fastcgi.Client{Addr: "unix:/run/php/php-fpm.sock"}}}
	_ = srv.Run // with a context and an address
}

// Requests are read from any stream, without a server and without net/http.
func ExampleReader_ReadRequest() {
	var wire strings.Builder
	var sent gateway.Request
	if err := sent.SetTarget("POST", "/form"); err != nil {
		log.Fatal(err)
	}
	sent.SetBody([]byte("a=1"))
	if err := fastcgi.NewWriter(&wire).WriteRequest(&sent); err != nil {
		log.Fatal(err)
	}

	r := fastcgi.NewReader(strings.NewReader(wire.String()))
	var req gateway.Request
	err := r.ReadRequest(&req)
	for ; err == nil; err = r.ReadRequest(&req) {
		body, _ := io.ReadAll(req.Body)
		fmt.Printf("%s %s %q\n", req.Method(), req.PathInfo(), body)
	}
	fmt.Println(err)
	// Output:
	// POST /form "a=1"
	// EOF
}

// Records are read and written one by one by those who look at the wire.
func ExampleReader_Next() {
	wire, _ := fastcgi.AppendRecord(nil, fastcgi.TypeStdout, 1, []byte("Status: 204 No Content\r\n\r\n"))
	wire, _ = fastcgi.AppendEnd(wire, 1, fastcgi.End{AppStatus: 7})
	r := fastcgi.NewReader(strings.NewReader(string(wire)))
	for {
		rec, err := r.Next()
		if err != nil {
			break
		}
		fmt.Println(rec.Type, rec.ID, len(rec.Content))
	}
	// Output:
	// STDOUT 1 26
	// END_REQUEST 1 8
}
