package gateway

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/gatehouse-go/gatehouse/internal/hook"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
)

// The rules here hold for every head of params, whatever the protocol, received or sent. They live where the readers
// and writers of all siblings call them, so that the zero value of each has them.

func init() {
	hook.Receive = func(r any) error { return receive(r.(*Request)) }
	hook.Send = func(r any) (bool, error) { return send(r.(*Request)) }
	hook.Normalize = func(p any) error { return normalize(&p.(*Params).list) }
}

// receive applies the rules to a head that was read: F1, F8, F18, F46.
func receive(r *Request) error {
	l := &r.Params.list
	if err := grammar(l); err != nil {
		return err
	}
	if err := normalize(l); err != nil {
		return err
	}
	n, err := contentLength(l)
	if err != nil {
		return err
	}
	r.ContentLength = n
	return nil
}

// send checks a head that is to be written. It changes nothing: the params are the caller's.
func send(r *Request) (repeats bool, err error) {
	l := &r.Params.list
	if err := grammar(l); err != nil {
		return false, err
	}
	if v, ok := r.Params.Lookup("SERVER_PROTOCOL"); ok && !protocolToSend(v) {
		return false, fmt.Errorf("SERVER_PROTOCOL: %w", ErrParam)
	}
	if v, ok := r.Params.Lookup("REQUEST_METHOD"); ok && !isToken(v) {
		return false, fmt.Errorf("REQUEST_METHOD: %w", ErrParam)
	}
	return l.Repeats() || l.Find("HTTP_PROXY", 0) >= 0, nil
}

// normalize drops HTTP_PROXY and makes every name stand once.
func normalize(l *pairs.List) error {
	if i := l.Find("HTTP_PROXY", 0); i >= 0 {
		l.DeleteFunc(func(name []byte) bool { return string(name) == "HTTP_PROXY" }) // rule F1
	}
	if i := l.Join(separator); i >= 0 { // rule F46
		return fmt.Errorf("%s repeated with another value: %w", quoteName(l.Name(i)), ErrParam)
	}
	return nil
}

// separator is what joins the values of a repeated param: RFC 3875 section 4.1.18 has repeated header fields made one.
// Of other params no two can both be right.
func separator(name []byte) string {
	switch {
	case string(name) == "HTTP_COOKIE":
		return "; "
	case bytes.HasPrefix(name, httpPrefix):
		return ", "
	}
	return ""
}

var httpPrefix = []byte("HTTP_")

// grammar checks the bytes and sizes of every pair.
func grammar(l *pairs.List) error {
	if l.Len() > MaxPairs { // rule F35
		return fmt.Errorf("more than %d params: %w", MaxPairs, ErrTooLarge)
	}
	for i := range l.Len() {
		name, value := l.Name(i), l.Value(i)
		if err := pairGrammar(name, value); err != nil {
			return fmt.Errorf("%s: %w", quoteName(name), err)
		}
	}
	return nil
}

func pairGrammar(name, value []byte) error {
	switch {
	case len(name) == 0:
		return ErrParam
	case len(name) > MaxNameBytes || len(value) > MaxValueBytes: // rule F47
		return ErrTooLarge
	case plain(name) && plain(value):
		return nil // as nearly all are
	case hasAny(name, "\x00\r\n") || hasAny(value, "\x00"):
		return ErrParam
	case oneLine(name) && hasAny(value, "\r\n"):
		return ErrParam
	}
	return nil
}

func hasAny(b []byte, chars string) bool {
	for i := range len(chars) {
		if bytes.IndexByte(b, chars[i]) >= 0 {
			return true
		}
	}
	return false
}

// plain reports whether no byte of b is below 0x0e, NUL, LF and CR among them. It looks at eight at a time: x-k borrows
// into the top bit of the lowest byte that is smaller than k's.
func plain(b []byte) bool {
	const k, tops = 0x0e0e0e0e0e0e0e0e, 0x8080808080808080
	for ; len(b) >= 8; b = b[8:] {
		if x := binary.LittleEndian.Uint64(b); (x-k)&^x&tops != 0 {
			return false
		}
	}
	for _, c := range b {
		if c < 0x0e {
			return false
		}
	}
	return true
}

// oneLine reports whether the param of that name may not hold CR or LF: what came as one line of HTTP stays one. Others
// may: SSL_CLIENT_CERT is PEM, and PATH_INFO is decoded.
func oneLine(name []byte) bool {
	switch name[0] {
	case 'H':
		return bytes.HasPrefix(name, httpPrefix)
	case 'C':
		return bytes.HasPrefix(name, []byte("CONTENT_"))
	case 'R':
		return string(name) == "REQUEST_METHOD" || string(name) == "REQUEST_URI"
	case 'S':
		return string(name) == "SERVER_PROTOCOL"
	case 'Q':
		return string(name) == "QUERY_STRING"
	}
	return false
}

// contentLength reads CONTENT_LENGTH: -1 if it is absent, empty, or the "-1" that lighttpd and Caddy send for "unknown".
func contentLength(l *pairs.List) (int64, error) {
	i := l.Find("CONTENT_LENGTH", 0)
	if i < 0 {
		return -1, nil
	}
	v := l.Value(i)
	if len(v) == 0 || string(v) == "-1" {
		return -1, nil
	}
	n, ok := decimal(v)
	if !ok {
		return 0, fmt.Errorf("CONTENT_LENGTH: %w", ErrParam)
	}
	return n, nil
}

// decimal reads one to nineteen digits that fit an int64.
func decimal(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	for _, c := range b {
		d := int64(c - '0')
		if c < '0' || c > '9' || n > (math.MaxInt64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// protocolToSend reports whether v may stand in SERVER_PROTOCOL: applications put it into their status line as it is (F13).
func protocolToSend(v []byte) bool {
	switch string(v) {
	case "HTTP/1.0", "HTTP/1.1", "HTTP/2.0", "HTTP/3.0", "INCLUDED":
		return true
	}
	return false // rule F13
}

// quoteName makes a name fit for an error: names are not secret, but they are the peer's.
func quoteName(name []byte) string {
	const most = 64
	if len(name) > most {
		return fmt.Sprintf("param %q…", name[:most])
	}
	return fmt.Sprintf("param %q", name)
}
