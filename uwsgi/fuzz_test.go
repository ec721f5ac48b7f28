package uwsgi_test

import (
	"bytes"
	"context"
	"net"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

func FuzzConsumeParams(f *testing.F) { conformance.FuzzParams(f, codec) }

func FuzzConsumeRequest(f *testing.F) { conformance.FuzzConsumeRequest(f, codec) }

func FuzzReadRequest(f *testing.F) { conformance.FuzzReader(f, codec, "request") }

func FuzzReadResponse(f *testing.F) { conformance.FuzzReader(f, codec, "response") }

// FuzzConsumeHeader reads a header, and compares it with the one that is written for it.
func FuzzConsumeHeader(f *testing.F) {
	f.Add([]byte("\x05\x01\x02\x03rest"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n := uwsgi.ConsumeHeader(b)
		if (n == 0) != (len(b) < 4) || n > 0 && !bytes.Equal(uwsgi.AppendHeader(nil, h), b[:n]) {
			t.Fatalf("%q: %+v, %d", b, h, n)
		}
	})
}

func FuzzServer(f *testing.F) {
	s := &uwsgi.Server{Handler: conformance.Handlers["echo"], Logger: quiet}
	conformance.FuzzServer(f, "uwsgi", s.ServeConn)
}

func FuzzClient(f *testing.F) {
	conformance.FuzzClient(f, codec, func(dial func(context.Context) (net.Conn, error)) gateway.RoundTripper {
		return &uwsgi.Client{Dial: dial}
	})
}
