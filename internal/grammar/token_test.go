package grammar

import "testing"

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
