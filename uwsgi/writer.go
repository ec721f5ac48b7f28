package uwsgi

import (
	"io"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Writer writes to one side of a connection: requests or responses. It has one buffer. Every method
// flushes.
type Writer struct {
	out stream.Output
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer {
	wr := new(Writer)
	wr.Reset(w)
	return wr
}

// Reset makes w write to dst. It keeps its memory.
func (w *Writer) Reset(dst io.Writer) { w.out.Reset(dst) }

// WriteRequest writes the packet and the body of r; see AppendRequest. A body of up to 16 KiB is
// sent with the packet in one write. The body must have its length, as Request.ContentLength
// describes it: a shorter one is io.ErrUnexpectedEOF, and of a longer one no excess byte is sent;
// after either the connection is unusable. An unknown length is ErrLengthRequired.
func (w *Writer) WriteRequest(r *gateway.Request) error {
	return stream.WriteRequest(&w.out, r, AppendRequest)
}

// WriteResponse writes the head of res, with an HTTP status line, and the body. The body must have
// res.ContentLength bytes, as for WriteRequest, unless that is -1; then closing the connection ends
// it. A nil Body means that there is none, whatever the length, as in the response to HEAD or a
// 304. WriteResponse does not close res.Body.
//
// A response may be written before the body of its request has been read. The body must then be
// read before the connection is closed: a close with unread bytes is a reset, by which the web
// server may lose the response. Server reads on, within limits.
func (w *Writer) WriteResponse(res *gateway.Response) error {
	return stream.WriteResponse(&w.out, res, gateway.AppendHTTPResponse)
}
