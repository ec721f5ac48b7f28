package fastcgi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/iotest"

	"github.com/gatehouse-go/gatehouse/gateway"
)

func TestSmokeClient(t *testing.T) {
	s := &Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		b, err := io.ReadAll(orEmpty(r.Body))
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprintf(w, "%s %s %d %d", r.Method(), r.PathInfo(), r.ContentLength, len(b))
		w.Write(b)
		return nil
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	defer s.Close()
	for _, idle := range []int{0, 2} {
		c := &Client{Addr: l.Addr().String(), MaxIdle: idle}
		for _, n := range []int{0, 10, 16384, 100000, 1 << 20, 10 << 20} {
			var req gateway.Request
			req.SetTarget("POST", "/x/y?z")
			req.SetBody(bytes.Repeat([]byte("a"), n))
			if n == 100000 {
				req.Body = iotest.HalfReader(req.Body)
			}
			var res gateway.Response
			if err := c.RoundTrip(context.Background(), &req, &res); err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			t.Log(res.Status, len(b), err)
			res.Body.Close()
		}
		t.Logf("%+v", c.Stats())
		c.Close()
	}
}

func BenchmarkGet(b *testing.B) {
	s := &Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		r.Params.Lookup("X")
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "hello, world\n")
		return nil
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go s.Serve(l)
	defer s.Close()
	c := &Client{Addr: l.Addr().String(), MaxIdle: 1}
	var req gateway.Request
	req.SetTarget("GET", "/x/y?z")
	var res gateway.Response
	b.ReportAllocs()
	for b.Loop() {
		if err := c.RoundTrip(context.Background(), &req, &res); err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			b.Fatal(err)
		}
		res.Body.Close()
	}
}
