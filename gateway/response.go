package gateway

import (
	"bytes"
	"fmt"
	"io"
	"strconv"

	"github.com/gatehouse-go/gatehouse/internal/grammar"
)

// Response is one answer. It belongs to who passed it to RoundTrip; reset and use it again: it keeps its memory.
type Response struct {
	Status        int
	Header        Header
	ContentLength int64         // of Body in bytes; -1 stands for unknown
	Body          io.ReadCloser // never nil after RoundTrip; a Stream when Status is 101
	AppStatus     uint32        // FastCGI appStatus or CGI exit status; set when Body has given io.EOF

	// LocalRedirect says that the head was a Location with a path and nothing else. If the body is empty too, it asks
	// for an internal redirect, RFC 3875 section 6.2.2. ConsumeResponse sets it, and AppendResponse ignores it.
	LocalRedirect bool
}

// Reset makes r empty; it keeps its memory.
func (r *Response) Reset() {
	r.Header.Reset()
	r.Status, r.ContentLength, r.Body, r.AppStatus, r.LocalRedirect = 0, 0, nil, 0, false
}

// settleLength makes the Content-Length field say what ContentLength says, where whoever changed one forgot the other.
func (r *Response) settleLength() {
	v, ok := r.Header.Lookup("Content-Length")
	n, number := grammar.Decimal(v)
	switch {
	case r.ContentLength < 0 && ok:
		r.Header.Del("Content-Length")
	case r.ContentLength >= 0 && (!number || n != r.ContentLength) && r.Status >= 200 && r.Status != 204:
		r.Header.Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
}

// AppendResponse appends r's head as a CGI program writes it: "Status: 404 Not Found", the fields, an empty line; RFC
// 3875 section 6. Content-Length is written from r.ContentLength unless that is -1, and not at all for a 1xx or 204; a
// Status field in r.Header is not. A status outside 100 to 999, a name that is no token or a value with a control byte
// is ErrMalformed; then dst comes back as it was.
func AppendResponse(dst []byte, r *Response) ([]byte, error) {
	return appendHead(dst, "Status: ", r)
}

// AppendHTTPResponse is AppendResponse with a status line in the place of the Status field: "HTTP/1.1 404 Not Found".
func AppendHTTPResponse(dst []byte, r *Response) ([]byte, error) {
	return appendHead(dst, "HTTP/1.1 ", r)
}

func appendHead(dst []byte, start string, r *Response) ([]byte, error) {
	if r.Status < 100 || r.Status > 999 {
		return dst, fmt.Errorf("gateway: status %d: %w", r.Status, ErrMalformed)
	}
	b := append(dst, start...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = append(b, ' ')
	b = append(b, reason(r.Status)...)
	b = append(b, "\r\n"...)
	l := r.Header.read()
	for i := range l.Len() {
		name, value := l.Name(i), l.Value(i)
		if grammar.EqualFold(name, "Status") || grammar.EqualFold(name, "Content-Length") {
			continue
		}
		if !grammar.IsToken(name) || !grammar.IsFieldValue(value) {
			return dst, fmt.Errorf("gateway: response field %d: %w", i, ErrMalformed)
		}
		b = append(append(b, name...), ": "...)
		b = append(append(b, value...), "\r\n"...)
	}
	if r.ContentLength >= 0 && r.Status >= 200 && r.Status != 204 {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, r.ContentLength, 10)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...), nil
}

// ConsumeResponse reads a response's head from the start of b into r, which it resets first. n > 0 is the head's
// length; n == 0 with a nil error says that b does not hold a whole one. The head may begin with an HTTP status line or
// be a CGI response (RFC 3875 section 6.3), with LF or CR LF. Without a Status the status is 302 if there is a
// Location and 200 if not. The Status field and the reason phrase are not kept.
//
// It is strict: a bare CR, a NUL or another control byte, a folded line, a name that is no token, a line without a
// colon, a status that is not three digits, two Statuses or Content-Lengths that differ, a Content-Length that is no
// number and any Transfer-Encoding are ErrMalformed; more than MaxPairs fields or a line over its cap is ErrTooLarge.
// Then n is -1 and r is empty.
func ConsumeResponse(b []byte, r *Response) (n int, err error) {
	r.Reset()
	var end grammar.HeadEnd
	if n = end.Find(b); n == 0 {
		return 0, nil
	}
	if err := consumeHead(b[:n], r); err != nil {
		r.Reset()
		return -1, fmt.Errorf("gateway: response head: %w", err)
	}
	return n, nil
}

func consumeHead(b []byte, r *Response) error {
	l := r.Header.list()
	l.AppendRaw(b) // whole; the fields are marked in the copy
	raw := l.Raw(0)
	r.ContentLength = -1
	at := 0
	if status, ok := statusLine(firstLine(raw)); ok {
		r.Status = status
		at = bytes.IndexByte(raw, '\n') + 1
	}
	for at < len(raw) {
		end := at + bytes.IndexByte(raw[at:], '\n')
		line := bytes.TrimSuffix(raw[at:end], []byte("\r"))
		if len(line) == 0 {
			break
		}
		if err := consumeField(r, line, at); err != nil {
			return err
		}
		at = end + 1
	}
	if r.Status == 0 {
		r.Status = 200
		if i := l.FindFold("Location", 0); i >= 0 {
			r.Status = 302
			r.LocalRedirect = l.Len() == 1 && bytes.HasPrefix(l.Value(i), []byte("/")) && r.ContentLength < 0
		}
	}
	return nil
}

func firstLine(b []byte) []byte {
	return bytes.TrimSuffix(b[:bytes.IndexByte(b, '\n')], []byte("\r"))
}

// statusLine reads "HTTP/1.1 404 Not Found", the minor version and the reason phrase being optional. What does not
// look like one may still be a field.
func statusLine(line []byte) (status int, ok bool) {
	rest, found := bytes.CutPrefix(line, []byte("HTTP/"))
	if !found {
		return 0, false
	}
	version, rest, found := bytes.Cut(rest, []byte(" "))
	if !found || !isVersion(version) || !grammar.IsFieldValue(rest) { // rule F20
		return 0, false
	}
	return threeDigits(rest)
}

func isVersion(v []byte) bool {
	digit := func(c byte) bool { return '0' <= c && c <= '9' }
	return len(v) == 1 && digit(v[0]) || len(v) == 3 && digit(v[0]) && v[1] == '.' && digit(v[2])
}

// threeDigits reads a status, "404" or "404 Not Found".
func threeDigits(v []byte) (status int, ok bool) {
	if len(v) < 3 || len(v) > 3 && v[3] != ' ' {
		return 0, false
	}
	n, ok := grammar.Decimal(v[:3])
	return int(n), ok && n >= 100
}

// consumeField reads a line that lies at offset at of the list's buffer.
func consumeField(r *Response, line []byte, at int) error {
	l := r.Header.list()
	colon := bytes.IndexByte(line, ':')
	if colon < 0 || !grammar.IsToken(line[:colon]) {
		return fmt.Errorf("line %d: %w", l.Len(), ErrMalformed)
	}
	value := trimSpace(line[colon+1:])
	if !grammar.IsFieldValue(value) { // rule F18, F22
		return fmt.Errorf("field %q: control byte: %w", line[:min(colon, 64)], ErrMalformed)
	}
	if l.Len() == MaxPairs || colon > MaxNameBytes || len(value) > MaxValueBytes {
		return ErrTooLarge
	}
	keep, err := meaning(r, line[:colon], value)
	if err != nil || !keep {
		return err
	}
	start := at + len(line) - len(bytes.TrimLeft(line[colon+1:], " \t"))
	l.Mark(at, at+colon, start, start+len(value))
	return nil
}

// meaning looks at the fields that say where the answer ends and what it is.
func meaning(r *Response, name, value []byte) (keep bool, err error) {
	switch {
	case grammar.EqualFold(name, "Status"):
		status, ok := threeDigits(value)
		if !ok || r.Status != 0 && r.Status != status {
			return false, fmt.Errorf("field Status: %w", ErrMalformed)
		}
		r.Status = status
		return false, nil
	case grammar.EqualFold(name, "Content-Length"):
		n, ok := grammar.Decimal(value)
		if !ok || r.ContentLength >= 0 && r.ContentLength != n {
			return false, fmt.Errorf("field Content-Length: %w", ErrMalformed)
		}
		first := r.ContentLength < 0
		r.ContentLength = n
		return first, nil
	case grammar.EqualFold(name, "Transfer-Encoding"): // rule F19
		// No gateway protocol has one: its framing would be taken for content, or content for framing (F19).
		return false, fmt.Errorf("field Transfer-Encoding: %w", ErrMalformed)
	}
	return true, nil
}

func trimSpace(b []byte) []byte { return bytes.Trim(b, " \t") }
