package gateway

import (
	"context"
	"errors"
	"io"
	"time"
)

// RoundTripper is the web server's end of an exchange.
//
// RoundTrip resets res, sends r, and reads the head of the response into res. If it succeeds, the
// caller must close res.Body, and may reuse res after that. If it fails, the error is an *Error,
// res is empty, and there is nothing to close.
//
// RoundTrip does not change r, except that it reads r.Body and r.Data. It may read them until
// res.Body has returned an error or has been closed, or until RoundTrip has failed. A Read that is
// in progress at that moment may return later.
//
// A RoundTripper must be safe for concurrent use.
type RoundTripper interface {
	RoundTrip(ctx context.Context, r *Request, res *Response) error
}

// RoundTripperFunc is a function that implements RoundTripper.
type RoundTripperFunc func(ctx context.Context, r *Request, res *Response) error

// RoundTrip calls f.
func (f RoundTripperFunc) RoundTrip(ctx context.Context, r *Request, res *Response) error {
	return f(ctx, r, res)
}

// Handler is the application's end of an exchange: it responds to a request.
//
// The handler must not use w, r or a byte slice obtained from r after ServeGateway returns, nor let
// another goroutine do so. By then the methods of w fail and r is empty, so that a late call never
// affects another request. Builds with the race detector overwrite the byte slices as well. Calls
// of r.Body.Read, and of the methods of w that return an error, may overlap the return of
// ServeGateway; any other use that does is a data race. The context of r may be kept.
//
// If ServeGateway returns nil, the response is complete. If it returns an error or panics before a
// byte of the response was sent, the server responds with the status that ErrorStatus returns for
// the error, which is 500 for a panic. If a part was sent, the server cuts the response, so that
// the web server can tell that it is incomplete. Servers log a panic.
type Handler interface {
	ServeGateway(w ResponseWriter, r *Request) error
}

// HandlerFunc is a function that implements Handler.
type HandlerFunc func(w ResponseWriter, r *Request) error

// ServeGateway calls f.
func (f HandlerFunc) ServeGateway(w ResponseWriter, r *Request) error { return f(w, r) }

// ResponseWriter is used by a Handler to construct a response. Several goroutines may call the
// methods of a server's ResponseWriter at once, except that changes of Header need a lock of their
// own.
//
// To wrap a ResponseWriter, embed it in a struct, so that no method is lost. The writers of servers
// also have the methods WriteString and ReadFrom, for io.WriteString and io.Copy. They are not part
// of the interface, so that a wrapper that redefines Write is never bypassed.
type ResponseWriter interface {
	// Header returns the fields that WriteHeader, or the first Write or Flush, sends. Later changes
	// have no effect. If the handler sets Content-Length, the body must have that length: a Write
	// that would exceed it returns an error and writes nothing, and a shorter body is an error of
	// the handler, unless the response is to HEAD or has the status 204 or 304.
	Header() *Header

	// WriteHeader sets the status and settles the header. Only the first call counts. Without a
	// call the status is 200. A status below 200 or above 999 is an error of the handler.
	WriteHeader(status int)

	// WriteInterim sends a 1xx response with the fields of h, which may be nil. It returns
	// errors.ErrUnsupported unless the server's SendInterim is set, and another error if status is
	// 101 or not a 1xx, or if the header is settled.
	WriteInterim(status int, h *Header) error

	// Write writes p to the body. Up to 16 KiB are buffered until Flush, or until the handler
	// returns. Write does not keep p.
	Write(p []byte) (int, error)

	// Flush sends the buffered data, and the head if it has not been sent.
	Flush() error

	// Stderr returns a writer to the web server's error log with FastCGI, to standard error with
	// CGI, to the server's Logger with SCGI and uwsgi, and to Request.Stderr with InProcess.
	Stderr() io.Writer

	// SetAppStatus sets the appStatus of FastCGI or the exit status of CGI. Other protocols ignore
	// it.
	SetAppStatus(status uint32)

	// SetReadDeadline sets the deadline for reads of the request's body, present and future. A Read
	// that misses it returns os.ErrDeadlineExceeded, and may be repeated after a later deadline is
	// set. A zero time means no deadline.
	SetReadDeadline(t time.Time) error

	// SetWriteDeadline sets the deadline for future writes of the response. A zero time means the
	// server's WriteTimeout.
	SetWriteDeadline(t time.Time) error

	// Hijack sends the head of a 101 with the fields of Header, adding Upgrade and Connection, and
	// hands over the connection; bytes that were buffered are read first. The caller must close the
	// Stream, which outlives the handler. Hijack returns errors.ErrUnsupported in fastcgi and cgi,
	// and if Request.Upgrade is empty.
	Hijack() (Stream, error)

	embedWriter() // types embed a ResponseWriter or a WriterBase to have it, so that methods can be added later
}

// Stream is the connection after a 101 response. CloseWrite ends the sending side: the peer reads
// io.EOF. SetDeadline sets the deadline of reads and writes; a zero time means no deadline. Close
// closes both sides.
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
