package gatewayhttp

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"

	"github.com/gatehouse-go/gatehouse/internal/grammar"
)

// A framing follows the bytes of a response to find its end, RFC 9112 section 6. It reports no
// faults, which the transport does. It stops where it does not know how the response goes on.
type framing struct {
	method string // of the request
	in     part
	line   []byte // the current line, at most maxFramingLine bytes of it
	status string // of the response; empty before the first line
	old    bool   // HTTP/1.0, which has no chunks
	chunks bool   // the body consists of chunks
	left   int64  // bytes of the body or of the chunk; -1 means up to the end of the connection
	bare   bool   // the response has no body, whatever its fields say
	odd    bool   // a field says how long the body is in a way that others may read differently
	body   int64  // bytes of the body that were seen
}

// A part of a response.
type part uint8

const (
	inHead part = iota
	inBody
	inChunk
	afterChunk // the line that ends a chunk
	inSize     // the line that begins one
	inTrailer
	notKnown // no end is looked for
)

// maxFramingLine is more than a line that says how long a body is has in bytes.
const maxFramingLine = 256

// isSwitched reports whether the response is a 101.
func (f *framing) isSwitched() bool { return f.in == notKnown && strings.HasPrefix(f.status, "101") }

// inBody reports whether the head of a response with a body has been read. A 101 has none: what
// follows belongs to another protocol.
func (f *framing) inBody() bool { return f.in != inHead && !strings.HasPrefix(f.status, "101") }

// next reads p up to the end of the response. done means that it was reached.
func (f *framing) next(p []byte) (used int, done bool) {
	for used < len(p) && !done {
		switch rest := p[used:]; f.in {
		case notKnown:
			f.body += int64(len(rest))
			return len(p), false
		case inBody, inChunk:
			n := min(f.left, int64(len(rest)))
			f.left -= n
			f.body += n
			used += int(n)
			if f.left == 0 {
				done = f.in == inBody
				f.in = afterChunk
			}
		default:
			line, _, ended := bytes.Cut(rest, []byte("\n"))
			f.line = append(f.line, line[:min(len(line), maxFramingLine-len(f.line))]...)
			used += len(line)
			if ended {
				used++
				done = f.endLine(strings.TrimSuffix(string(f.line), "\r"))
				f.line = f.line[:0]
			}
		}
	}
	return used, done
}

// endLine uses a line outside of the body. It reports whether the response has ended with it.
func (f *framing) endLine(line string) (done bool) {
	switch {
	case f.in == afterChunk:
		f.in = inSize
	case f.in == inSize:
		digits, _, _ := strings.Cut(line, ";")
		size, err := strconv.ParseUint(strings.TrimSpace(digits), 16, 62)
		f.left, f.in = int64(size), inChunk
		switch {
		case err != nil:
			f.in = notKnown
		case size == 0:
			f.in = inTrailer
		}
	case f.in == inTrailer:
		return line == ""
	case f.status == "":
		proto, rest, _ := strings.Cut(line, " ")
		f.status, _, _ = strings.Cut(strings.TrimLeft(rest, " "), " ")
		f.status += "   " // one that is too short is none of those below
		f.old, f.left = proto == "HTTP/1.0", -1
	case line == "":
		return f.endHead()
	default:
		f.field(line)
	}
	return false
}

// field uses a field of the head. A line that continues one is odd, RFC 9112 section 5.2, and so is
// a field that the transport would understand and this function does not.
func (f *framing) field(line string) {
	name, value, _ := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	switch {
	case line[0] == ' ' || line[0] == '\t':
		f.odd = true
	case strings.EqualFold(name, "Transfer-Encoding"):
		f.chunks = !f.old && strings.EqualFold(value, "chunked")
		f.odd = f.odd || len(line) == maxFramingLine
	case strings.EqualFold(name, "Content-Length"):
		n, ok := grammar.Decimal([]byte(value))
		if ok {
			f.left = n
		}
		f.odd = f.odd || !ok || len(line) == maxFramingLine
	}
}

// endHead decides what follows the head. It reports whether that is nothing.
func (f *framing) endHead() (done bool) {
	switch status := f.status[:3]; {
	case status == "101":
		f.in = notKnown
	case status[0] == '1': // the head of the response follows
		*f = framing{method: f.method, line: f.line}
	case f.method == http.MethodHead || status == "204" || status == "304":
		f.bare = true
		return true
	case f.chunks:
		f.in = inSize
	case f.left < 0:
		f.in = notKnown
	default:
		f.in = inBody
		return f.left == 0
	}
	return false
}
