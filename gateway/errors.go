package gateway

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/gatehouse-go/gatehouse/internal/params"
)

// Sentinels for what callers branch on. They come wrapped with the place of the fault; test with errors.Is.
var (
	// ErrMalformed says that bytes are no message of the protocol.
	ErrMalformed = params.ErrMalformed

	// ErrTooLarge says that params or a response's head exceed a limit.
	ErrTooLarge = params.ErrTooLarge

	// ErrBodyTooLarge says that a request's body exceeds a cap.
	ErrBodyTooLarge = errors.New("request body too large")

	// ErrRequestBody says that the body of a request could not be read from the client.
	ErrRequestBody = errors.New("request body could not be read")

	// ErrParam says that a param cannot be passed: a NUL, a CR or LF where none may stand, an empty name, a name
	// repeated with another value, or a CONTENT_LENGTH that is no number.
	ErrParam = params.ErrParam

	// ErrLengthRequired says that the protocol needs the length of a body whose ContentLength is -1.
	ErrLengthRequired = errors.New("length of the request body required")

	// ErrTruncated says that an answer ended before its end. errors.Is(err, io.ErrUnexpectedEOF) holds too.
	ErrTruncated error = truncated{}

	// ErrNoResponse says that a connection was closed without one byte of an answer.
	ErrNoResponse = errors.New("closed without a response")

	// ErrRefused says that the application refused the request for load (FastCGI's FCGI_OVERLOADED and FCGI_CANT_MPX_CONN).
	ErrRefused = errors.New("request refused")

	// ErrAborted says that the web server gave the request up.
	ErrAborted = errors.New("request aborted by the web server")

	// ErrServerClosed is what Serve returns after Shutdown or Close.
	ErrServerClosed = errors.New("gateway: server closed")
)

type truncated struct{}

func (truncated) Error() string        { return "response truncated" }
func (truncated) Is(target error) bool { return target == io.ErrUnexpectedEOF }

// Error is what a RoundTripper and the Body of a Response return when an exchange fails. It wraps the cause.
type Error struct {
	Phase    Phase  // how far the exchange had come
	Addr     string // of the backend; "" if there is none
	Reused   bool   // the connection had carried a request before
	Sent     bool   // a byte of the request may have reached the backend
	Received bool   // a byte of the answer was seen
	Err      error
}

// Error names the phase, the backend and the cause. No value of a param is in it.
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

// Timeout reports whether a time-out was the cause.
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
	PhaseRequest Phase = iota // before anything is sent: params, length
	PhaseWait                 // for a free connection or process
	PhaseDial
	PhaseSend
	PhaseHead // until the answer's head is whole
	PhaseBody
)

var phases = [...]string{"request", "wait", "dial", "send", "head", "body"}

func (p Phase) String() string {
	if int(p) < len(phases) {
		return phases[p]
	}
	return "unknown phase"
}

// Retryable reports whether the backend cannot have begun the request: nothing was sent, or it was refused for load
// before anything of an answer came.
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
