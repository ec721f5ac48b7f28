package grammar

import "encoding/binary"

// tokenTable marks the bytes of a token, RFC 9110 section 5.6.2.
var tokenTable = func() (t [256]bool) {
	for c := range 128 {
		t[c] = '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

// IsToken reports whether s is a token: a method, or the name of a field.
func IsToken[S ~string | ~[]byte](s S) bool {
	for i := range len(s) {
		if !tokenTable[s[i]] {
			return false
		}
	}
	return len(s) > 0
}

// IsFieldValue reports whether b may be the value of a field: it has no control byte but HTAB. It
// looks at eight bytes at a time for as long as there is none at all.
func IsFieldValue(b []byte) bool {
	for ; len(b) >= 8 && isPrintable(binary.LittleEndian.Uint64(b)); b = b[8:] {
	}
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// isPrintable reports whether none of the eight bytes of x is a control byte. A byte below 0x20
// borrows from its top bit when 0x20 is subtracted; DEL becomes 0, which borrows when 1 is.
func isPrintable(x uint64) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	del := x ^ 0x7f*ones
	return ((x-0x20*ones)&^x|(del-ones)&^del)&tops == 0
}

// EqualFold compares a and b without regard to the case of ASCII letters. Bytes over 0x7f only
// match themselves.
func EqualFold[A, B ~string | ~[]byte](a A, b B) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if x, y := a[i], b[i]; x != y && lower(x) != lower(y) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}
