package scgi_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/scgi"
)

func TestWriterWithoutBody(t *testing.T) {
	for _, res := range []*gateway.Response{{Status: 304, ContentLength: 10}, {Status: 200, ContentLength: 10}} {
		var b strings.Builder
		if err := scgi.NewWriter(&b).WriteResponse(res); err != nil || !strings.Contains(b.String(), "Status: ") {
			t.Errorf("%q, %v", b.String(), err)
		}
	}
	r := gatewaytest.NewRequest("POST", "/", nil)
	r.ContentLength = 10
	if err := scgi.NewWriter(io.Discard).WriteRequest(r); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a request without the body it promises: %v", err)
	}
}

// A body of unknown kind that is short leaves with its head; one that fails at once sends nothing.
func TestBodiesThatFail(t *testing.T) {
	addr := gatewaytest.Start(t, &scgi.Server{Handler: conformance.Handlers["echo"], Logger: quiet})
	for name, body := range map[string]io.Reader{
		"short": struct{ io.Reader }{strings.NewReader("body")}, "long": struct{ io.Reader }{strings.NewReader("body and more")},
		"failing": iotest.ErrReader(errFailed), "failing later": io.MultiReader(strings.NewReader("bo"), iotest.ErrReader(errFailed)),
		"that never gives anything": stuck{},
	} {
		for _, length := range []int64{9, 20000} {
			r := gatewaytest.NewRequest("POST", "/", nil)
			r.Body, r.ContentLength = body, length
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			err := (&scgi.Client{Addr: addr}).RoundTrip(ctx, r, new(gateway.Response))
			cancel()
			if e, ok := errors.AsType[*gateway.Error](err); !ok || errors.Is(err, context.DeadlineExceeded) || e.Received {
				t.Errorf("079 %s, %d: %v", name, length, err)
			}
		}
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }
