package scgi

import (
	"fmt"
	"io"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// defaultRequestHead is the limit in bytes of a request's head, if none is set.
const defaultRequestHead = 1 << 20

// Reader reads from one side of a connection: requests or responses, one after another. It has one
// buffer of 16 KiB, which only the head of a response enlarges.
//
// At the end of the input between two messages its methods return io.EOF, and inside a message an
// error that is io.ErrUnexpectedEOF. Bytes that are not SCGI are gateway.ErrMalformed. After an
// error the rest of the input is unusable, and every further call returns the error again.
type Reader struct {
	// MaxHeadBytes limits the head of a request or a response. Zero or a negative value means 1 MiB
	// for a request and 64 KiB for a response.
	MaxHeadBytes int

	in stream.Reader
}

// NewReader returns a Reader from r.
func NewReader(r io.Reader) *Reader {
	rd := new(Reader)
	rd.Reset(r)
	return rd
}

// Reset makes r read from src, as a new Reader does. It keeps its memory and MaxHeadBytes.
func (r *Reader) Reset(src io.Reader) { r.in.Reset(src) }

// Buffered returns the bytes that were read from the source and not used. The slice is valid until
// the next call on r.
func (r *Reader) Buffered() []byte { return r.in.In.Buffered() }

// Offset returns the number of bytes that were used since Reset. It is the position of the next
// byte that the methods of r have not returned.
func (r *Reader) Offset() int64 { return r.in.In.Offset() }

// ReadRequest reads the head of the next request into req, which it resets first. ConsumeRequest
// documents the rules of the wire, and AppendRequest those of the params. The rest of the last body
// is discarded. req.Body reads from r and is valid until the next call on r. It returns
// CONTENT_LENGTH bytes, and io.ErrUnexpectedEOF if there are fewer.
//
// gateway.ErrTooLarge means that the head exceeds MaxHeadBytes or a limit of package gateway,
// gateway.ErrParam that a param violates a rule: the server may respond to the request. A Server
// serves one request of each connection; a Reader reads further ones as well.
func (r *Reader) ReadRequest(req *gateway.Request) error {
	return r.in.ReadRequest(req, readHead, r.MaxHeadBytes)
}

// readHead reads a head, and no byte past its comma.
func readHead(in *stream.Input, req *gateway.Request, limit int) error {
	limit = stream.Limit(limit, defaultRequestHead)
	size, err := readSize(in)
	if err != nil {
		return err
	}
	if size > int64(limit) {
		return fmt.Errorf("scgi: head of %d bytes, more than %d: %w", size, limit, gateway.ErrTooLarge)
	}
	if err := stream.TakeBlock(in, &req.Params, int(size)); err != nil {
		return err
	}
	if err := readComma(in); err != nil {
		return err
	}
	if err := markHead((*pairs.List)(&req.Params)); err != nil {
		return err
	}
	if v := (*pairs.List)(&req.Params).Value(0); len(v) == 0 {
		return fmt.Errorf("scgi: CONTENT_LENGTH is empty: %w", gateway.ErrParam)
	}
	return stream.Receive("scgi", req)
}

// readSize reads the length of the netstring and its colon. It stops at the first invalid byte.
func readSize(in *stream.Input) (int64, error) {
	for {
		size, n, err := consumeSize(in.Buffered())
		if n > 0 || err != nil {
			in.Discard(n)
			return size, err
		}
		if err := in.FillHeader(1); err != nil {
			return 0, err
		}
	}
}

func readComma(in *stream.Input) error {
	if in.Len() == 0 {
		if err := in.Fill(1); err != nil {
			return stream.Cut(err)
		}
	}
	if in.Buffered()[0] != ',' {
		return errNoComma
	}
	in.Discard(1)
	return nil
}

// ReadResponse reads the head of the next response into res, which it resets first; see
// gateway.ConsumeResponse. Interim responses (1xx) are skipped. res.Body reads from r, returns
// content as it arrives and is valid until the next call on r; Close discards the rest of the
// response. Body returns io.EOF after Content-Length bytes or, without a Content-Length, at the end
// of the input. An end before the first byte of a body is io.EOF as well: a Reader does not know
// whether the request was a HEAD.
//
// io.EOF means that no response follows, gateway.ErrTruncated that the response is incomplete,
// gateway.ErrTooLarge that the head exceeds MaxHeadBytes, and gateway.ErrMalformed that it is not a
// response, or a 101.
func (r *Reader) ReadResponse(res *gateway.Response) error {
	return r.in.ReadResponse(res, r.MaxHeadBytes, "scgi")
}
