package pairs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func texts(l *List) (all []string) {
	for name, value := range l.All() {
		all = append(all, string(name)+"="+string(value))
	}
	return all
}

func comma(name []byte) string {
	if strings.HasPrefix(string(name), "J") {
		return ", "
	}
	return ""
}

func TestJoin(t *testing.T) {
	for _, c := range []struct {
		in, out []string
		bad     int
	}{
		{nil, nil, -1},
		{[]string{"A=1", "B=2"}, []string{"A=1", "B=2"}, -1},
		{[]string{"J=1", "A=x", "J=2", "A=x", "J=", "K=9"}, []string{"J=1, 2, ", "A=x", "K=9"}, -1},
		{[]string{"J=1", "JJ=a", "J=2", "JJ=b", "J=3", "JJ=c"}, []string{"J=1, 2, 3", "JJ=a, b, c"}, -1},
		{[]string{"A=1", "B=2", "A=3"}, nil, 2},
	} {
		var l List
		for _, nv := range c.in {
			name, value, _ := strings.Cut(nv, "=")
			Add(&l, name, value)
		}
		if bad := l.Join(comma); bad != c.bad {
			t.Errorf("%v: %d", c.in, bad)
		}
		if c.bad < 0 && !slices.Equal(texts(&l), c.out) {
			t.Errorf("%v: %q", c.in, texts(&l))
		}
	}
}

// TestJoinMany compares with the plain way, below and above the number at which the hash changes.
func TestJoinMany(t *testing.T) {
	for _, n := range []int{10, few, few + 1, 1000} {
		var l List
		want := map[string]string{}
		var order []string
		for i := range n {
			name := fmt.Sprintf("J_PREFIX_%d_SUFFIX", i%37)
			if i%2 == 0 {
				name = fmt.Sprintf("J%d", i%29)
			}
			Add(&l, name, fmt.Sprint(i))
			if old, ok := want[name]; ok {
				want[name] = old + ", " + fmt.Sprint(i)
			} else {
				want[name] = fmt.Sprint(i)
				order = append(order, name)
			}
		}
		if l.Repeats() != (len(order) < n) {
			t.Errorf("%d: repeats %v", n, l.Repeats())
		}
		if bad := l.Join(comma); bad >= 0 || l.Len() != len(order) {
			t.Fatalf("%d: %d, %d pairs", n, bad, l.Len())
		}
		for i, name := range order {
			if string(l.Name(i)) != name || string(l.Value(i)) != want[name] {
				t.Errorf("%d: %s=%s, want %s=%s", n, l.Name(i), l.Value(i), name, want[name])
			}
		}
	}
}
