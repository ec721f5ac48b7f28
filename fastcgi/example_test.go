package fastcgi_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"time"

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

// Records are read and written one by one, as a program does that inspects them.
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

// A request to PHP: the params name the script.
func ExampleClient() {
	application := &fastcgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s", r.Params.Get("SCRIPT_FILENAME"), body)
		return err
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go application.Serve(l)
	defer application.Close()

	client := &fastcgi.Client{Addr: l.Addr().String(), MaxIdleConns: 4, HeadTimeout: 30 * time.Second}
	defer client.Close()
	var req gateway.Request
	if err := req.SetTarget("POST", "/index.php"); err != nil {
		log.Fatal(err)
	}
	req.Params.Set("SCRIPT_FILENAME", "/srv/www/index.php")
	req.SetBody([]byte("name=ada"))

	var res gateway.Response
	if err := client.RoundTrip(context.Background(), &req, &res); err != nil {
		log.Fatal(err) // gateway.Retryable(err) tells whether the application can have begun
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	fmt.Println(res.Status, string(body), err)
	// Output: 200 /srv/www/index.php name=ada <nil>
}

// A Writer writes records, such as those of a proxy that looks at the bytes.
func ExampleWriter() {
	var wire bytes.Buffer
	w := fastcgi.NewWriter(&wire)
	w.WriteRecord(fastcgi.TypeStdout, 1, []byte("Status: 204 No Content\r\n\r\n"))
	w.WriteRecord(fastcgi.TypeStdout, 1, nil)          // the end of the stream
	w.WriteRecord(fastcgi.TypeEnd, 1, make([]byte, 8)) // a zero appStatus, and StatusComplete

	var res gateway.Response
	err := fastcgi.NewReader(&wire).ReadResponse(&res)
	fmt.Println(res.Status, err)
	// Output: 204 <nil>
}

// An Authorizer decides whether the web server may serve a request. A 200 allows it, and
// fields Variable-… become params of the request.
func ExampleServer_authorizer() {
	srv := &fastcgi.Server{Authorizer: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		if r.Params.Get("HTTP_AUTHORIZATION") == "" {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(401)
			return nil
		}
		w.Header().Set("Variable-AUTH_USER", "ada")
		return nil
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go srv.Serve(l)
	defer srv.Close()

	client := &fastcgi.Client{Addr: l.Addr().String()}
	for _, credentials := range []string{"", "Basic YWRhOg=="} {
		var req gateway.Request
		req.SetTarget("GET", "/")
		req.Role = gateway.RoleAuthorizer
		req.Params.Set("HTTP_AUTHORIZATION", credentials)
		var res gateway.Response
		if err := client.RoundTrip(context.Background(), &req, &res); err != nil {
			log.Fatal(err)
		}
		res.Body.Close()
		fmt.Printf("%d %q\n", res.Status, res.Header.Get("Variable-AUTH_USER"))
	}
	// Output:
	// 401 ""
	// 200 "ada"
}

// A program that a web server or spawn-fcgi starts has a socket as descriptor 0. Started by hand it
// listens itself.
func ExampleStarted() {
	addr := "127.0.0.1:9000"
	if fastcgi.Started() {
		addr = "fd:0"
	}
	fmt.Println(addr)
	// Output: 127.0.0.1:9000
}
