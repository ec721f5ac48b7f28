package fuzz

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/params"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// Decode decodes one request head with the decoder under test. It returns the params and the number
// of bytes used; a negative n means that the decoder does not say. A map suffices: the order is not
// compared, and for a repeated name any value, or all of them joined, is accepted. An error that is
// io.ErrUnexpectedEOF means that b ends inside the head, any other that the head is refused; a head
// with an empty name must be refused. Decode may keep b.
type Decode func(b []byte) (params map[string]string, n int, err error)

// Decoder fails t if theirs disagrees with the decoder of this module about b: whether the head is
// accepted, refused or truncated, its params, and its length. Only the encoding is compared. A
// decoder may
//
//   - treat HTTP_PROXY in any way;
//   - refuse a head that violates a rule of params (a NUL, a repeated name) or exceeds a limit of
//     this module;
//   - refuse a truncated head;
//   - with FastCGI, refuse or skip records of other ids, of a request that was not begun, or of a
//     head that ABORT_REQUEST ends, and count the padding of the last record or not.
func Decoder(t testing.TB, p Protocol, b []byte, theirs Decode) {
	t.Helper()
	want := decode(p, b)
	params, n, err := theirs(bytes.Clone(b))
	got := verdictOf(err)
	switch {
	case want.free && (got != accepted || want.verdict != accepted):
	case want.verdict == cut && got == refused, want.verdict == refused && got == cut && !wholeHead(p, b):
	case got != want.verdict:
		t.Errorf("%s: it is %s, and should be %s (ours: %v, theirs: %v)\n%q", p, got, want.verdict, want.err, err, b)
	case got != accepted:
	case n >= 0 && (n > want.n || n < want.n-want.slack):
		t.Errorf("%s: it used %d bytes, and should have used %d\n%q", p, n, want.n, b)
	default:
		compare(t, p, b, &want.params, params)
	}
}

// A verdict is what a decoder decides about a head.
type verdict string

const (
	accepted verdict = "accepted"
	refused  verdict = "refused"
	cut      verdict = "cut"
)

func verdictOf(err error) verdict {
	switch {
	case err == nil:
		return accepted
	case errors.Is(err, io.ErrUnexpectedEOF), err == io.EOF:
		return cut
	}
	return refused
}

// A head is the result of decoding a request's head with this module.
type head struct {
	params  gateway.Params
	n       int
	err     error
	verdict verdict
	slack   int  // bytes of n that carry nothing and may be left unread
	free    bool // another decoder may refuse or accept it for reasons of its own
}

// decode reads the head at the start of b by the rules of the wire, and notes whether it violates a
// rule of params.
func decode(p Protocol, b []byte) *head {
	h := new(head)
	switch p {
	case CGI:
		h.n, h.err = consumeEnviron(b, &h.params)
	case FastCGI:
		h.records(b)
	case SCGI:
		h.n, h.err = scgi.ConsumeRequest(b, &h.params)
	case UWSGI:
		_, h.n, h.err = uwsgi.ConsumeRequest(b, &h.params)
	default:
		h.err = errors.ErrUnsupported
	}
	switch {
	case h.err == nil && h.n > 0:
		h.verdict = accepted
		h.free = h.free || h.repeats() || breaksRule(p, b, &h.params)
	case h.err == nil:
		h.verdict = cut
	default:
		h.verdict = refused
		h.free = h.free || errors.Is(h.err, gateway.ErrTooLarge)
	}
	return h
}

// repeats reports whether a name is repeated.
func (h *head) repeats() bool {
	seen := make(map[string]bool)
	for name := range h.params.All() {
		if seen[string(name)] {
			return true
		}
		seen[string(name)] = true
	}
	return false
}

// breaksRule reports whether a head that is valid on the wire is refused because of its params.
func breaksRule(p Protocol, b []byte, read *gateway.Params) bool {
	if r := newReader(p, bytes.NewReader(b)); r != nil {
		return r.ReadRequest(new(gateway.Request)) != nil
	}
	var copied gateway.Params
	copied.CopyFrom(read)
	_, err := params.Receive("fuzz", (*pairs.List)(&copied))
	return err != nil
}

