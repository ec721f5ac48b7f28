package scgi

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/params"
)

// maxDigits limits the digits of a head's length. A longer number is not a length.
const maxDigits = 10

// AppendParam appends a param: the name, a NUL, the value, a NUL. An empty name, or a NUL in
// either, is ErrParam.
func AppendParam[N, V ~string | ~[]byte](dst []byte, name N, value V) ([]byte, error) {
	if len(name) == 0 || params.Has(name, 0) || params.Has(value, 0) {
		return dst, fmt.Errorf("scgi: %w", gateway.ErrParam)
	}
	return appendPair(dst, name, value), nil
}

func appendPair[N, V ~string | ~[]byte](dst []byte, name N, value V) []byte {
	dst = append(append(dst, name...), 0)
	return append(append(dst, value...), 0)
}

// pairSize returns the number of bytes that appendPair appends.
func pairSize(name, value []byte) int { return len(name) + len(value) + 2 }

// ConsumeParam reads a param from the start of b; name and value are views of it. n is its size, 0
// if b holds only a part of one, or -1 if its name is empty.
func ConsumeParam(b []byte) (name, value []byte, n int) {
	p, n := pairBounds(b)
	return params.Views(b, p, n)
}

// pairBounds finds the pair at the start of b, and its size.
func pairBounds(b []byte) (params.Pair, int) {
	name := bytes.IndexByte(b, 0)
	if name <= 0 {
		return params.Pair{}, -1 - name // without a NUL 0, a part of a pair; with a NUL first -1, an empty name
	}
	value := name + 1
	length := bytes.IndexByte(b[value:], 0)
	if length < 0 {
		return params.Pair{}, 0
	}
	end := value + length
	return params.Pair{NameEnd: name, Value: value, ValueEnd: end}, end + 1
}

// mark makes pairs of the bytes of l from offset at on, and returns how many bytes the whole pairs
// have.
func mark(l *pairs.List, at int) (n int, err error) {
	for b := l.Raw(at); n < len(b); {
		p, size := pairBounds(b[n:])
		if size <= 0 || l.Len() == gateway.MaxPairs {
			return n, params.Fault(size)
		}
		params.Put(l, at+n, p)
		n += size
	}
	return n, nil
}

// AppendParams appends every pair of p, without framing and unchanged. Errors are those of
// AppendParam.
func AppendParams(dst []byte, p *gateway.Params) ([]byte, error) {
	return params.Append(dst, (*pairs.List)(p), AppendParam[[]byte, []byte])
}

// ConsumeParams adds every whole pair at the start of b to p and returns the number of their bytes.
// The rest of b is the beginning of a pair. It returns -1 and leaves p unchanged if a name is empty
// (gateway.ErrMalformed) or if p would have more than gateway.MaxPairs params
// (gateway.ErrTooLarge). No other rule of params is applied.
func ConsumeParams(b []byte, p *gateway.Params) (n int, err error) {
	return params.Consume("scgi", b, (*pairs.List)(p), mark)
}

// markHead makes params of the whole head of a request. CONTENT_LENGTH must be first. SCGI must be
// 1, at any place: lighttpd sends it last.
func markHead(l *pairs.List) error {
	if err := params.MarkAll("scgi", l, mark); err != nil {
		return err
	}
	if l.Len() == 0 || string(l.Name(0)) != "CONTENT_LENGTH" {
		return fmt.Errorf("scgi: CONTENT_LENGTH is not first: %w", gateway.ErrMalformed)
	}
	if i := l.Find("SCGI", 0); i < 0 || string(l.Value(i)) != "1" {
		return fmt.Errorf("scgi: SCGI is not 1: %w", gateway.ErrMalformed)
	}
	return nil
}

