package fastcgi

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/params"
)

// maxParams limits the content of the PARAMS records that are written. PHP refuses records whose
// content and padding exceed 65,535 bytes; this leaves room for padding that a proxy might add.
const maxParams = 65528

// AppendParam appends a name-value pair, section 3.4. An empty name or a NUL (section 6.1) is
// ErrParam; a length that does not fit 31 bits is ErrTooLarge.
func AppendParam[N, V ~string | ~[]byte](dst []byte, name N, value V) ([]byte, error) {
	if len(name) == 0 || params.Has(name, 0) || params.Has(value, 0) {
		return dst, fmt.Errorf("fastcgi: %w", gateway.ErrParam)
	}
	if len(name) > math.MaxInt32 || len(value) > math.MaxInt32 {
		return dst, fmt.Errorf("fastcgi: param: %w", gateway.ErrTooLarge)
	}
	return appendPair(dst, name, value), nil
}

func appendPair[N, V ~string | ~[]byte](dst []byte, name N, value V) []byte {
	dst = appendLength(dst, len(name))
	dst = appendLength(dst, len(value))
	return append(append(dst, name...), value...)
}

// appendLength appends a length: up to 127 in one byte, a larger one in four with the top bit set.
func appendLength(dst []byte, n int) []byte {
	if n < 1<<7 {
		return append(dst, byte(n))
	}
	return binary.BigEndian.AppendUint32(dst, uint32(n)|1<<31)
}

// pairSize returns the number of bytes that appendPair appends.
func pairSize(name, value []byte) int {
	n := 2 + len(name) + len(value)
	if len(name) >= 1<<7 {
		n += 3
	}
	if len(value) >= 1<<7 {
		n += 3
	}
	return n
}

// ConsumeParam reads a name-value pair (section 3.4) from the start of b. name and value are views
// of b. n is the size of the pair, 0 if b holds only a part of it, or -1 if the name is empty. A
// length greater than b is not an error and allocates nothing: the pair is incomplete.
func ConsumeParam(b []byte) (name, value []byte, n int) {
	p, n := pairBounds(b)
	return params.Views(b, p, n)
}

// pairBounds finds the pair at the start of b, and its size. Both lengths are in front of the name,
// and the value follows it.
func pairBounds(b []byte) (params.Pair, int) {
	nameLen, i := consumeLength(b)
	if i == 0 {
		return params.Pair{}, 0
	}
	valueLen, j := consumeLength(b[i:])
	if j == 0 {
		return params.Pair{}, 0
	}
	if nameLen == 0 {
		return params.Pair{}, -1
	}
	name := i + j
	// 64 bits, since the sum of two 31-bit lengths overflows an int of 32 bits.
	if end := uint64(name) + uint64(nameLen) + uint64(valueLen); end > uint64(len(b)) { // rule F5
		return params.Pair{}, 0
	}
	value := name + int(nameLen)
	end := value + int(valueLen)
	return params.Pair{Name: name, NameEnd: value, Value: value, ValueEnd: end}, end
}

func consumeLength(b []byte) (length uint32, n int) {
	if len(b) == 0 {
		return 0, 0
	}
	if b[0] < 1<<7 {
		return uint32(b[0]), 1
	}
	if len(b) < 4 {
		return 0, 0
	}
	return binary.BigEndian.Uint32(b) &^ (1 << 31), 4
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
	return params.Consume("fastcgi", b, (*pairs.List)(p), mark)
}

// AppendRequest appends the head of r: a BEGIN_REQUEST with r.Role, and with FCGI_KEEP_CONN if keep
// is true, PARAMS in as few records as possible, and the empty PARAMS. The caller appends STDIN.
// Each PARAMS record holds whole pairs, at most 65,528 bytes, and has no padding: php-fpm parses
// each record by itself, and loses the body after an empty PARAMS with padding. CONTENT_LENGTH is
// the length of the body, as Request.ContentLength describes it, and is omitted if that is unknown.
// An Authorizer receives neither CONTENT_LENGTH nor PATH_INFO, PATH_TRANSLATED and SCRIPT_NAME
// (section 6.3).
//
// Repeated HTTP_* params are joined. HTTP_PROXY and HTTP_TRANSFER_ENCODING are dropped. The error
// is gateway.ErrParam if a param violates a rule: an empty name, a NUL, a CR or LF in HTTP_*,
// CONTENT_*, REQUEST_METHOD, REQUEST_URI, QUERY_STRING or SERVER_PROTOCOL, another name that is
// repeated with another value, an invalid method or SERVER_PROTOCOL. It is gateway.ErrTooLarge if a
// limit is exceeded, and gateway.ErrMalformed if id is 0. dst is then returned unchanged.
func AppendRequest(dst []byte, id uint16, keep bool, r *gateway.Request) ([]byte, error) {
	body, length := params.Body(r.Body, r.ContentLength)
	return appendRequest(dst, id, keep, r, body, length, nil)
}

