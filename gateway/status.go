package gateway

import (
	"errors"
	"io/fs"
	"os"
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

// ErrorStatus returns the HTTP status for an error of this module: 400, 408, 411, 413, 431, 502, 503 or 504; 404 or 403
// for a script that does not exist or must not be run (fs.ErrNotExist, fs.ErrPermission, before anything was sent); 500
// for any other error.
func ErrorStatus(err error) int {
	e, exchange := errors.AsType[*Error](err)
	switch {
	case errors.Is(err, ErrRequestBody) && errors.Is(err, os.ErrDeadlineExceeded):
		return 408
	case exchange && e.Phase == PhaseWait:
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
	case exchange:
		return 502
	}
	return 500
}
