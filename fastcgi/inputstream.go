package fastcgi

import (
	"fmt"
	"io"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/grammar"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/params"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// An inputStream compares the promised length of a stream with what its records announce and what
// has been read.
type inputStream struct {
	length    int64 // the promised length; -1 means unknown
	announced int64 // the sum of the lengths of its records
	taken     int64 // by the reader of the body
	ended     bool  // the empty record has arrived
}

// inputStreams returns the streams of a request: STDIN, and the DATA of a Filter.
func inputStreams(req *gateway.Request) (body, data inputStream) {
	body, data = inputStream{length: req.ContentLength}, inputStream{ended: true}
	switch req.Role {
	case gateway.RoleAuthorizer: // mod_authnz_fcgi sends no STDIN at all
		req.ContentLength, body = 0, inputStream{length: -1, ended: true}
	case gateway.RoleFilter:
		data.length, data.ended = dataLength(req), false
	}
	return body, data
}

// record counts a record of the stream.
func (s *inputStream) record(h RecordHeader) {
	s.announced += int64(h.Length)
	s.ended = s.ended || h.Length == 0
}

// excess reports whether more than the promised length was sent.
func (s *inputStream) excess() bool { return s.length >= 0 && s.announced > s.length }

// short reports whether the stream has ended before its length.
func (s *inputStream) short() bool { return s.ended && s.announced < s.length }

// room returns how many bytes of an n-byte slice may be filled.
func (s *inputStream) room(n int) int {
	if s.length < 0 {
		return n
	}
	return int(min(int64(n), s.length-s.taken))
}

// takeParams moves the content of a PARAMS record into the buffer of req's params. Pairs may
// straddle records, and are looked for when all records have arrived.
func takeParams(rec *recordReader, req *gateway.Request, limit int) error {
	l := (*pairs.List)(&req.Params)
	limit = stream.Limit(limit, defaultRequestHead)
	if l.Size()+rec.left > limit {
		return fmt.Errorf("fastcgi: params over %d bytes: %w", limit, gateway.ErrTooLarge)
	}
	for rec.left > 0 {
		b, err := rec.some()
		if err != nil {
			return err
		}
		l.AppendRaw(b)
		rec.use(len(b))
	}
	return nil
}

// finishParams makes params of the content of PARAMS records, and applies the rules of a received
// head.
func finishParams(req *gateway.Request) error {
	l := (*pairs.List)(&req.Params)
	err := params.MarkAll("fastcgi", l, mark)
	if err == nil {
		req.ContentLength, err = params.Receive("fastcgi", l)
	}
	return err
}

// dataLength returns FCGI_DATA_LENGTH, section 6.4, or -1 if it is not a number.
func dataLength(req *gateway.Request) int64 {
	v, _ := req.Params.Lookup("FCGI_DATA_LENGTH")
	if n, ok := grammar.Decimal(v); ok {
		return n
	}
	return -1
}

var errShort = fmt.Errorf("fastcgi: stream ends before its length: %w", io.ErrUnexpectedEOF)
