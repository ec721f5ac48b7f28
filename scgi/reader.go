package scgi

import (
	"fmt"
	"io"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// defaultRequestHead is the limit of a request's head in bytes where none is set.
const defaultRequestHead = 1 << 20

// Reader reads from one side of a connection: requests, or answers, one after another. It has one buffer, of 16 KiB,
// which only the head of an answer makes larger.
//
// At the end of the input between two messages its methods return io.EOF, inside one an error that is
// io.ErrUnexpectedEOF. Bytes that are no SCGI are gateway.ErrMalformed; after an error the rest of the input is of no
// use, and every further call returns it again.
type Reader struct {
	MaxHeadBytes int // 0 stands for 1 MiB of a request's head, 64 KiB of an answer's

	in stream.Reader
}

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader {
	rd := new(Reader)
	rd.Reset(r)
	return rd
}

// Reset makes r read from src as a new Reader would; it keeps its memory and MaxHeadBytes.
func (r *Reader) Reset(src io.Reader) { r.in.Reset(src) }

// Buffered is what was read and not yet used, a view, valid until the next call on r.
func (r *Reader) Buffered() []byte { return r.in.In.Buffered() }

// Offset is that of the next unit, in bytes since Reset.
func (r *Reader) Offset() int64 { return r.in.In.Offset() }

// ReadRequest reads the next request's head into req, which it resets first: see ConsumeRequest for the rules of the
// wire, and AppendRequest for those of the params. What is left of the last body is dropped. req.Body reads from r and
// is valid until the next call on r; it gives CONTENT_LENGTH bytes, and io.ErrUnexpectedEOF if there are fewer.
//
// gateway.ErrTooLarge says that the head exceeds MaxHeadBytes or a cap, gateway.ErrParam that a param breaks a rule:
// that request may be answered. A Server answers one request of each connection; further ones are read here all the same.
func (r *Reader) ReadRequest(req *gateway.Request) error {
	return r.in.ReadRequest(req, readHead, r.MaxHeadBytes)
}

// readHead reads a head, no byte past its comma.
func readHead(in *stream.Input, req *gateway.Request, limit int) error {
	if limit <= 0 {
		limit = defaultRequestHead
	}
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
	if err := stream.Receive(req); err != nil {
		return fmt.Errorf("scgi: %w", err)
	}
	return nil
}

// readSize reads the length of the netstring and its colon. It stops at the first byte that is wrong.
func readSize(in *stream.Input) (int64, error) {
	for {
		size, n, err := consumeSize(in.Buffered())
		if n > 0 || err != nil {
			in.Discard(n)
			return size, err
		}
		had := in.Len()
		if err := in.Fill(1); err != nil {
			if err == io.EOF && had > 0 {
				err = io.ErrUnexpectedEOF
			}
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

// ReadResponse reads the next answer's head into res, which it resets first; see gateway.ConsumeResponse for what it
// takes. Interim answers (1xx) are passed over. res.Body reads from r, gives content as it arrives and is valid until
// the next call on r; Close drops the rest of the answer. Body gives io.EOF after Content-Length bytes, or, without
// that, at the end of the input. An end before the first byte of a body is io.EOF too: nobody tells a Reader that the
// request was HEAD.
//
// io.EOF: no answer follows. gateway.ErrTruncated: the answer broke off. gateway.ErrTooLarge: a head over MaxHeadBytes.
// gateway.ErrMalformed: anything else that is no answer, 101 included.
func (r *Reader) ReadResponse(res *gateway.Response) error {
	return r.in.ReadResponse(res, r.MaxHeadBytes, "scgi")
}
