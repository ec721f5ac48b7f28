package gateway

import (
	"bytes"
	"fmt"
	"io"
	"strconv"

	"github.com/gatehouse-go/gatehouse/internal/grammar"
)

// Response is a response: its head, and a reader of its body. The zero value is ready to use. The
// caller of RoundTrip owns it, and must close its Body. A Response must not be copied. Reset keeps
// its memory.
type Response struct {
	// Status is the status code, from 100 to 999.
	Status int

	// Header holds the fields of the head, without Status.
	Header Header

	// ContentLength is the length of Body in bytes. A negative value means that it is unknown; zero
	// means that the body is empty, and AppendResponse writes "Content-Length: 0".
	ContentLength int64

	// Body reads the body. After RoundTrip it is never nil, and the caller must close it, even if
	// it has returned io.EOF. Close may be called during a Read, and ends it. If Status is 101,
	// Body is a Stream.
	Body io.ReadCloser

	// AppStatus is FastCGI's appStatus or the exit status of a CGI program. It is set when Body has
	// returned io.EOF.
	AppStatus uint32

	// LocalRedirect says that the head was a Location with a path and nothing else. If the body is
	// empty too, it asks for an internal redirect, RFC 3875 section 6.2.2. ConsumeResponse sets it,
	// and AppendResponse ignores it.
	LocalRedirect bool
}

// Reset makes r empty. It keeps its memory.
func (r *Response) Reset() {
	r.Header.Reset()
	r.Status, r.ContentLength, r.Body, r.AppStatus, r.LocalRedirect = 0, 0, nil, 0, false
}

// syncContentLength sets the Content-Length field from ContentLength, in case ModifyResponse
// changed only one of them.
func (r *Response) syncContentLength() {
	v, ok := r.Header.Lookup("Content-Length")
	n, number := grammar.Decimal(v)
	switch {
	case r.ContentLength < 0 && ok:
		r.Header.Del("Content-Length")
	case r.ContentLength >= 0 && (!number || n != r.ContentLength) && r.Status >= 200 && r.Status != 204:
		r.Header.Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
}

// AppendResponse appends the head of r as a CGI program writes it, RFC 3875 section 6: a Status
// field, such as "Status: 404 Not Found", the fields of r.Header, Content-Length, and an empty
// line. Content-Length is r.ContentLength. It is omitted if that is negative or if the status is
// 1xx or 204. Status and Content-Length fields in r.Header are ignored. A status below 100 or above
// 999, a name that is not a token, or a value with a control byte is ErrMalformed. If there is an
// error, dst is returned unchanged.
func AppendResponse(dst []byte, r *Response) ([]byte, error) {
	return appendHead(dst, "Status: ", r)
}

// AppendHTTPResponse is like AppendResponse, but writes a status line, "HTTP/1.1 404 Not Found", in
// place of the Status field.
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
		ok := false
		if b, ok = appendField(b, name, value); !ok {
			return dst, fmt.Errorf("gateway: response field %d: %w", i, ErrMalformed)
		}
	}
	if r.ContentLength >= 0 && r.Status >= 200 && r.Status != 204 {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, r.ContentLength, 10)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...), nil
}

// appendField appends the line of a field, unless one of its bytes is forbidden.
func appendField(dst, name, value []byte) ([]byte, bool) {
	if !grammar.IsToken(name) || !grammar.IsFieldValue(value) {
		return dst, false
	}
	dst = append(append(dst, name...), ": "...)
	return append(append(dst, value...), "\r\n"...), true
}

// ConsumeResponse reads the head of a response from the start of b into r, which it resets first.
// It returns the length of the head, or 0 and a nil error if b does not hold the whole head. The
// head is that of a CGI response (RFC 3875 section 6.3) or begins with an HTTP status line. If it
// has a status line and a Status field, they must agree. Lines end with LF or CR LF. Without a
// status it is 302 if there is a Location, or else 200. The Status field and the reason phrase are
// not kept. The caller limits the length of b.
//
// ErrMalformed means that the head cannot be read in only one way: a bare CR, a control byte in a
// value, a folded line, a name that is not a token, a Status that is not three digits, different
// values of Status or Content-Length, or a Transfer-Encoding. ErrTooLarge means more than MaxPairs
// fields. r is then empty and n is -1.
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
	l.AppendRaw(b) // the fields are marked in this copy
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

// statusLine reads "HTTP/1.1 404 Not Found"; the minor version and the reason phrase are optional.
// A line that is not a status line may still be a field.
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

// isVersion reports whether v is "1" or "1.1", in any digits.
func isVersion[S ~string | ~[]byte](v S) bool {
	digit := func(c byte) bool { return '0' <= c && c <= '9' }
	return len(v) == 1 && digit(v[0]) || len(v) == 3 && digit(v[0]) && v[1] == '.' && digit(v[2])
}

// threeDigits reads a status: "404" or "404 Not Found".
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
	value := bytes.Trim(line[colon+1:], " \t")
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

// meaning reads the fields that determine the status and the length of the body.
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
		// No gateway protocol has a Transfer-Encoding: its framing would be taken for content, or
		// content for framing (F19).
		return false, fmt.Errorf("field Transfer-Encoding: %w", ErrMalformed)
	}
	return true, nil
}
