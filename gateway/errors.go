package gateway

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/gatehouse-go/gatehouse/internal/params"
)

// Errors that callers can test for with errors.Is. Most are returned wrapped.
var (
	// ErrMalformed means that bytes that were received are not a valid message of the protocol, or
	// that a message cannot be written as one.
	ErrMalformed = params.ErrMalformed

	// ErrTooLarge means that params or the head of a response exceed a limit.
	ErrTooLarge = params.ErrTooLarge

	// ErrBodyTooLarge means that the body of a request exceeds a limit.
	ErrBodyTooLarge = errors.New("request body too large")

	// ErrRequestBody means that the body of a request could not be read from the client.
	ErrRequestBody = errors.New("request body could not be read")

	// ErrParam means that a param must not be sent or accepted: its name is empty, it holds a NUL,
	// or a CR or LF where none is allowed, it is repeated with another value, or it is an invalid
	// CONTENT_LENGTH, REQUEST_METHOD or SERVER_PROTOCOL.
	ErrParam = params.ErrParam

	// ErrLengthRequired means that the protocol requires the length of a body whose ContentLength
	// is -1.
	ErrLengthRequired = errors.New("length of the request body required")

	// ErrTruncated means that a response ended before it was complete. errors.Is(err,
	// io.ErrUnexpectedEOF) is true as well.
	ErrTruncated error = truncated{}

	// ErrNoResponse means that a connection was closed without one byte of a response.
	ErrNoResponse = errors.New("closed without a response")

	// ErrRefused means that the application refused the request because of load (FCGI_OVERLOADED
	// and FCGI_CANT_MPX_CONN of FastCGI).
	ErrRefused = errors.New("request refused")

	// ErrAborted means that the web server aborted the request.
	ErrAborted = errors.New("request aborted by the web server")

	// ErrPanic means that a handler panicked with a value other than http.ErrAbortHandler.
	ErrPanic = errors.New("handler panicked")

	// ErrDisconnected is the cause of a request's context if the web server closed or lost the
	// connection before the response had ended.
	ErrDisconnected = errors.New("connection closed by the web server")

	// ErrServerClosed is returned by the Serve methods of a server after Shutdown or Close.
	ErrServerClosed = errors.New("gateway: server closed")
)

type truncated struct{}

func (truncated) Error() string        { return "response truncated" }
func (truncated) Is(target error) bool { return target == io.ErrUnexpectedEOF }

// Error is the error that a RoundTripper and the Body of a Response return when an exchange fails.
// It wraps the cause.
type Error struct {
	// Phase is how far the exchange had come.
	Phase Phase

	// Addr is the address of the backend. It is empty if there is none.
	Addr string

	// Reused reports whether the connection had carried an earlier request.
	Reused bool

	// Sent reports whether a byte of the request may have reached the backend.
	Sent bool

	// Received reports whether a byte of the response was received.
	Received bool

	// Err is the cause.
	Err error
}

// Error names the phase, the backend and the cause. It does not contain the value of a param. If a
// CGI program printed something in place of a head, the cause has a line of that.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("gateway: ")
	b.WriteString(e.Phase.String())
	if e.Addr != "" {
		b.WriteString(" " + e.Addr)
	}
	if e.Reused {
		b.WriteString(" (kept connection)")
	}
	b.WriteString(": " + e.Err.Error())
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Timeout reports whether the cause was a time-out: that of the context, or of a field such as
// HeadTimeout, which is os.ErrDeadlineExceeded.
func (e *Error) Timeout() bool {
	if errors.Is(e.Err, context.DeadlineExceeded) || errors.Is(e.Err, os.ErrDeadlineExceeded) {
		return true
	}
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// Phase is a part of an exchange.
type Phase uint8

const (
	// PhaseRequest is before anything is sent: the params and the length are checked, and a Spool
	// reads the body.
	PhaseRequest Phase = iota

	// PhaseWait is the wait for a place among the connections or processes.
	PhaseWait

	// PhaseDial is until there is a connection, or the program has started.
	PhaseDial

	// PhaseSend is while the request is sent.
	PhaseSend

	// PhaseHead is until the head of the response is complete.
	PhaseHead

	// PhaseBody is until the body of the response has ended.
	PhaseBody
)

var phases = [...]string{"request", "wait", "dial", "send", "head", "body"}

func (p Phase) String() string {
	if int(p) < len(phases) {
		return phases[p]
	}
	return "unknown phase"
}

// MayRetry reports whether r, whose RoundTrip failed with err, may be sent again, to this backend
// or another: it cannot run twice, or does no harm if it does, and its body can be sent again. It
// is true if Retryable is, and if the method is GET, HEAD, OPTIONS or TRACE and the connection was
// closed without a byte of a response. It is false after a time-out, since another backend is not
// faster, and if the body may have been read and GetBody is nil. From the second try on r.Body must
// be what GetBody returns. MayRetry does not tell whether a context is done.
func MayRetry(err error, r *Request) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return false
	}
	if body, _ := r.body(); (body != nil && r.GetBody == nil || r.Data != nil) && e.Phase != PhaseWait && e.Phase != PhaseDial {
		return false
	}
	if Retryable(err) {
		return true
	}
	method, _ := r.Params.Lookup("REQUEST_METHOD")
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		lost := errors.Is(err, ErrNoResponse) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
		return lost && !e.Received && !e.Timeout()
	}
	return false
}

// Retryable reports whether err, from a RoundTripper, shows that the application cannot have begun
// the request, so that sending it again cannot run it twice. It is true if no connection was
// obtained, if no byte was sent, or if the application refused the request because of load
// (ErrRefused) before it sent a part of a response. It is false for PhaseRequest, since the fault
// is in the request, and for errors that are not an *Error. In PhaseWait and PhaseDial the body of
// the request is untouched. Retryable does not tell whether the context is done, or whether a body
// that was read can be read again; see MayRetry.
func Retryable(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return false
	}
	switch e.Phase {
	case PhaseWait, PhaseDial:
		return true
	case PhaseRequest, PhaseBody:
		return false
	}
	return !e.Sent || errors.Is(e.Err, ErrRefused)
}
