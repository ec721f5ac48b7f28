package uwsgi

import (
	"fmt"
	"io"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/params"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Reader reads from one side of a connection: requests, or answers, one after another. It has one buffer, of 16 KiB,
// which only the head of an answer makes larger.
//
// At the end of the input between two messages its methods return io.EOF, inside one an error that is
// io.ErrUnexpectedEOF. Bytes that are no uwsgi are gateway.ErrMalformed; after an error the rest of the input is of no
// use, and every further call returns it again.
type Reader struct {
	MaxHeadBytes int // 0 stands for 65,535 of a request's vars, all that a packet can hold, and for 64 KiB of an answer's head

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

// ReadRequest reads the next packet's head into req, which it resets first: its modifiers, and its vars as params, by the
// rules of package gateway (see AppendRequest; a CONTENT_LENGTH that is absent or empty is 0). What is left of the last
// body is dropped. req.Body reads from r and is valid until the next call on r; it gives CONTENT_LENGTH bytes, and
// io.ErrUnexpectedEOF if there are fewer.
//
// gateway.ErrTooLarge says that the vars exceed MaxHeadBytes or a cap, gateway.ErrParam that one breaks a rule: that
// request may be answered. A packet with modifier1 0 and no vars is ErrMalformed; with another, a ping for one, it is a
// request without params. A Server answers one request of each connection; further ones are read here all the same.
func (r *Reader) ReadRequest(req *gateway.Request) error {
	return r.in.ReadRequest(req, readHead, r.MaxHeadBytes)
}

// readHead reads a packet's head, no byte past it.
func readHead(in *stream.Input, req *gateway.Request, limit int) error {
	h, err := readHeader(in)
	if err != nil {
		return err
	}
	return readVars(in, req, h, limit)
}

func readHeader(in *stream.Input) (PacketHeader, error) {
	for {
		h, n := ConsumeHeader(in.Buffered())
		if n > 0 {
			in.Discard(n)
			return h, nil
		}
		had := in.Len()
		if err := in.Fill(headerSize); err != nil {
			if err == io.EOF && had > 0 {
				err = io.ErrUnexpectedEOF
			}
			return h, err
		}
	}
}

// readVars reads the block of vars that h announces.
func readVars(in *stream.Input, req *gateway.Request, h PacketHeader, limit int) error {
	size := int(h.Size)
	switch {
	case limit > 0 && size > limit:
		return fmt.Errorf("uwsgi: vars of %d bytes, more than %d: %w", size, limit, gateway.ErrTooLarge)
	case size == 0 && h.Modifier1 == ModifierWSGI:
		return fmt.Errorf("uwsgi: no vars: %w", gateway.ErrMalformed)
	}
	if err := stream.TakeBlock(in, &req.Params, size); err != nil {
		return err
	}
	if err := params.MarkAll((*pairs.List)(&req.Params), mark); err != nil {
		return fmt.Errorf("uwsgi: %w", err)
	}
	req.Modifier1, req.Modifier2 = uint8(h.Modifier1), h.Modifier2
	if err := stream.Receive(req); err != nil {
		return fmt.Errorf("uwsgi: %w", err)
	}
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
	return r.in.ReadResponse(res, r.MaxHeadBytes, "uwsgi")
}
