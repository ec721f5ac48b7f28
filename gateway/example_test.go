package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

// A function is a Handler for the server of any protocol.
func ExampleHandlerFunc() {
	hello := gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		w.Header().Set("Content-Type", "text/plain")
		_, err := fmt.Fprintf(w, "%s %s, %s", r.Method(), r.PathInfo(), r.Params.Get("REMOTE_USER"))
		return err
	})

	w := new(gatewaytest.Recorder)
	r := gatewaytest.NewRequest("GET", "/hello", nil)
	r.Params.Set("REMOTE_USER", "ada")
	err := hello.ServeGateway(w, r)
	fmt.Println(w.Status, &w.Body, err)
	// Output: 200 GET /hello, ada <nil>
}

// counter counts the bytes of a response body.
type counter struct {
	gateway.ResponseWriter // embedded, so that every other method is passed on
	n                      int
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n += n
	return n, err
}

// A wrapper of a ResponseWriter embeds it and redefines a method.
func ExampleResponseWriter() {
	count := func(next gateway.Handler) gateway.Handler {
		return gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			c := &counter{ResponseWriter: w}
			err := next.ServeGateway(c, r)
			fmt.Println(r.PathInfo(), c.n, "bytes")
			return err
		})
	}
	page := gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		_, err := io.WriteString(w, "0123456789")
		return err
	})

	count(page).ServeGateway(new(gatewaytest.Recorder), gatewaytest.NewRequest("GET", "/page", nil))
	// Output: /page 10 bytes
}

// A handler is called like a backend, without a connection.
func ExampleInProcess() {
	backend := gateway.InProcess(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		w.WriteHeader(201)
		_, err := io.Copy(w, r.Body)
		return err
	}))

	var res gateway.Response
	if err := backend.RoundTrip(context.Background(), gatewaytest.NewRequest("POST", "/", []byte("hello")), &res); err != nil {
		fmt.Println(err)
		return
	}
	defer res.Body.Close()
	fmt.Print(res.Status, " ")
	io.Copy(os.Stdout, res.Body)
	// Output: 201 hello
}

// A target that cannot be reached is marked, and its requests go to another one.
func ExampleBalancer() {
	hello := func(name string) gateway.RoundTripper {
		return gateway.InProcess(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			_, err := io.WriteString(w, "hello from "+name)
			return err
		}))
	}
	down := gateway.RoundTripperFunc(func(context.Context, *gateway.Request, *gateway.Response) error {
		return &gateway.Error{Phase: gateway.PhaseDial, Addr: "two", Err: errors.New("connection refused")}
	})
	b := &gateway.Balancer{
		Targets: []gateway.Target{{Name: "one", Backend: hello("one")}, {Name: "two", Backend: down}, {Name: "three", Backend: hello("three"), Backup: true}},
		Changed: func(name string, err error) { fmt.Println(name, "is marked:", err) },
	}
	for range 3 {
		var res gateway.Response
		if err := b.RoundTrip(context.Background(), gatewaytest.NewRequest("GET", "/", nil), &res); err != nil {
			fmt.Println(err)
			return
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		fmt.Printf("%s\n", body)
	}
	// Output:
	// hello from one
	// two is marked: gateway: dial two: connection refused
	// hello from one
	// hello from one
}

// A Proxy is a Handler that passes requests to a backend, and can change them and the responses.
func ExampleProxy() {
	backend := gateway.InProcess(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		if r.PathInfo() == "/fail" {
			return errors.New("failed")
		}
		_, err := fmt.Fprintf(w, "tenant %s", r.Params.Get("TENANT"))
		return err
	}))
	proxy := &gateway.Proxy{
		Backend: backend,
		Rewrite: func(r *gateway.Request) error {
			r.Params.Set("TENANT", "blue")
			return nil
		},
		ModifyResponse: func(res *gateway.Response) error {
			res.Header.Set("X-Served-By", "gatehouse")
			return nil
		},
		ErrorHandler: func(w gateway.ResponseWriter, r *gateway.Request, err error) error {
			w.WriteHeader(gateway.ErrorStatus(err))
			return nil
		},
	}

	for _, path := range []string{"/", "/fail"} {
		w := new(gatewaytest.Recorder)
		proxy.ServeGateway(w, gatewaytest.NewRequest("GET", path, nil))
		fmt.Println(strings.TrimSpace(fmt.Sprint(w.Status, " ", w.Header().Get("X-Served-By"), " ", &w.Body)))
	}
	// Output:
	// 200 gatehouse tenant blue
	// 502
}

// The params of a request are read in the order in which they were received.
func ExampleParams_All() {
	var p gateway.Params
	p.Add("REQUEST_METHOD", "GET")
	p.Add("HTTP_HOST", "example.com")
	for name, value := range p.All() { // both are views: copy what is kept
		fmt.Printf("%s=%s\n", name, value)
	}
	// Output:
	// REQUEST_METHOD=GET
	// HTTP_HOST=example.com
}
