package scgi_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/scgi"
)

// An http.Handler behind scgi_pass of nginx.
func ExampleServer() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	srv := &scgi.Server{Handler: gatewayhttp.Handler(http.DefaultServeMux)}
	if err := srv.Run(ctx, "unix:/run/app.sock"); err != nil {
		log.Fatal(err)
	}
}

// An application behind net/http.
func ExampleClient() {
	site := &gatewayhttp.Proxy{Backend: &scgi.Client{Addr: "127.0.0.1:4000"}}
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", site))
}

// A request over a connection, without net/http.
func ExampleReader() {
	ours, theirs := net.Pipe()
	go func() {
		var req gateway.Request
		req.SetTarget("GET", "/hello?name=world")
		scgi.NewWriter(ours).WriteRequest(&req)
		ours.Close()
	}()
	r := scgi.NewReader(theirs)
	var req gateway.Request
	err := r.ReadRequest(&req)
	for ; err == nil; err = r.ReadRequest(&req) {
		fmt.Println(req.Method(), req.PathInfo(), req.Query())
	}
	fmt.Println(err == io.EOF)
	// Output:
	// GET /hello name=world
	// true
}
