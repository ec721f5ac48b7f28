package gateway

import (
	"errors"
	"io/fs"
	"os"

	"github.com/gatehouse-go/gatehouse/internal/paths"
)

// statuses are the sentinels and their HTTP status. The first that matches counts.
var statuses = []struct {
	err    error
	status int
}{
	{ErrParam, 400},
	{ErrLengthRequired, 411},
	{ErrBodyTooLarge, 413},
	{ErrRequestBody, 400},
	{ErrRefused, 503},
	{ErrMalformed, 502},
	{ErrTruncated, 502},
	{ErrNoResponse, 502},
}

// ErrorStatus returns the HTTP status that describes err:
//
//	400  ErrParam, ErrRequestBody
//	403  fs.ErrPermission in PhaseRequest: a script that must not be run
//	404  fs.ErrNotExist in PhaseRequest: a script that does not exist
//	408  ErrRequestBody because of a time-out
//	411  ErrLengthRequired
//	413  ErrBodyTooLarge
//	431  ErrTooLarge, if it is the request that is too large
//	500  any other error of PhaseRequest, such as a missing folder for temporary files
//	502  ErrMalformed, ErrTruncated, ErrNoResponse, and any other *Error, such as that of a
//	     context that was canceled
//	503  ErrRefused, any *Error of PhaseWait, and a lack of descriptors, memory or space
//	504  an *Error whose Timeout is true
//	500  any other error, and nil
func ErrorStatus(err error) int {
	e, exchange := errors.AsType[*Error](err)
	switch {
	case errors.Is(err, ErrRequestBody) && errors.Is(err, os.ErrDeadlineExceeded):
		return 408
	case exchange && e.Phase == PhaseWait, (!exchange || e.Phase <= PhaseDial) && paths.Lacking(err):
		return 503
	case exchange && e.Phase == PhaseRequest && errors.Is(err, fs.ErrNotExist):
		return 404
	case exchange && e.Phase == PhaseRequest && errors.Is(err, fs.ErrPermission):
		return 403
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return s.status
		}
	}
	switch tooLarge := errors.Is(err, ErrTooLarge); {
	case tooLarge && (!exchange || e.Phase == PhaseRequest):
		return 431
	case exchange && e.Timeout():
		return 504
	case exchange && e.Phase == PhaseRequest:
		return 500
	case exchange:
		return 502
	}
	return 500
}