// appendRequest is AppendRequest for a body of that length. The pairs of env replace those of r
// that have the same name.
func appendRequest(dst []byte, id uint16, keep bool, r *gateway.Request, body io.Reader, length int64, env *pairs.List) ([]byte, error) {
	head, err := params.NewHead((*pairs.List)(&r.Params), env, body, length)
	if err != nil {
		return dst, fmt.Errorf("fastcgi: %w", err)
	}
	role := max(r.Role, gateway.RoleResponder)
	b, err := AppendBegin(dst, id, Begin{role, keep})
	if err != nil {
		return dst, err
	}
	w := paramsWriter{b: b, id: id}
	for name, value, ok := head.Next(); ok; name, value, ok = head.Next() {
		if role == gateway.RoleAuthorizer && notForAuthorizer(name) && env.FindBytes(name) < 0 {
			continue
		}
		if err := w.pair(name, value); err != nil {
			return dst, err
		}
	}
	w.close()
	return appendHeader(w.b, RecordHeader{Type: TypeParams, ID: id}), nil
}

// notForAuthorizer reports whether section 6.3 keeps the param from an authorizer.
func notForAuthorizer(name []byte) bool {
	switch string(name) {
	case "CONTENT_LENGTH", "PATH_INFO", "PATH_TRANSLATED", "SCRIPT_NAME":
		return true
	}
	return false
}

// A paramsWriter appends the PARAMS records of one request.
type paramsWriter struct {
	b     []byte
	start int // offset of the open record's header; 0 if none is open, since BEGIN comes first
	id    uint16
}

// pair writes a pair into the open record, or into a new one if it does not fit.
func (w *paramsWriter) pair(name, value []byte) error {
	size := pairSize(name, value)
	if size > maxParams {
		return fmt.Errorf("fastcgi: param of %d bytes does not fit a record: %w", size, gateway.ErrTooLarge)
	}
	if w.start == 0 || len(w.b)-w.start-headerSize+size > maxParams {
		w.close()
		w.start = len(w.b)
		w.b = appendHeader(w.b, RecordHeader{Type: TypeParams, ID: w.id})
	}
	w.b = appendPair(w.b, name, value)
	return nil
}

// close sets the length of the open record.
func (w *paramsWriter) close() {
	if w.start > 0 {
		setLength(w.b, w.start)
	}
}

// setLength sets the length of the record that begins at start and ends with b.
func setLength(b []byte, start int) { putLength(b[start:], len(b)-start-headerSize) }

// putLength sets the length in a record header.
func putLength(header []byte, n int) { binary.BigEndian.PutUint16(header[4:], uint16(n)) }

// ConsumeRequest reads the head of a request, up to the empty PARAMS record, from the start of b
// into p, which it resets first. It returns the id and the BEGIN_REQUEST of the request, and the
// size of the head: 0 and a nil error if b does not hold the whole head, or -1 and an error.
// gateway.ErrMalformed means a malformed record, one that cannot be part of a head, or one with
// another id. gateway.ErrTooLarge means more than gateway.MaxPairs params. Management records are
// skipped. The rules of params are not applied; see Reader.ReadRequest.
func ConsumeRequest(b []byte, p *gateway.Params) (id uint16, bg Begin, n int, err error) {
	l := (*pairs.List)(p)
	l.Reset()
	for {
		rec, used := ConsumeRecord(b[n:])
		if used == 0 {
			l.Reset()
			return 0, Begin{}, 0, nil
		}
		done, err := headRecord(l, &id, &bg, rec, used)
		n += used
		if err == nil && done {
			err = params.MarkAll("fastcgi", l, mark)
		}
		if err != nil {
			l.Reset()
			return 0, Begin{}, -1, err
		}
		if done {
			return id, bg, n, nil
		}
	}
}

// headRecord handles one record of a head. id is 0 before BEGIN_REQUEST. done means that it was the
// last.
func headRecord(l *pairs.List, id *uint16, bg *Begin, rec Record, used int) (done bool, err error) {
	switch {
	case used < 0:
		return false, errVersion
	case rec.ID == 0 && !rec.Type.application():
		return false, nil
	case *id == 0 && rec.Type == TypeBegin && rec.ID != 0 && len(rec.Content) == bodySize:
		*id = rec.ID
		*bg, _ = ConsumeBegin(rec.Content)
		return false, nil
	case *id != 0 && rec.ID == *id && rec.Type == TypeParams:
		l.AppendRaw(rec.Content)
		return len(rec.Content) == 0, nil
	}
	return false, unexpected(rec.RecordHeader)
}

func unexpected(h RecordHeader) error {
	return fmt.Errorf("fastcgi: unexpected %v, id %d, %d bytes: %w", h.Type, h.ID, h.Length, gateway.ErrMalformed)
}
