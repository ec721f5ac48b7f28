package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
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
