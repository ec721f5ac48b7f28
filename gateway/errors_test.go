package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
)

func TestErrors(t *testing.T) {
	for err, status := range map[error]int{
		gateway.ErrParam: 400, gateway.ErrLengthRequired: 411, gateway.ErrBodyTooLarge: 413, gateway.ErrTooLarge: 431,
		gateway.ErrMalformed: 502, gateway.ErrNoResponse: 502, gateway.ErrTruncated: 502, gateway.ErrRefused: 503, io.EOF: 500,
		&gateway.Error{Phase: gateway.PhaseHead, Err: gateway.ErrTooLarge}:      502,
		&gateway.Error{Phase: gateway.PhaseRequest, Err: gateway.ErrTooLarge}:   431,
		&gateway.Error{Phase: gateway.PhaseHead, Err: os.ErrDeadlineExceeded}:   504,
		&gateway.Error{Phase: gateway.PhaseDial, Err: context.DeadlineExceeded}: 504,
		&gateway.Error{Phase: gateway.PhaseWait, Err: context.DeadlineExceeded}: 503,
		&gateway.Error{Phase: gateway.PhaseDial, Err: fs.ErrNotExist}:           502,
		fmt.Errorf("wrapped: %w", &gateway.Error{Err: gateway.ErrParam}):        400,
	} {
		t.Run(err.Error()+" [294]", func(t *testing.T) {
			if got := gateway.ErrorStatus(err); got != status {
				t.Errorf("%d, want %d", got, status)
			}
		})
	}
	for _, c := range []struct {
		err   error
		retry bool
	}{
		{io.EOF, false},
		{&gateway.Error{Phase: gateway.PhaseRequest, Err: io.EOF}, false},
		{&gateway.Error{Phase: gateway.PhaseDial, Err: io.EOF}, true},
		{&gateway.Error{Phase: gateway.PhaseWait, Err: io.EOF}, true},
		{&gateway.Error{Phase: gateway.PhaseSend, Err: io.EOF}, true},
		{&gateway.Error{Phase: gateway.PhaseSend, Sent: true, Err: io.EOF}, false},
		{&gateway.Error{Phase: gateway.PhaseHead, Sent: true, Err: gateway.ErrRefused}, true},
		{&gateway.Error{Phase: gateway.PhaseBody, Sent: true, Err: gateway.ErrRefused}, false},
	} {
		if got := gateway.Retryable(c.err); got != c.retry {
			t.Errorf("%v: %v", c.err, got)
		}
	}
	e := &gateway.Error{Phase: gateway.PhaseHead, Addr: "unix:/x", Reused: true, Err: gateway.ErrTruncated}
	if e.Error() != "gateway: head unix:/x (kept connection): response truncated" || !errors.Is(e, io.ErrUnexpectedEOF) || e.Timeout() {
		t.Error(e)
	}
	if gateway.Phase(99).String() != "unknown phase" || gateway.Role(9).String() != "Role(9)" || gateway.Role(0).String() != "Responder" {
		t.Error("names")
	}
}

func TestMayRetry(t *testing.T) {
	request := func(method string, body io.Reader, again bool) *gateway.Request {
		r := new(gateway.Request)
		r.Params.Set("REQUEST_METHOD", method)
		if r.Body = body; body != nil {
			r.ContentLength = 1
		}
		if again {
			r.GetBody = func() (io.Reader, error) { return body, nil }
		}
		return r
	}
	body := io.LimitReader(strings.NewReader("x"), 1)
	get, post := request("GET", nil, false), request("POST", nil, false)
	for _, c := range []struct {
		name string
		err  error
		r    *gateway.Request
		want bool
	}{
		{"another error", io.EOF, get, false},
		{"a fault of the request", &gateway.Error{Phase: gateway.PhaseRequest, Err: gateway.ErrParam}, get, false},
		{"a dial that failed", &gateway.Error{Phase: gateway.PhaseDial, Err: syscall.ECONNREFUSED}, post, true},
		{"a dial that failed, with a body that was not read", &gateway.Error{Phase: gateway.PhaseDial, Err: syscall.ECONNREFUSED}, request("POST", body, false), true},
		{"refused because of load", &gateway.Error{Phase: gateway.PhaseHead, Sent: true, Err: gateway.ErrRefused}, post, true},
		{"refused, and the body was read", &gateway.Error{Phase: gateway.PhaseHead, Sent: true, Err: gateway.ErrRefused}, request("POST", body, false), false},
		{"refused, and the body can be read again", &gateway.Error{Phase: gateway.PhaseHead, Sent: true, Err: gateway.ErrRefused}, request("POST", body, true), true},
		{"a GET without a response", &gateway.Error{Phase: gateway.PhaseHead, Sent: true, Err: gateway.ErrNoResponse}, get, true},
		{"a GET and a reset", &gateway.Error{Phase: gateway.PhaseHead, Sent: true, Err: syscall.ECONNRESET}, get, true},
		{"a GET and a part of a response", &gateway.Error{Phase: gateway.PhaseHead, Sent: true, Received: true, Err: syscall.ECONNRESET}, get, false},
		{"a POST without a response", &gateway.Error{Phase: gateway.PhaseHead, Sent: true, Err: gateway.ErrNoResponse}, post, false},
		{"a time-out", &gateway.Error{Phase: gateway.PhaseHead, Sent: true, Err: os.ErrDeadlineExceeded}, get, false},
		{"a body that ends early", &gateway.Error{Phase: gateway.PhaseBody, Sent: true, Received: true, Err: gateway.ErrTruncated}, get, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := gateway.MayRetry(c.err, c.r); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
