package gateway_test

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
)

func TestErrorStatusOfBodies(t *testing.T) {
	late := fmt.Errorf("%w: %w", gateway.ErrRequestBody, os.ErrDeadlineExceeded)
	for _, c := range []struct {
		err  error
		want int
	}{
		{gateway.ErrRequestBody, 400},
		{&gateway.Error{Phase: gateway.PhaseHead, Err: gateway.ErrRequestBody}, 400},
		{late, 408},
		{&gateway.Error{Phase: gateway.PhaseSend, Err: late}, 408},
		{&gateway.Error{Phase: gateway.PhaseSend, Err: os.ErrDeadlineExceeded}, 504},
		{&gateway.Error{Phase: gateway.PhaseRequest, Err: fs.ErrNotExist}, 404},
		{fs.ErrNotExist, 500},
	} {
		if got := gateway.ErrorStatus(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}

func TestReasons(t *testing.T) {
	for status := 200; status < 600; status++ {
		b, err := gateway.AppendResponse(nil, &gateway.Response{Status: status, ContentLength: -1})
		if err != nil {
			t.Fatal(err)
		}
		if text := http.StatusText(status); text != "" && string(b) != fmt.Sprintf("Status: %d %s\r\n\r\n", status, text) {
			t.Errorf("%q, net/http says %q", b, text)
		}
	}
}
