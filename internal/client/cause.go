package client

import (
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/params"
)

// fail makes err the error of the exchange.
func (x *exchange) fail(phase gateway.Phase, err error) error {
	e := NewError(x.ctx, phase, x.client.Addr, err)
	if x.c != nil {
		e.Sent, e.Received = x.c.Started() || x.out.Sent.Load(), x.received()
	}
	return e
}

// cause maps an error of reading to the error that the caller can test for.
func (x *exchange) cause(err error) error {
	if fault := x.up.Fault(); fault != nil {
		return fault // other errors follow from it
	}
	if !x.received() && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) {
		return x.silence(err)
	}
	return fmt.Errorf("%s: %w%s", x.client.Protocol, err, x.printed())
}

// maxPrinted limits in bytes what an error has of a program's output.
const maxPrinted = 200

// printed returns the first line that a program printed in place of a head, for an error, or "".
func (x *exchange) printed() string {
	if !x.c.Started() {
		return ""
	}
	line := x.response.Misprint()
	if len(line) == 0 {
		return ""
	}
	return fmt.Sprintf("; the program printed %q", line[:min(len(line), maxPrinted)])
}

// silence returns the error for a connection that was closed without one byte of a response.
func (x *exchange) silence(err error) error {
	if sendErr := x.up.Err(); sendErr != nil {
		err = sendErr
	}
	return fmt.Errorf("%s: %w%s (%w)", x.client.Protocol, gateway.ErrNoResponse, x.c.Silence(x.headSize), err)
}

// BodyFault marks an error of reading the body of a request, for which the application is not
// responsible. Errors that say so already stay.
func BodyFault(err error) error {
	for _, own := range [...]error{gateway.ErrRequestBody, gateway.ErrBodyTooLarge, params.ErrShortBody, params.ErrLongBody} {
		if errors.Is(err, own) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", gateway.ErrRequestBody, err)
}
