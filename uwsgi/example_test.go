package uwsgi_test

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
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// An http.Handler behind uwsgi_pass of nginx.
func ExampleServer() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	srv := &uwsgi.Server{Handler: gatewayhttp.Handler(http.DefaultServeMux)}
	if err := srv.Run(ctx, "unix:/run/app.sock"); err != nil {
		log.Fatal(err)
	}
}

// An application behind net/http.
func ExampleClient() {
	site := &gatewayhttp.Proxy{Backend: &uwsgi.Client{Addr: "127.0.0.1:4000"}}
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", site))
}

// A request over a connection, without net/http.
func ExampleReader() {
	ours, theirs := net.Pipe()
	go func() {
		var req gateway.Request
		req.SetTarget("GET", "/hello?name=world")
		uwsgi.NewWriter(ours).WriteRequest(&req)
		ours.Close()
	}()
	r := uwsgi.NewReader(theirs)
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

// Ping asks whether a server is alive.
func ExampleClient_Ping() {
	srv := &uwsgi.Server{Handler: gatewayhttp.Handler(http.DefaultServeMux), Ping: true}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go srv.Serve(l)
	defer srv.Close()

	client := &uwsgi.Client{Addr: l.Addr().String()}
	warning, err := client.Ping(context.Background())
	fmt.Printf("%q %v\n", warning, err)
	// Output: "" <nil>
}

// An application behind a subscription server, such as uWSGI's fastrouter.
func ExampleSubscriber() {
	router, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer router.Close()

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	s := &uwsgi.Subscriber{
		Subscription: uwsgi.Subscription{Key: "example.com", Address: "127.0.0.1:4000"},
		Routers:      []string{router.LocalAddr().String()},
	}
	go s.Run(ctx)

	// What the router receives.
	packet := make([]byte, 65536)
	n, _, err := router.ReadFrom(packet)
	if err != nil {
		log.Fatal(err)
	}
	var got uwsgi.Subscription
	if _, err := uwsgi.ConsumeSubscription(packet[:n], &got); err != nil {
		log.Fatal(err)
	}
	fmt.Println(got.Key, "at", got.Address)
	// Output: example.com at 127.0.0.1:4000
}
