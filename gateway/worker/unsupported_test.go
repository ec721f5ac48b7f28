//go:build !unix

package worker_test

import (
	"errors"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/gateway/worker"
)

func TestUnsupported(t *testing.T) {
	p := &worker.Pool{Command: []string{"program"}, Client: func(string) worker.Client { return nil }}
	if err := p.Start(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if err := p.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/", nil), new(gateway.Response)); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if err := errors.Join(p.Reload(t.Context()), p.Shutdown(t.Context()), p.Close()); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}
