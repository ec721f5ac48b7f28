//go:build unix

package cgi_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

// TestCodec is the environment as a block and as a list.
func TestCodec(t *testing.T) {
	for _, nv := range [][2]string{{"", "v"}, {"A=B", "v"}, {"A\x00", "v"}, {"A", "v\x00"}} {
		if b, err := cgi.AppendParam([]byte("dst"), nv[0], nv[1]); !errors.Is(err, gateway.ErrParam) || string(b) != "dst" {
			t.Errorf("%q: %q, %v", nv, b, err)
		}
		var p gateway.Params
		p.Add(nv[0], nv[1])
		if env, err := cgi.AppendEnv([]string{"dst"}, &p); !errors.Is(err, gateway.ErrParam) || len(env) != 1 {
			t.Errorf("%q: %q, %v", nv, env, err)
		}
	}
	r := get("/a?b=c")
	block, err := cgi.AppendParams(nil, &r.Params)
	if err != nil || !bytes.Contains(block, []byte("QUERY_STRING=b=c\x00")) {
		t.Errorf("%q, %v", block, err)
	}
	var p gateway.Params
	if n, err := cgi.ConsumeParams(append(block, "PART=x"...), &p); n != len(block) || err != nil || p.Get("QUERY_STRING") != "b=c" || p.Len() != r.Params.Len() {
		t.Errorf("%d, %v", n, err)
	}
	for in, want := range map[string]int{"": 0, "A=": 0, "A=v": 0, "A\x00": -1, "=v\x00": -1, "\x00": -1, "A=v\x00": 4} {
		if _, _, n := cgi.ConsumeParam([]byte(in)); n != want {
			t.Errorf("%q: %d", in, n)
		}
	}
	env, err := cgi.AppendEnv(nil, &r.Params)
	p.Reset()
	if err2 := cgi.ConsumeEnv(append(env, "=C:=x", "nothing"), &p); err != nil || err2 != nil || p.Len() != r.Params.Len() {
		t.Errorf("%v, %v", err, err2)
	}
	many := make([]string, gateway.MaxPairs)
	for i := range many {
		many[i] = fmt.Sprintf("N%d=", i)
	}
	if err := cgi.ConsumeEnv(many, &p); !errors.Is(err, gateway.ErrTooLarge) || p.Len() != r.Params.Len() {
		t.Errorf("%v, %d", err, p.Len())
	}
}