// AppendRequest appends the head of r as it is on the wire: a netstring of params, CONTENT_LENGTH
// first, SCGI second, then those of r in order. CONTENT_LENGTH is the length of the body, as
// Request.ContentLength describes it.
//
// Repeated HTTP_* params are joined. HTTP_PROXY and HTTP_TRANSFER_ENCODING are dropped.
// ErrLengthRequired means a body of unknown length. ErrParam means a NUL or an empty name, CR or LF
// in a param that must be a single line, another param that is repeated with another value, a
// REQUEST_METHOD that is not a token, a SERVER_PROTOCOL other than HTTP/1.0, 1.1, 2.0, 3.0 or
// INCLUDED, or a role other than Responder. ErrTooLarge means a limit of package gateway. On error
// dst is returned unchanged.
func AppendRequest(dst []byte, r *gateway.Request) ([]byte, error) { return appendRequest(dst, r, nil) }

// appendRequest is AppendRequest. The pairs of env replace those of r that have the same name.
func appendRequest(dst []byte, r *gateway.Request, env *pairs.List) ([]byte, error) {
	if r.Role > gateway.RoleResponder {
		return dst, fmt.Errorf("scgi: role %v: %w", r.Role, gateway.ErrParam)
	}
	body, bodyLength := params.Body(r.Body, r.ContentLength)
	head, err := params.NewHead((*pairs.List)(&r.Params), env, body, bodyLength)
	if err == nil {
		err = head.Fits(1) // SCGI
	}
	if err != nil {
		return dst, fmt.Errorf("scgi: %w", err)
	}
	length, ok := head.ContentLength()
	if !ok {
		return dst, fmt.Errorf("scgi: %w", gateway.ErrLengthRequired)
	}
	const name, version = "CONTENT_LENGTH", "SCGI\x001\x00"
	dst = strconv.AppendInt(dst, int64(len(name)+len(length)+2+len(version)+restSize(head)), 10)
	dst = append(dst, ':')
	dst = appendPair(dst, name, length)
	dst = append(dst, version...)
	for name, value, ok := head.Next(); ok; name, value, ok = head.Next() {
		if string(name) != "SCGI" {
			dst = appendPair(dst, name, value)
		}
	}
	return append(dst, ','), nil
}

// restSize returns the size of the pairs after CONTENT_LENGTH and SCGI.
func restSize(head params.Head) (size int) {
	for name, value, ok := head.Next(); ok; name, value, ok = head.Next() {
		if string(name) != "SCGI" {
			size += pairSize(name, value)
		}
	}
	return size
}

// ConsumeRequest reads the head of a request, a netstring, from the start of b into p, which it
// resets first. n is its size; 0 with a nil error means that b does not hold a whole one. Only the
// rules of the wire are applied, not those of the params; see Reader.ReadRequest. ErrMalformed
// means a length that is not written as specified, a head that does not end with a comma or ends
// inside a pair, one that does not begin with CONTENT_LENGTH, or one without SCGI=1; n is then -1.
func ConsumeRequest(b []byte, p *gateway.Params) (n int, err error) {
	l := (*pairs.List)(p)
	l.Reset()
	size, used, err := consumeSize(b)
	if err != nil {
		return -1, err
	}
	if used == 0 || int64(len(b)-used) <= size {
		return 0, nil
	}
	end := used + int(size)
	if b[end] != ',' {
		return -1, errNoComma
	}
	l.AppendRaw(b[used:end])
	if err := markHead(l); err != nil {
		l.Reset()
		return -1, err
	}
	return end + 1, nil
}

var errNoComma = fmt.Errorf("scgi: netstring: no comma at its end: %w", gateway.ErrMalformed)

// consumeSize reads the length of a netstring and its colon: digits alone, without a leading zero.
// n is 0 if b ends before the colon.
func consumeSize(b []byte) (size int64, n int, err error) {
	for i, c := range b {
		switch {
		case c == ':' && i > 0:
			return size, i + 1, nil
		case c < '0' || c > '9', i == maxDigits, i == 1 && b[0] == '0':
			return 0, 0, fmt.Errorf("scgi: invalid netstring length: %w", gateway.ErrMalformed)
		}
		size = size*10 + int64(c-'0')
	}
	return 0, 0, nil
}
