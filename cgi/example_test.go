//go:build unix

package cgi_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os/exec"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
)

// A program that is a CGI script or a FastCGI application, as it is started.
func ExampleServer() {
	ctx := context.Background()
	handler := gatewayhttp.Handler(http.DefaultServeMux)
	var err error
	if fastcgi.Started() {
		err = (&fastcgi.Server{Handler: handler}).Run(ctx, "fd:0")
	} else {
		err = (&cgi.Server{Handler: handler}).Serve(ctx)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// A folder of scripts behind net/http.
func ExampleClient_root() {
	site := &gatewayhttp.Proxy{Backend: &cgi.Client{Root: "/usr/lib/cgi-bin"}}
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", site))
}

// One program, without net/http.
func ExampleClient() {
	c := &cgi.Client{Path: "/bin/sh", Args: []string{"-c", `printf 'Content-Type: text/plain\n\nhello, %s' "$QUERY_STRING"`}}
	var req gateway.Request
	if err := req.SetTarget("GET", "/?world"); err != nil {
		log.Fatal(err)
	}
	var res gateway.Response
	if err := c.RoundTrip(context.Background(), &req, &res); err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	fmt.Println(res.Status, string(body), err)
	// Output: 200 hello, world <nil>
}

// Prepare changes the command of a program, here its environment.
func ExampleClient_prepare() {
	c := &cgi.Client{
		Path: "/bin/sh",
		Args: []string{"-c", `printf 'Content-Type: text/plain\n\n%s' "$TENANT"`},
		Prepare: func(ctx context.Context, cmd *exec.Cmd, r *gateway.Request) error {
			cmd.Env = append(cmd.Env, "TENANT=blue")
			return nil
		},
	}
	defer c.Close()
	var req gateway.Request
	if err := req.SetTarget("GET", "/"); err != nil {
		log.Fatal(err)
	}
	var res gateway.Response
	if err := c.RoundTrip(context.Background(), &req, &res); err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	fmt.Println(string(body), err)
	// Output: blue <nil>
}
