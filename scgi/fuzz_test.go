package scgi_test

import (
	"context"
	"net"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/scgi"
)

func FuzzConsumeParams(f *testing.F) { conformance.FuzzParams(f, codec) }

func FuzzConsumeRequest(f *testing.F) { conformance.FuzzConsumeRequest(f, codec) }

func FuzzReadRequest(f *testing.F) { conformance.FuzzReader(f, codec, "request") }

func FuzzReadResponse(f *testing.F) { conformance.FuzzReader(f, codec, "response") }

func FuzzServer(f *testing.F) {
	s := &scgi.Server{Handler: conformance.Handlers["echo"], Logger: quiet}
	conformance.FuzzServer(f, "scgi", s.ServeConn)
}

func FuzzClient(f *testing.F) {
	conformance.FuzzClient(f, codec, func(dial func(context.Context) (net.Conn, error)) gateway.RoundTripper {
		return &scgi.Client{Dial: dial}
	})
}
