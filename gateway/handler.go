package gateway

import (
	"context"
	"errors"
	"io"
	"time"
)

// RoundTripper is the web server's end. RoundTrip sends r and reads the head of the response into
// res, which it resets first. If it fails, the error is an *Error and res is empty. It does not
// change r.Params. It may read r.Body until res.Body has returned io.EOF or is closed. The caller
// owns res, and may reuse it once its Body is closed.
type RoundTripper interface {
	RoundTrip(ctx context.Context, r *Request, res *Response) error
}

// RoundTripperFunc is a function that implements RoundTripper.
type RoundTripperFunc func(ctx context.Context, r *Request, res *Response) error

// RoundTrip calls f.
func (f RoundTripperFunc) RoundTrip(ctx context.Context, r *Request, res *Response) error {
	return f(ctx, r, res)
}

// Handler is the application's end: it responds to a request.
//
// w, r and the byte slices obtained from r must not be used after ServeGateway returns. A late call
// on w is an error and r reads as empty; neither affects another request. Builds with the race
// detector overwrite the byte slices. A goroutine that is inside a method of w or r while
// ServeGateway returns is a data race, except in Read, Write and methods like them. r.Context may
// be kept.
//
// Returning nil ends the response. An error that is returned before any byte of the response was
// sent becomes a response with the status ErrorStatus; after that the response is cut so that the
// web server can see it. A panic does the same, and is logged.
type Handler interface {
	ServeGateway(w ResponseWriter, r *Request) error
}

// HandlerFunc is a function that implements Handler.
type HandlerFunc func(w ResponseWriter, r *Request) error

// ServeGateway calls f.
func (f HandlerFunc) ServeGateway(w ResponseWriter, r *Request) error { return f(w, r) }

// ResponseWriter is used by a Handler to construct a response. Wrap one by embedding it, so that no
// method is lost. The writers of servers also have WriteString and ReadFrom, which io.WriteString
// and io.Copy use; they are not part of the interface, so that a wrapper's Write is never bypassed.
type ResponseWriter interface {
	// Header returns the fields that WriteHeader, or the first Write or Flush, will send. Later
	// changes have no effect. A Content-Length must be met: Write returns an error for a longer
	// body, and a shorter one cuts the response.
	Header() *Header

	// WriteHeader settles the status and the header. Only the first call counts. A 1xx, or a status
	// that is not three digits, is an error that the response ends with. Without a call the status
	// is 200.
	WriteHeader(status int)

	// WriteInterim sends a 1xx response other than 101. It returns errors.ErrUnsupported if the web
	// server is not known to understand it. h may be nil.
	WriteInterim(status int, h *Header) error

	// Write writes to the body. Small writes are buffered.
	Write(p []byte) (int, error)

	// Flush sends the buffered data, and the head if it was not sent.
	Flush() error

	// Stderr returns a writer to the web server's error log, if the protocol has one.
	Stderr() io.Writer

	// SetAppStatus sets the appStatus of FastCGI or the exit status of CGI. Other protocols ignore
	// it.
	SetAppStatus(status uint32)

	// SetReadDeadline sets the deadline for future reads of the request's body. A zero time means
	// no deadline.
	SetReadDeadline(t time.Time) error

	// SetWriteDeadline sets the deadline for future writes of the response. A zero time means the
	// server's WriteTimeout.
	SetWriteDeadline(t time.Time) error

	// Hijack sends the head of a 101 with the fields of Header, adding Upgrade and Connection, and
	// hands over the connection; bytes that were buffered are read first. The caller must close the
	// Stream, which outlives the handler. Hijack returns errors.ErrUnsupported in fastcgi and cgi,
	// and if Request.Upgrade is empty.
	Hijack() (Stream, error)

	embedWriter() // met by embedding a ResponseWriter or a WriterBase, so that methods can be added
}

// Stream is a connection after a 101.
type Stream interface {
	io.ReadWriteCloser
	CloseWrite() error
	SetDeadline(t time.Time) error
}

// WriterBase implements ResponseWriter for types that embed it and define the methods they need.
// Header is kept; the other methods return errors.ErrUnsupported or do nothing.
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

// Exchange is the record of one RoundTrip. A client passes it to Observe when the exchange failed
// or the Body of its response has ended.
type Exchange struct {
	// Addr is the address of the backend.
	Addr string

	// Reused says that the connection had carried a request before.
	Reused bool

	// Wait is the time that the request waited for a free connection, and Dial the time to open a new
	// one. Head is the time from sending the request to the end of the response's head. Total is the
	// time of the whole exchange.
	Wait, Dial, Head, Total time.Duration

	// Sent and Received are the numbers of body bytes of the request and of the response.
	Sent, Received int64

	// Status is the status of the response, 0 if there was none.
	Status int

	// AppStatus is FastCGI's appStatus or the exit status of a CGI program.
	AppStatus uint32

	// Err is the error with which the exchange failed, nil if it did not.
	Err error
}

// Stats holds counters since the first use of a client, and gauges.
type Stats struct {
	// Requests counts the requests, Dialed the connections that were opened or the programs that were
	// started, and Reused the requests on connections that had carried one before.
	Requests, Dialed, Reused uint64

	// Failed counts the exchanges that failed. Refused, Canceled and Truncated count those of them
	// that failed with ErrRefused, context.Canceled and ErrTruncated.
	Failed, Refused, Canceled, Truncated uint64

	// InFlight is the number of exchanges that have begun and not ended, Waiting the number of
	// requests that wait for a connection, and Idle the number of idle connections.
	InFlight, Waiting, Idle int
}
