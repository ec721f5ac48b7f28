package gatewaytest_test

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

var greeting = gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
	_, err := fmt.Fprintf(w, "hello %s", r.PathInfo())
	return err
})

// A Recorder holds the response of a handler that is called directly.
func ExampleRecorder() {
	w := new(gatewaytest.Recorder)
	err := greeting.ServeGateway(w, gatewaytest.NewRequest("GET", "/ada", nil))
	fmt.Println(w.Status, &w.Body, err)
	// Output: 200 hello /ada <nil>
}

// A request has the params that every application expects.
func ExampleNewRequest() {
	r := gatewaytest.NewRequest("POST", "/form?draft=1", []byte("a=1"))
	fmt.Println(r.Method(), r.PathInfo(), r.Query(), r.ContentLength)
	// Output: POST /form draft=1 3
}

// A server runs until the test ends.
func ExampleStart() {
	var t testing.TB = new(example) // the *testing.T of a test
	addr := gatewaytest.Start(t, &fastcgi.Server{Handler: greeting})

	var res gateway.Response
	client := &fastcgi.Client{Addr: addr}
	if err := client.RoundTrip(context.Background(), gatewaytest.NewRequest("GET", "/ada", nil), &res); err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	fmt.Println(res.Status, string(body), err)
	// Output: 200 hello /ada <nil>
}

// example takes the place of a test, which an example has not.
type example struct{ testing.TB }

func (*example) Helper()        {}
func (*example) Cleanup(func()) {}
func (*example) Fatal(a ...any) { panic(fmt.Sprint(a...)) }
