package fastcgi

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
)

func TestSmoke(t *testing.T) {
	s := &Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		b, err := io.ReadAll(orEmpty(r.Body))
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprintf(w, "%s %s %d %d", r.Method(), r.PathInfo(), r.ContentLength, len(b))
		return nil
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	defer s.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w, rd := NewWriter(c), NewReader(c)
	w.KeepConn = true
	for _, n := range []int{0, 10, 16384, 100000, 1 << 20} {
		var req gateway.Request
		req.SetTarget("POST", "/x/y?z")
		req.SetBody(bytes.Repeat([]byte("a"), n))
		if err := w.WriteRequest(&req); err != nil {
			t.Fatal(err)
		}
		var res gateway.Response
		if err := rd.ReadResponse(&res); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		t.Log(res.Status, string(b), err)
	}
}

func orEmpty(r io.Reader) io.Reader {
	if r == nil {
		return bytes.NewReader(nil)
	}
	return r
}
