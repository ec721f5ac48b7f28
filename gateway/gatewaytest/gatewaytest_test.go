package gatewaytest_test

import (
	"fmt"
	"io"
	"testing"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

var hello = gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(201)
	io.WriteString(w.Stderr(), "a word")
	w.SetAppStatus(3)
	_, err := fmt.Fprintf(w, "hello %s", r.PathInfo())
	return err
})

func TestRecorder(t *testing.T) {
	var w gatewaytest.Recorder
	if err := hello.ServeGateway(&w, gatewaytest.NewRequest("GET", "/x", nil)); err != nil {
		t.Fatal(err)
	}
	if w.Status != 201 || w.Body.String() != "hello /x" || w.Errors.String() != "a word" || w.AppStatus != 3 {
		t.Errorf("got %d %q %q %d", w.Status, &w.Body, &w.Errors, w.AppStatus)
	}
	if got := w.Header().Get("content-type"); got != "text/plain" {
		t.Errorf("Content-Type %q", got)
	}
}

func TestStart(t *testing.T) {
	c := &fastcgi.Client{Addr: gatewaytest.Start(t, &fastcgi.Server{Handler: hello}), Stderr: nil}
	var res gateway.Response
	if err := c.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/x", nil), &res); err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || string(b) != "hello /x" || res.Status != 201 || res.AppStatus != 3 {
		t.Errorf("got %d %q %v, appStatus %d", res.Status, b, err, res.AppStatus)
	}
}

func TestNewRequestPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic for a method that is none")
		}
	}()
	gatewaytest.NewRequest("G T", "/", nil)
}

func TestRecorderInterim(t *testing.T) {
	w := new(gatewaytest.Recorder)
	var h gateway.Header
	h.Set("Link", "</style.css>")
	if err := w.WriteInterim(103, &h); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteInterim(200, nil); err == nil {
		t.Error("200 is no interim status")
	}
	w.WriteHeader(204)
	if err := w.WriteInterim(103, nil); err == nil {
		t.Error("an interim response after the head")
	}
	if len(w.Interim) != 1 || w.Interim[0].Status != 103 || w.Interim[0].Header.Get("Link") != "</style.css>" || w.Status != 204 {
		t.Errorf("%+v", w.Interim)
	}
}

func TestRecorderHijack(t *testing.T) {
	w := new(gatewaytest.Recorder)
	s, err := w.Hijack()
	if err != nil || w.Status != 101 || w.Stream == nil {
		t.Fatalf("%v, status %d", err, w.Status)
	}
	go func() {
		io.WriteString(s, "hello")
		s.Close()
	}()
	if b, err := io.ReadAll(w.Stream); string(b) != "hello" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := w.Hijack(); err == nil {
		t.Error("a second Hijack")
	}
}
