package params

import (
	"errors"
	"strings"
	"testing"
)

func TestHead(t *testing.T) {
	env, err := Env([]string{"B=env", "C=env"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		params []string
		length int64
		want   string
	}{
		{"the length takes the place of its param", []string{"CONTENT_LENGTH", "99", "A", "1"}, 4, "CONTENT_LENGTH=4 A=1 B=env C=env"},
		{"the length follows if there is no param", []string{"A", "1"}, 4, "A=1 CONTENT_LENGTH=4 B=env C=env"},
		{"an unknown length is left out", []string{"CONTENT_LENGTH", "99", "A", "1"}, -1, "A=1 B=env C=env"},
		{"Env replaces a param [F43]", []string{"B", "1"}, 0, "CONTENT_LENGTH=0 B=env C=env"},
		{"HTTP_TRANSFER_ENCODING is not sent [016]", []string{"HTTP_TRANSFER_ENCODING", "chunked"}, 0, "CONTENT_LENGTH=0 B=env C=env"},
		{"HTTP_PROXY is not sent [F1]", []string{"HTTP_PROXY", "evil"}, 0, "CONTENT_LENGTH=0 B=env C=env"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := NewHead(list(c.params...), env, strings.NewReader("body"), c.length)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for {
				name, value, ok := h.Next()
				if !ok {
					break
				}
				got = append(got, string(name)+"="+string(value))
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("%s, want %s", s, c.want)
			}
		})
	}
}

func TestEnvIsChecked(t *testing.T) {
	for _, e := range []string{"NAME", "=value", "CONTENT_LENGTH=1", "A=\x00", "HTTP_A=x\ny"} {
		if _, err := Env([]string{e}); !errors.Is(err, ErrParam) {
			t.Errorf("%q: %v", e, err)
		}
	}
}
