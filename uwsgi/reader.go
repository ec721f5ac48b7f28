package uwsgi

import (
	"fmt"
	"io"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/params"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Reader reads from one side of a connection: requests or responses, one after another. It has one
// buffer of 16 KiB, which only the head of a response enlarges.
//
// At the end of the input between two messages its methods return io.EOF, and inside a message an
// error that is io.ErrUnexpectedEOF. Bytes that are not uwsgi are gateway.ErrMalformed. After an
// error the rest of the input is unusable, and every further call returns the error again.
type Reader struct {
	// MaxHeadBytes limits the vars of a request and the head of a response. A zero or negative
	// value means 65,535 for a request, the most that a packet can hold, and 64 KiB for a response.
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

// ReadRequest reads the head of the next packet into req, which it resets first: its modifiers, and
// its vars as params, by the rules of package gateway (see AppendRequest). An absent or empty
// CONTENT_LENGTH means 0. The rest of the last body is discarded. req.Body reads from r and is
// valid until the next call on r. It returns CONTENT_LENGTH bytes, and io.ErrUnexpectedEOF if there
// are fewer.
//
// gateway.ErrTooLarge means that the vars exceed MaxHeadBytes or a limit of package gateway,
// gateway.ErrParam that one violates a rule: the server may respond to the request. A packet with
// modifier1 0 and no vars is ErrMalformed; with another modifier1, such as a ping, it is a request
// without params. A Server serves one request of each connection; a Reader reads further ones as
// well.
func (r *Reader) ReadRequest(req *gateway.Request) error {
	return r.in.ReadRequest(req, readHead, r.MaxHeadBytes)
}

// readHead reads the head of a packet, and no byte past it.
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
		if err := in.FillHeader(headerSize); err != nil {
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
	if err := params.MarkAll("uwsgi", (*pairs.List)(&req.Params), mark); err != nil {
		return err
	}
	req.Modifier1, req.Modifier2 = uint8(h.Modifier1), h.Modifier2
	return stream.Receive("uwsgi", req)
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
	return r.in.ReadResponse(res, r.MaxHeadBytes, "uwsgi")
}
