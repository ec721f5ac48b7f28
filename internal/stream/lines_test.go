package stream

import (
	"slices"
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
	for _, c := range []struct {
		name   string
		writes []string
		want   []string
	}{
		{"lines in one write", []string{"a\nb\r\nc\n"}, []string{"a", "b", "c"}},
		{"a line in two writes", []string{"a", "b\n"}, []string{"ab"}},
		{"empty lines are not passed", []string{"\n\r\n\na\n"}, []string{"a"}},
		{"the rest is passed by Flush", []string{"a\nb"}, []string{"a", "b"}},
		{"control bytes are escaped [F7]", []string{"a\x1b[31m\rforged\x7f\t\x00\n"}, []string{`a\x1b[31m\x0dforged\x7f` + "\t" + `\x00`}},
		{"a long line is split", []string{strings.Repeat("x", maxLine+3) + "\n"}, []string{strings.Repeat("x", maxLine), "xxx"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var lines Lines
			var got []string
			add := func(b []byte) { got = append(got, string(b)) }
			for _, w := range c.writes {
				lines.Write([]byte(w), add)
			}
			lines.Flush(add)
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
