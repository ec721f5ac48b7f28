package grammar

import (
	"bytes"
	"testing"
)

func TestEqualFold(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{{"Content-Type", "cONTENT-tYPE", true}, {"a", "ab", false}, {"[", "{", false}, {"\xc5", "\xe5", false}, {"K", "\u212a", false}, {"@", "`", false}} {
		if EqualFold(c.a, []byte(c.b)) != c.same {
			t.Errorf("%q and %q", c.a, c.b)
		}
	}
}

// TestIsFieldValue puts each byte at each place of values on both sides of eight bytes.
func TestIsFieldValue(t *testing.T) {
	for size := range 20 {
		for at := range size {
			for c := range 256 {
				value := bytes.Repeat([]byte("a"), size)
				value[at] = byte(c)
				want := c == '\t' || c >= ' ' && c != 0x7f
				if got := IsFieldValue(value); got != want {
					t.Fatalf("%q: %v, want %v", value, got, want)
				}
			}
		}
	}
	for value, want := range map[string]bool{"": true, "\t\t\t\t\t\t\t\t\t": true, "\t234567\x00": false, "\u00e9\u00e9\u00e9\u00e9\x7f\u00e9\u00e9": false} {
		if IsFieldValue([]byte(value)) != want {
			t.Errorf("%q", value)
		}
	}
}

func TestDecimal(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "007": 7, "9223372036854775807": 1<<63 - 1, "": -1, "-1": -1, "+1": -1, "1 ": -1, "x": -1,
		"9223372036854775808": -1, "00000000000000000001": -1,
	} {
		n, ok := Decimal([]byte(in))
		if !ok {
			n = -1
		}
		if n != want {
			t.Errorf("%q: %d, want %d", in, n, want)
		}
	}
}
