package cgi

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/params"
)

// AppendParam appends a param as in an environment block: "NAME=value" and a NUL. An empty name, a
// name with "=", or a NUL in either is ErrParam.
func AppendParam[N, V ~string | ~[]byte](dst []byte, name N, value V) ([]byte, error) {
	if len(name) == 0 || params.Has(name, 0) || params.Has(value, 0) || params.Has(name, '=') {
		return dst, fmt.Errorf("cgi: %w", gateway.ErrParam)
	}
	return appendPair(dst, name, value), nil
}

func appendPair[N, V ~string | ~[]byte](dst []byte, name N, value V) []byte {
	dst = append(append(dst, name...), '=')
	return append(append(dst, value...), 0)
}

// ConsumeParam reads a param from the start of b; name and value are views of it. n is its size, 0
// if b holds only a part of one, or -1 if it has no "=" or no name before that.
func ConsumeParam(b []byte) (name, value []byte, n int) {
	p, n := pairBounds(b)
	return params.Views(b, p, n)
}

// pairBounds finds the pair at the start of b, and its size.
func pairBounds(b []byte) (params.Pair, int) {
	end := bytes.IndexByte(b, 0)
	if end < 0 {
		return params.Pair{}, 0
	}
	name := bytes.IndexByte(b[:end], '=')
	if name <= 0 {
		return params.Pair{}, -1
	}
	return params.Pair{NameEnd: name, Value: name + 1, ValueEnd: end}, end + 1
}

// mark makes pairs of the bytes of l from offset at on, and returns how many bytes the whole pairs
// have.
func mark(l *pairs.List, at int) (n int, err error) {
	for b := l.Raw(at); n < len(b); {
		p, size := pairBounds(b[n:])
		if size <= 0 || l.Len() == gateway.MaxPairs {
			return n, params.Fault(size)
		}
		params.Put(l, at+n, p)
		n += size
	}
	return n, nil
}

// AppendParams appends every pair of p, unchanged. Errors are those of AppendParam.
func AppendParams(dst []byte, p *gateway.Params) ([]byte, error) {
	return params.Append(dst, (*pairs.List)(p), AppendParam[[]byte, []byte])
}

// ConsumeParams adds every whole pair at the start of b to p and returns the number of their bytes.
// The rest of b is the beginning of a pair. It returns -1 and leaves p unchanged if a name is empty
// (gateway.ErrMalformed) or if p would have more than gateway.MaxPairs params
// (gateway.ErrTooLarge). No other rule of params is applied.
func ConsumeParams(b []byte, p *gateway.Params) (n int, err error) {
	return params.Consume("cgi", b, (*pairs.List)(p), mark)
}

// AppendEnv appends every pair of p as in exec.Cmd.Env, "NAME=value", unchanged. Errors are those
// of AppendParam. The strings are copies.
func AppendEnv(dst []string, p *gateway.Params) ([]string, error) {
	env := dst
	for name, value := range p.All() {
		if len(name) == 0 || params.Has(name, 0) || params.Has(value, 0) || params.Has(name, '=') {
			return dst, fmt.Errorf("cgi: %w", gateway.ErrParam)
		}
		env = append(env, string(name)+"="+string(value))
	}
	return env, nil
}

// ConsumeEnv adds every pair of env, as from os.Environ, to p. A string without "=", or one that
// begins with "=" like drives on Windows, is skipped. More than gateway.MaxPairs are ErrTooLarge:
// then p is unchanged. No other rule is applied.
func ConsumeEnv(env []string, p *gateway.Params) error {
	l := (*pairs.List)(p)
	count, size := l.Len(), l.Size()
	for _, e := range env {
		name, value, found := strings.Cut(e, "=")
		if !found || name == "" {
			continue
		}
		if l.Len() == gateway.MaxPairs {
			l.Truncate(count, size)
			return fmt.Errorf("cgi: more than %d params: %w", gateway.MaxPairs, gateway.ErrTooLarge)
		}
		pairs.Add(l, name, value)
	}
	return nil
}
