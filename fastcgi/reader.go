package fastcgi

import (
	"errors"
	"fmt"
	"io"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// defaultRequestHead is the limit in bytes of the params of a request, if none is set.
const defaultRequestHead = 1 << 20

// Reader reads from one side of a connection: records, requests or responses, one after another. It
// has one buffer of 16 KiB, which only Next enlarges, to the size of a record. It does not separate
// requests that are sent at the same time; Server does.
//
// At the end of the input between two messages its methods return io.EOF, and inside a message an
// error that is io.ErrUnexpectedEOF. Bytes that are not FastCGI are gateway.ErrMalformed; the rest
// of the input is then unusable.
type Reader struct {
	// MaxHeadBytes limits the params of a request and the head of a response. A zero or negative
	// value means 1 MiB for a request and 64 KiB for a response.
	MaxHeadBytes int

	// Stderr, if not nil, receives the STDERR of a response, at most 64 KiB.
	Stderr io.Writer

	rec         recordReader
	req         requestInput
	stdin, data inputBody
	response    responseReader
	body        responseBody
}

// NewReader returns a Reader from r.
func NewReader(r io.Reader) *Reader {
	rd := new(Reader)
	rd.Reset(r)
	return rd
}

// Reset makes r read from src, as a new Reader does. It keeps its memory, MaxHeadBytes and Stderr.
func (r *Reader) Reset(src io.Reader) {
	r.rec.reset(src)
	r.req = requestInput{}
	r.response.reset()
	r.stdin, r.data, r.body = inputBody{r, TypeStdin}, inputBody{r, TypeData}, responseBody{r}
}

// Next returns the next record, of any type. Its content is a view, valid until the next call on r.
func (r *Reader) Next() (Record, error) {
	h, err := r.rec.next()
	if err != nil {
		return Record{RecordHeader: h}, err
	}
	content, err := r.rec.whole()
	return Record{h, content}, err
}

// Buffered returns the bytes that were read from the source and not used. The slice is valid until
// the next call on r.
func (r *Reader) Buffered() []byte { return r.rec.in.Buffered() }

// Offset returns the number of bytes that were used since Reset. It is the position of the next
// byte that the methods of r have not returned.
func (r *Reader) Offset() int64 { return r.rec.in.Offset() }

// Begin returns the id and the BEGIN_REQUEST of the request that ReadRequest has read.
func (r *Reader) Begin() (uint16, Begin) { return r.req.id, r.req.begin }

// End returns the END_REQUEST of the response whose Body has returned io.EOF.
func (r *Reader) End() End { return r.response.end }

// A requestInput is the request that a Reader is reading.
type requestInput struct {
	id    uint16
	begin Begin
	body  inputStream // STDIN
	data  inputStream // DATA, of a Filter
	fault error       // what is wrong with the body; the next ReadRequest returns it
	skip  bool        // the params were too large: the rest of them is discarded
}

// ReadRequest reads the head of the next request into req, which it resets first. It discards the
// rest of the previous request. It applies the rules of received params and sets req.Role, req.Body
// and req.Data, which read from r and are valid until the next call on r. If CONTENT_LENGTH is
// absent, empty or "-1", the length is unknown. Body returns at most CONTENT_LENGTH bytes. It
// returns io.ErrUnexpectedEOF if there are fewer, and gateway.ErrAborted after an ABORT_REQUEST.
//
// After gateway.ErrTooLarge and gateway.ErrParam the server may respond to the request, whose id
// Begin returns, and r can read the next one. If a body is longer than CONTENT_LENGTH, the next
// call returns gateway.ErrMalformed. Management records, records of requests that are over, and
// requests that are aborted before their params are complete are skipped.
func (r *Reader) ReadRequest(req *gateway.Request) error {
	if err := r.dropRequest(); err != nil {
		return err
	}
	req.Reset()
	r.req = requestInput{}
	for {
		done, err := r.headRecord(req)
		if err != nil {
			r.req.skip = errors.Is(err, gateway.ErrTooLarge)
			r.req.body.length = -1
			req.Reset()
			return err
		}
		if done {
			return r.startRequest(req)
		}
	}
}

// dropRequest reads to the end of the last request's input.
func (r *Reader) dropRequest() error {
	for r.req.id != 0 && r.req.fault == nil && !r.req.body.ended {
		if err := r.inputRecord(); err != nil {
			break
		}
	}
	if r.req.fault != nil && !errors.Is(r.req.fault, gateway.ErrAborted) {
		return r.req.fault
	}
	if r.req.body.excess() {
		return errExcess
	}
	return nil
}

var errExcess = fmt.Errorf("fastcgi: STDIN longer than CONTENT_LENGTH: %w", gateway.ErrMalformed)

// headRecord reads one record before the end of the params.
func (r *Reader) headRecord(req *gateway.Request) (done bool, err error) {
	h, err := r.rec.next()
	switch {
	case err != nil && r.req.id != 0:
		return false, stream.Cut(err)
	case err != nil:
		return false, err
	case h.ID == 0 && !h.Type.application():
		return false, nil
	case h.Type == TypeBegin && h.ID != 0 && h.Length == bodySize && r.req.id == 0:
		return false, r.beginRecord(h)
	case h.ID == 0 || !h.Type.application() || h.Type == TypeBegin:
		return false, unexpected(h)
	case h.ID != r.req.id:
		return false, nil
	case h.Type == TypeAbort:
		req.Params.Reset()
		r.req = requestInput{}
		return false, nil
	case h.Type == TypeParams:
		return h.Length == 0, takeParams(&r.rec, req, r.MaxHeadBytes)
	}
	return false, unexpected(h)
}

func (r *Reader) beginRecord(h RecordHeader) error {
	content, err := r.rec.whole()
	if err != nil {
		return err
	}
	r.req.id = h.ID
	r.req.begin, _ = ConsumeBegin(content)
	if r.req.begin.Role == 0 {
		return fmt.Errorf("fastcgi: role 0: %w", gateway.ErrMalformed)
	}
	return nil
}

// startRequest sets the role and the body of req.
func (r *Reader) startRequest(req *gateway.Request) error {
	if err := finishParams(req); err != nil {
		r.req.body.length, r.req.data.ended = -1, true
		req.Reset()
		return err
	}
	req.Role, req.Body = r.req.begin.Role, gateway.NoBody
	r.req.body, r.req.data = inputStreams(req)
	if req.ContentLength != 0 {
		req.Body = &r.stdin
	}
	if req.Role == gateway.RoleFilter {
		req.Data = &r.data
	}
	return nil
}

// inputRecord reads a record while the body is read. Content of the current stream is left in
// r.rec.
func (r *Reader) inputRecord() error {
	h, err := r.rec.next()
	if err = stream.Cut(err); err == nil {
		err = r.input(h)
	}
	r.req.fault = err
	return err
}

func (r *Reader) input(h RecordHeader) error {
	switch {
	case h.ID != r.req.id:
		if h.Type == TypeBegin || h.ID == 0 && h.Type.application() {
			return unexpected(h)
		}
	case h.Type == TypeAbort:
		return fmt.Errorf("fastcgi: %w", gateway.ErrAborted)
	case h.Type == TypeParams && r.req.skip:
	case h.Type == TypeStdin && !r.req.body.ended:
		r.req.body.record(h)
	case h.Type == TypeData && r.req.body.ended:
		r.req.data.record(h)
	case h.Type <= TypeUnknown:
		return unexpected(h)
	}
	return nil
}

// readStream reads the content of STDIN or DATA into p.
func (r *Reader) readStream(t Type, s *inputStream, p []byte) (int, error) {
	for {
		switch {
		case s.taken == s.length:
			return 0, io.EOF
		case r.req.fault != nil:
			return 0, r.req.fault
		case len(p) == 0:
			return 0, nil
		case r.rec.left > 0 && r.rec.h.Type == t && r.rec.h.ID == r.req.id:
			n, err := r.rec.read(p[:s.room(len(p))])
			s.taken += int64(n)
			r.req.fault = err
			return n, err
		case s.short():
			return 0, errShort
		case s.ended:
			return 0, io.EOF
		}
		if err := r.inputRecord(); err != nil {
			return 0, err
		}
	}
}

// An inputBody is the Body or the Data of a Reader's request. What is left of STDIN is discarded
// before DATA.
type inputBody struct {
	r *Reader
	t Type // TypeStdin or TypeData
}

func (b *inputBody) Read(p []byte) (int, error) {
	if b.t == TypeData {
		return b.r.readStream(TypeData, &b.r.req.data, p)
	}
	return b.r.readStream(TypeStdin, &b.r.req.body, p)
}
