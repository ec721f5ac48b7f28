//go:build unix

package worker_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/gateway/worker"
)

// Two processes that always run. In a program Command is that of an application, such as php-cgi.
func ExamplePool() {
	self, err := os.Executable()
	if err != nil {
		log.Fatal(err)
	}
	pool := &worker.Pool{
		Command:    []string{self},
		Env:        []string{workerVar + "=fd:0"}, // this binary is then the application
		MinWorkers: 2,
		MaxWorkers: 2,
		Client:     func(addr string) worker.Client { return &fastcgi.Client{Addr: addr, MaxIdleConns: 1} },
	}
	defer pool.Close()
	if err := pool.Start(context.Background()); err != nil {
		log.Fatal(err)
	}
	var res gateway.Response
	if err := pool.RoundTrip(context.Background(), gatewaytest.NewRequest("GET", "/", nil), &res); err != nil {
		log.Fatal(err)
	}
	io.Copy(io.Discard, res.Body) // at its end the worker is free again
	res.Body.Close()
	s := pool.Status()
	fmt.Println(res.Status, s.Idle, "idle,", s.Requests, "request")
	// Output: 200 2 idle, 1 request
}
