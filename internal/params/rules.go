package params

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/gatehouse-go/gatehouse/internal/grammar"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
)

// Receive applies the rules of a received head to l (F1, F8, F18, F46). It returns the length of
// the body that CONTENT_LENGTH states: -1 if that is absent, empty, or the "-1" that lighttpd and
// Caddy send for an unknown length. protocol is for errors.
func Receive(protocol string, l *pairs.List) (contentLength int64, err error) {
	if err = check(l); err == nil {
		err = Normalize(l)
	}
	if err == nil {
		contentLength, err = length(l)
	}
	return contentLength, Prefixed(protocol, err)
}

// Send applies the rules of a head to be sent. It does not change l, which is the caller's. repeats
// reports whether the list must be normalized before it is sent.
func Send(l *pairs.List) (repeats bool, err error) {
	if err := check(l); err != nil {
		return false, err
	}
	if i := l.Find("SERVER_PROTOCOL", 0); i >= 0 && !mayBeProtocol(l.Value(i)) {
		return false, fmt.Errorf("SERVER_PROTOCOL: %w", ErrParam)
	}
	if i := l.Find("REQUEST_METHOD", 0); i >= 0 && !grammar.IsToken(l.Value(i)) {
		return false, fmt.Errorf("REQUEST_METHOD: %w", ErrParam)
	}
	return l.Repeats() || l.Find("HTTP_PROXY", 0) >= 0, nil
}

// Normalize drops HTTP_PROXY and makes every name unique.
func Normalize(l *pairs.List) error {
	if i := l.Find("HTTP_PROXY", 0); i >= 0 {
		l.DeleteFunc(func(name []byte) bool { return string(name) == "HTTP_PROXY" }) // rule F1
	}
	if i := l.Join(separator); i >= 0 { // rule F46
		return fmt.Errorf("%s repeated with another value: %w", quoteName(l.Name(i)), ErrParam)
	}
	return nil
}

// separator returns what joins the values of a repeated param, or "" if they must be equal. RFC
// 3875 section 4.1.18 joins repeated header fields; of two values of any other param one would be
// wrong.
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

// check checks the bytes and sizes of every pair.
func check(l *pairs.List) error {
	if l.Len() > MaxPairs { // rule F35
		return fmt.Errorf("more than %d params: %w", MaxPairs, ErrTooLarge)
	}
	for i := range l.Len() {
		name, value := l.Name(i), l.Value(i)
		if err := checkPair(name, value); err != nil {
			return fmt.Errorf("%s: %w", quoteName(name), err)
		}
	}
	return nil
}

func checkPair(name, value []byte) error {
	switch {
	case len(name) == 0:
		return ErrParam
	case len(name) > MaxNameBytes || len(value) > MaxValueBytes: // rule F47
		return ErrTooLarge
	case plain(name) && plain(value):
		return nil // the common case
	case hasAny(name, "\x00\r\n") || hasAny(value, "\x00"):
		return ErrParam
	case isSingleLine(name) && hasAny(value, "\r\n"):
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

// plain reports whether every byte of b is 0x0e or above, which excludes NUL, LF and CR. It looks
// at eight bytes at a time: x-k borrows into the top bit of the lowest byte that is smaller than
// k's.
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

// isSingleLine reports whether CR and LF are forbidden in the named param: values that came from
// one HTTP line. Others may hold them: SSL_CLIENT_CERT is PEM, and PATH_INFO is decoded.
func isSingleLine(name []byte) bool {
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

func length(l *pairs.List) (int64, error) {
	i := l.Find("CONTENT_LENGTH", 0)
	if i < 0 {
		return -1, nil
	}
	v := l.Value(i)
	if len(v) == 0 || string(v) == "-1" {
		return -1, nil
	}
	n, ok := grammar.Decimal(v)
	if !ok {
		return 0, fmt.Errorf("CONTENT_LENGTH: %w", ErrParam)
	}
	return n, nil
}

// mayBeProtocol reports whether SERVER_PROTOCOL may be v: applications copy it into their status
// line (F13).
func mayBeProtocol(v []byte) bool {
	switch string(v) {
	case "HTTP/1.0", "HTTP/1.1", "HTTP/2.0", "HTTP/3.0", "INCLUDED":
		return true
	}
	return false // rule F13
}

// quoteName returns a name as errors show it. Names are not secret, but the peer chooses them.
func quoteName(name []byte) string {
	const most = 64
	if len(name) > most {
		return fmt.Sprintf("param %q…", name[:most])
	}
	return fmt.Sprintf("param %q", name)
}
