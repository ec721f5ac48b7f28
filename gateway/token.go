package gateway

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

func isToken[S ~string | ~[]byte](s S) bool {
	for i := range len(s) {
		if !tokenTable[s[i]] {
			return false
		}
	}
	return len(s) > 0
}

// isFieldValue reports whether s may stand as a field's value: no control byte but HTAB.
func isFieldValue[S ~string | ~[]byte](s S) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
