package grammar

import (
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	for in, want := range map[string]int{
		"A: 1\r\n\r\nbody": 8, "A: 1\n\nbody": 6, "A: 1\r\n\nbody": 7, "A: 1\n\r\nbody": 7, "\r\nbody": 2, "\nbody": 1, "A: 1\r\n": 0, "": 0,
		"A: 1\n\r\r\n\n": 9, "\r": 0,
	} {
		var h HeadEnd
		if got := h.Find([]byte(in)); got != want {
			t.Errorf("%q: %d, want %d", in, got, want)
		}
		// Byte by byte it is the same, and nothing is looked at twice.
		h = HeadEnd{}
		got, looked := 0, 0
		for n := range len(in) + 1 {
			before := h.next
			if got = h.Find([]byte(in[:n])); got > 0 {
				break
			}
			looked += h.next - before
		}
		if got != want || looked > len(in) {
			t.Errorf("%q byte by byte: %d, want %d; looked at %d bytes", in, got, want, looked)
		}
	}
	var h HeadEnd
	long := []byte(strings.Repeat("A: 1\r\n", 100000) + "\r\n")
	if got := h.Find(long); got != len(long) {
		t.Errorf("%d", got)
	}
}
