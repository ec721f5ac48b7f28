package gateway

import (
	"context"
	"errors"
	"io"
	"time"
)

// RoundTripper is the web server's end. It sends r and reads the head of its answer into res, which it resets first. On
// an error, which is an *Error, res is empty. It leaves r.Params as they were; r.Body may be read until res.Body has
// given io.EOF or is closed. res belongs to the caller and may be used again once its Body is closed.
type RoundTripper interface {
	RoundTrip(ctx context.Context, r *Request, res *Response) error
}

// RoundTripperFunc is a function that is a RoundTripper.
type RoundTripperFunc func(ctx context.Context, r *Request, res *Response) error

// RoundTrip calls f.
func (f RoundTripperFunc) RoundTrip(ctx context.Context, r *Request, res *Response) error {
	return f(ctx, r, res)
}

// Handler is the application's end: it answers a request. w, r and every view of r are valid until ServeGateway returns;
// after it w does nothing and r is empty, so that neither reaches another request, and the bytes of a view may be used
// again (builds with the race detector overwrite them). A goroutine that is inside a method of w or r while ServeGateway
// returns is a data race, but for Read, Write and their like. r.Context may be kept. nil ends the answer. An error before any
// byte of the answer has left becomes an answer of ErrorStatus; after that the answer is cut so that the peer can see
// it. A panic does the same, and is logged.
type Handler interface {
	ServeGateway(w ResponseWriter, r *Request) error
}

// HandlerFunc is a function that is a Handler.
type HandlerFunc func(w ResponseWriter, r *Request) error

// ServeGateway calls f.
func (f HandlerFunc) ServeGateway(w ResponseWriter, r *Request) error { return f(w, r) }

// ResponseWriter is how a Handler answers. Wrap one by embedding it, so that nothing is lost. What a server gives also
// has WriteString and ReadFrom (io.WriteString and io.Copy find them); they are not here, so that a wrapper of Write is
// never gone round.
type ResponseWriter interface {
	// Header is sent by WriteHeader, or by the first Write or Flush; changes after that have no effect. A
	// Content-Length in it must be met: a longer body is an error of Write, a shorter one cuts the answer.
	Header() *Header

	// WriteHeader takes the status and the header for the answer. The first call counts; a 1xx is refused, and so is
	// what is not three digits. Without a call the status is 200.
	WriteHeader(status int)

	// WriteInterim sends a 1xx answer other than 101, to a peer known to take it; errors.ErrUnsupported otherwise. h
	// may be nil.
	WriteInterim(status int, h *Header) error

	// Write adds to the body. Small writes are gathered.
	Write(p []byte) (int, error)

	// Flush sends what was gathered; the head, if nothing else.
	Flush() error

	// Stderr is the web server's error log, where the protocol has it.
	Stderr() io.Writer

	// SetAppStatus sets FastCGI's appStatus, or the exit status of CGI; others ignore it.
	SetAppStatus(status uint32)

	// SetReadDeadline bounds the reads of the request's body from now on; the zero time stands for no bound.
	SetReadDeadline(t time.Time) error

	// SetWriteDeadline bounds the writes of this answer from now on; the zero time stands for the server's WriteTimeout.
	SetWriteDeadline(t time.Time) error

	// Hijack sends the head of a 101 with Header's fields (Upgrade and Connection are added) and hands over the
	// connection, bytes already buffered first. It is the caller's to close, and lives on when the handler has
	// returned. errors.ErrUnsupported in fastcgi and cgi, and where Request.Upgrade is "".
	Hijack() (Stream, error)

	embedWriter() // met by embedding a ResponseWriter or WriterBase, so that methods can be added
}

// Stream is a connection after 101.
type Stream interface {
	io.ReadWriteCloser
	CloseWrite() error
	SetDeadline(t time.Time) error
}

// WriterBase makes a type of your own a ResponseWriter: embed it, and write the methods you need. Every other one says
// errors.ErrUnsupported or does nothing; Header is kept.
type WriterBase struct {
	header *Header
}

var _ ResponseWriter = (*WriterBase)(nil)

func (b *WriterBase) Header() *Header {
	if b.header == nil {
		b.header = new(Header)
	}
	return b.header
}
func (b *WriterBase) WriteHeader(status int)                   {}
func (b *WriterBase) WriteInterim(status int, h *Header) error { return errors.ErrUnsupported }
func (b *WriterBase) Write(p []byte) (int, error)              { return 0, errors.ErrUnsupported }
func (b *WriterBase) Flush() error                             { return errors.ErrUnsupported }
func (b *WriterBase) Stderr() io.Writer                        { return io.Discard }
func (b *WriterBase) SetAppStatus(status uint32)               {}
func (b *WriterBase) SetReadDeadline(t time.Time) error        { return errors.ErrUnsupported }
func (b *WriterBase) SetWriteDeadline(t time.Time) error       { return errors.ErrUnsupported }
func (b *WriterBase) Hijack() (Stream, error)                  { return nil, errors.ErrUnsupported }
func (b *WriterBase) embedWriter()                             {}

// Exchange is the record of one RoundTrip, given to Client.Observe when it failed or its Body is closed.
type Exchange struct {
	Addr                    string
	Reused                  bool          // the connection had carried a request before
	Wait, Dial, Head, Total time.Duration // for a free connection; for a new one; from sending to the head whole; all
	Sent, Received          int64         // body bytes
	Status                  int
	AppStatus               uint32
	Err                     error
}

// Stats are counters since the Client's first use, and three gauges.
type Stats struct {
	Requests, Dialed, Reused, Failed, Refused, Canceled, Truncated uint64
	InFlight, Waiting, Idle                                        int
}
