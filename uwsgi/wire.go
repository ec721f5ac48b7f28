package uwsgi

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/params"
)

const headerSize = 4

// maxVars limits the vars of a packet, and a name or a value in them, to what 16 bits can express.
const maxVars = math.MaxUint16

// PacketHeader is the header of a packet, its first four bytes.
type PacketHeader struct {
	// Modifier1 says what the packet is.
	Modifier1 Modifier

	// Size is the size of the vars in bytes.
	Size uint16

	// Modifier2 has a meaning that depends on Modifier1.
	Modifier2 uint8
}

// AppendHeader appends h.
func AppendHeader(dst []byte, h PacketHeader) []byte {
	return append(dst, byte(h.Modifier1), byte(h.Size), byte(h.Size>>8), h.Modifier2)
}

// ConsumeHeader reads the header of a packet from the start of b. n is its size, or 0 if b holds
// only a part of one.
func ConsumeHeader(b []byte) (h PacketHeader, n int) {
	if len(b) < headerSize {
		return PacketHeader{}, 0
	}
	return PacketHeader{Modifier1: Modifier(b[0]), Size: binary.LittleEndian.Uint16(b[1:]), Modifier2: b[3]}, headerSize
}

// AppendParam appends a var: the length of its name in two bytes, little-endian, the name, and the
// value in the same way. An empty name, or a NUL in either, is ErrParam; more than 65,535 bytes are
// ErrTooLarge.
func AppendParam[N, V ~string | ~[]byte](dst []byte, name N, value V) ([]byte, error) {
	if len(name) == 0 || params.Has(name, 0) || params.Has(value, 0) {
		return dst, fmt.Errorf("uwsgi: %w", gateway.ErrParam)
	}
	if len(name) > maxVars || len(value) > maxVars {
		return dst, fmt.Errorf("uwsgi: param: %w", gateway.ErrTooLarge)
	}
	return appendPair(dst, name, value), nil
}

func appendPair[N, V ~string | ~[]byte](dst []byte, name N, value V) []byte {
	dst = append(binary.LittleEndian.AppendUint16(dst, uint16(len(name))), name...)
	return append(binary.LittleEndian.AppendUint16(dst, uint16(len(value))), value...)
}

// pairSize returns the number of bytes that appendPair appends.
func pairSize(name, value []byte) int { return len(name) + len(value) + 4 }

// ConsumeParam reads a var from the start of b; name and value are views of it. n is its size, 0 if
// b holds only a part of one, or -1 if its name is empty.
func ConsumeParam(b []byte) (name, value []byte, n int) {
	p, n := pairBounds(b)
	return params.Views(b, p, n)
}

// pairBounds finds the pair at the start of b, and its size. Two bytes of length are in front of
// the name and of the value.
func pairBounds(b []byte) (params.Pair, int) {
	if len(b) < 2 {
		return params.Pair{}, 0
	}
	length := int(binary.LittleEndian.Uint16(b))
	if length == 0 {
		return params.Pair{}, -1
	}
	name := 2 + length
	value := name + 2
	if len(b) < value {
		return params.Pair{}, 0
	}
	end := value + int(binary.LittleEndian.Uint16(b[name:]))
	if len(b) < end {
		return params.Pair{}, 0
	}
	return params.Pair{Name: 2, NameEnd: name, Value: value, ValueEnd: end}, end
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
	return params.Consume("uwsgi", b, (*pairs.List)(p), mark)
}

// AppendRequest appends the packet of r: the header with r's modifiers, and its params as vars, in
// order. CONTENT_LENGTH is the length of the body, as Request.ContentLength describes it.
//
// Repeated HTTP_* params are joined. HTTP_PROXY and HTTP_TRANSFER_ENCODING are dropped. ErrTooLarge
// means vars of more than 65,535 bytes, or a limit of package gateway; uWSGI accepts 4,096 bytes
// unless its buffer-size is set. ErrLengthRequired means a body of unknown length. ErrParam means a
// NUL or an empty name, CR or LF in a param that must be a single line, another param that is
// repeated with another value, a REQUEST_METHOD that is not a token, a SERVER_PROTOCOL other than
// HTTP/1.0, 1.1, 2.0, 3.0 or INCLUDED (uWSGI copies it into its status line), or a role other than
// Responder. On error dst is returned unchanged.
func AppendRequest(dst []byte, r *gateway.Request) ([]byte, error) { return appendRequest(dst, r, nil) }

// appendRequest is AppendRequest. The pairs of env replace those of r that have the same name.
func appendRequest(dst []byte, r *gateway.Request, env *pairs.List) ([]byte, error) {
	body, length := params.Body(r.Body, r.ContentLength)
	switch {
	case r.Role > gateway.RoleResponder:
		return dst, fmt.Errorf("uwsgi: role %v: %w", r.Role, gateway.ErrParam)
	case length < 0 && body != nil:
		return dst, fmt.Errorf("uwsgi: %w", gateway.ErrLengthRequired)
	}
	head, err := params.NewHead((*pairs.List)(&r.Params), env, body, length)
	if err != nil {
		return dst, fmt.Errorf("uwsgi: %w", err)
	}
	start := len(dst)
	b := AppendHeader(dst, PacketHeader{Modifier1: Modifier(r.Modifier1), Modifier2: r.Modifier2})
	for name, value, ok := head.Next(); ok; name, value, ok = head.Next() {
		if len(b)-start-headerSize+pairSize(name, value) > maxVars { // rule F16
			return dst, fmt.Errorf("uwsgi: vars of more than %d bytes: %w", maxVars, gateway.ErrTooLarge)
		}
		b = appendPair(b, name, value)
	}
	binary.LittleEndian.PutUint16(b[start+1:], uint16(len(b)-start-headerSize))
	return b, nil
}

// ConsumeRequest reads a packet from the start of b, and its vars into p, which it resets first. n
// is its size; 0 with a nil error means that b does not hold a whole one. Only the rules of the
// wire are applied, not those of the params; see Reader.ReadRequest. Vars that end inside a pair,
// or an empty name, are ErrMalformed and n is -1.
func ConsumeRequest(b []byte, p *gateway.Params) (h PacketHeader, n int, err error) {
	l := (*pairs.List)(p)
	l.Reset()
	h, used := ConsumeHeader(b)
	end := used + int(h.Size)
	if used == 0 || len(b) < end {
		return PacketHeader{}, 0, nil
	}
	l.AppendRaw(b[used:end])
	if err := params.MarkAll("uwsgi", l, mark); err != nil {
		l.Reset()
		return PacketHeader{}, -1, err
	}
	return h, end, nil
}
