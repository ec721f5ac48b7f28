package stream

import (
	"fmt"
	"io"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/params"
)

// A Reader is the common part of the Readers of SCGI and uwsgi. It must be Reset before its first
// use.
type Reader struct {
	In       Input
	body     Body
	response Response
	fault    error // the rest of the input is unusable
	received responseBody
}

// Reset makes r read from src. It keeps its memory.
func (r *Reader) Reset(src io.Reader) {
	r.In.Reset(src)
	r.body = Body{In: &r.In}
	r.fault = nil
	r.response.Reset(&r.In)
	r.response.Fail(io.EOF)
}

// ReadRequest discards the rest of the last body and reads a head with readHead, which sets
// req.ContentLength.
func (r *Reader) ReadRequest(req *gateway.Request, readHead func(in *Input, req *gateway.Request, limit int) error, limit int) error {
	req.Reset()
	if r.fault != nil {
		return r.fault
	}
	if err := r.body.Discard(); err != nil {
		r.fault = err
		return err
	}
	if err := readHead(&r.In, req, limit); err != nil {
		if err != io.EOF {
			r.fault = err
		}
		req.Reset()
		return err
	}
	req.Body = gateway.NoBody
	if r.body.Left = req.ContentLength; r.body.Left > 0 {
		req.Body = &r.body
	}
	return nil
}

// ReadResponse discards the rest of the last response and reads a head. protocol is for errors.
func (r *Reader) ReadResponse(res *gateway.Response, limit int, protocol string) error {
	res.Reset()
	if r.fault != nil {
		return r.fault
	}
	if err := r.response.Discard(); err != nil && err != ErrClosed {
		r.fault = err
		return err
	}
	r.response.Reset(&r.In)
	if err := r.response.ReadHead(res, limit); err != nil {
		res.Reset()
		if err == io.EOF {
			return err
		}
		r.fault = fmt.Errorf("%s: %w", protocol, err)
		return r.fault
	}
	// A Reader does not know the method: a response without a body may be one to HEAD.
	r.response.Bare = true
	r.received.r = r
	res.Body = &r.received
	return nil
}

// A responseBody is the Body of a Reader's response.
type responseBody struct{ r *Reader }

func (b *responseBody) Read(p []byte) (int, error) { return b.r.response.Read(p) }

// Close discards the rest of the response. It does not close the source of the Reader.
func (b *responseBody) Close() error {
	if b.r.response.Discard() == nil {
		b.r.response.Fail(ErrClosed)
	}
	return nil
}

// TakeBlock moves the next n bytes of in to the end of p's buffer, as they arrive, without making
// params of them.
func TakeBlock(in *Input, p *gateway.Params, n int) error {
	l := (*pairs.List)(p)
	for n > 0 {
		b := in.Buffered()
		b = b[:min(len(b), n)]
		if in.Budget != nil {
			if err := in.Budget.Reserve(len(b)); err != nil {
				return err
			}
		}
		l.AppendRaw(b)
		in.Discard(len(b))
		if n -= len(b); n == 0 {
			return nil
		}
		if err := in.Fill(1); err != nil {
			return Cut(err)
		}
	}
	return nil
}

// Cut returns the error for err inside a message: the end of the input is io.ErrUnexpectedEOF.
func Cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Receive applies the rules of a received head to the params of req, and sets req.ContentLength. An
// absent or empty CONTENT_LENGTH means 0, since the body is raw. The "-1" of lighttpd and Caddy,
// which would mean a body to the end of the connection, is ErrParam. protocol is for errors.
func Receive(protocol string, req *gateway.Request) (err error) {
	l := (*pairs.List)(&req.Params)
	if req.ContentLength, err = params.Receive(protocol, l); err != nil || req.ContentLength >= 0 {
		return err
	}
	if v, _ := req.Params.Lookup("CONTENT_LENGTH"); len(v) > 0 {
		return fmt.Errorf("%s: CONTENT_LENGTH: %w", protocol, gateway.ErrParam)
	}
	req.ContentLength = 0
	return nil
}
