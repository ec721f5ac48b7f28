package params

import (
	"errors"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/internal/pairs"
)

func list(nv ...string) *pairs.List {
	l := new(pairs.List)
	for i := 0; i < len(nv); i += 2 {
		pairs.Add(l, nv[i], nv[i+1])
	}
	return l
}

func TestReceive(t *testing.T) {
	for _, c := range []struct {
		name   string
		params []string
		length int64
		err    error
	}{
		{"a length", []string{"CONTENT_LENGTH", "12"}, 12, nil},
		{"no length", []string{"A", "1"}, -1, nil},
		{"an empty length", []string{"CONTENT_LENGTH", ""}, -1, nil},
		{"the length -1 of lighttpd and Caddy", []string{"CONTENT_LENGTH", "-1"}, -1, nil},
		{"another negative length [018]", []string{"CONTENT_LENGTH", "-2"}, 0, ErrParam},
		{"an empty name [001]", []string{"", "1"}, 0, ErrParam},
		{"NUL in a value [002]", []string{"A", "x\x00"}, 0, ErrParam},
		{"LF in a header field [003 F18]", []string{"HTTP_A", "x\n"}, 0, ErrParam},
		{"LF in a certificate", []string{"SSL_CLIENT_CERT", "x\ny"}, -1, nil},
		{"a repeated name with the same value [011]", []string{"A", "1", "A", "1"}, -1, nil},
		{"a repeated name with another value [011 F46]", []string{"A", "1", "A", "2"}, 0, ErrParam},
		{"a repeated header field [009]", []string{"HTTP_A", "1", "HTTP_A", "2"}, -1, nil},
		{"a long name [F47]", []string{strings.Repeat("A", MaxNameBytes+1), ""}, 0, ErrTooLarge},
		{"a long value [F47]", []string{"A", strings.Repeat("x", MaxValueBytes+1)}, 0, ErrTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			if n, err := Receive("test", list(c.params...)); !errors.Is(err, c.err) || err == nil && n != c.length {
				t.Errorf("%d, %v, want %d, %v", n, err, c.length, c.err)
			}
		})
	}
}

func TestNormalize(t *testing.T) {
	l := list("HTTP_PROXY", "evil", "HTTP_COOKIE", "a=1", "HTTP_COOKIE", "b=2", "HTTP_A", "1", "HTTP_A", "2")
	if err := Normalize(l); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"HTTP_COOKIE": "a=1; b=2", "HTTP_A": "1, 2"} {
		if i := l.Find(name, 0); i < 0 || string(l.Value(i)) != want {
			t.Errorf("%s is not %q", name, want)
		}
	}
	if l.Len() != 2 {
		t.Errorf("%d params, want 2: HTTP_PROXY is kept [F1]", l.Len())
	}
}

// TestPlain compares plain, which looks at eight bytes at a time, with the definition.
func TestPlain(t *testing.T) {
	for c := range 256 {
		for at := range 17 {
			b := []byte(strings.Repeat("x", 17))
			b[at] = byte(c)
			if got, want := plain(b), c >= 0x0e; got != want {
				t.Fatalf("byte %#x at %d: %v", c, at, got)
			}
		}
	}
}