// wholeHead reports whether the whole head is there, by its framing alone: a decoder may wait for
// it before it looks closer.
func wholeHead(p Protocol, b []byte) bool {
	switch p {
	case SCGI:
		digits, rest, found := bytes.Cut(b, []byte(":"))
		size, err := strconv.Atoi(string(digits))
		return found && (err != nil || size < len(rest)) || !found && len(b) > 20
	case UWSGI:
		h, n := uwsgi.ConsumeHeader(b)
		return n > 0 && len(b) >= n+int(h.Size)
	case FastCGI:
		for {
			rec, n := fastcgi.ConsumeRecord(b)
			if n <= 0 {
				return n < 0 && len(b) >= 8 // a decoder may wait for the whole header of a record
			}
			if rec.Type == fastcgi.TypeParams && len(rec.Content) == 0 {
				return true
			}
			b = b[n:]
		}
	}
	return len(b) > 0 && b[0] == 0 || bytes.Contains(b, []byte("\x00\x00"))
}

// reader is the Reader of a protocol.
type reader interface {
	ReadRequest(req *gateway.Request) error
	ReadResponse(res *gateway.Response) error
}

// newReader returns the Reader of p, or nil if it has none.
func newReader(p Protocol, src io.Reader) reader {
	switch p {
	case FastCGI:
		return fastcgi.NewReader(src)
	case SCGI:
		return scgi.NewReader(src)
	case UWSGI:
		return uwsgi.NewReader(src)
	}
	return nil
}

// consumeEnviron reads an environment up to the NUL that ends it.
func consumeEnviron(b []byte, p *gateway.Params) (n int, err error) {
	for n < len(b) && b[n] != 0 {
		_, _, size := cgi.ConsumeParam(b[n:])
		if size == 0 {
			return 0, nil
		}
		if size < 0 {
			return -1, gateway.ErrMalformed
		}
		n += size
	}
	if n == len(b) {
		return 0, nil
	}
	if _, err := cgi.ConsumeParams(b[:n], p); err != nil {
		return -1, err
	}
	return n + 1, nil
}

// records reads the head of a FastCGI request. The padding of its last record may be missing.
func (h *head) records(b []byte) {
	_, _, h.n, h.err = fastcgi.ConsumeRequest(b, &h.params)
	var first uint16
	for at := 0; at < len(b) && (at < h.n || h.n <= 0); {
		rec, n := fastcgi.ConsumeHeader(b[at:])
		if n <= 0 {
			return
		}
		h.slack = int(rec.Padding)
		h.free = h.free || rec.ID != 0 && rec.ID != first && (first != 0 || rec.Type != fastcgi.TypeBegin)
		h.free = h.free || rec.Type == fastcgi.TypeAbort && rec.ID == first && first != 0
		first = cmp.Or(first, rec.ID)
		at += n + int(rec.Length) + h.slack
		h.free = h.free || h.n == 0 && rec.Type == fastcgi.TypeParams && rec.Length == 0 && at > len(b)
	}
}

// compare fails t if theirs are not the params of ours.
func compare(t testing.TB, p Protocol, b []byte, ours *gateway.Params, theirs map[string]string) {
	t.Helper()
	names := make(map[string]bool)
	for name := range ours.All() {
		names[string(name)] = true
	}
	for name := range names {
		value, ok := theirs[name]
		switch {
		case name == "HTTP_PROXY":
		case !ok:
			t.Errorf("%s: %q is missing\n%q", p, name, b)
		case !oneOf(ours, name, value):
			t.Errorf("%s: %q has another value\n%q", p, name, b)
		}
	}
	for name := range theirs {
		if !names[name] {
			t.Errorf("%s: %q was not sent\n%q", p, name, b)
		}
	}
}

// oneOf reports whether value is a value of name, or all of them joined.
func oneOf(p *gateway.Params, name, value string) bool {
	var all []string
	for n, v := range p.All() {
		if string(n) == name {
			if string(v) == value {
				return true
			}
			all = append(all, string(v))
		}
	}
	return value == strings.Join(all, ", ") || value == strings.Join(all, "; ")
}
