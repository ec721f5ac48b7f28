//go:build unix

package cgi_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// streams is codec with what a process is given and gives as streams: a request is its environment,
// each pair ended by a NUL and the whole by another, and its standard input.
var streams = func() conformance.Codec {
	c := codec
	c.Reader = func(src io.Reader) conformance.Reader { return &process{src: src} }
	return c
}()

// process reads one request with cgi.ReadRequest, as the process that src is given to, or the
// responses in src.
type process struct {
	src      io.Reader
	in       *os.File
	response *stream.Reader
}

func (p *process) ReadRequest(r *gateway.Request) error {
	r.Reset()
	if p.in != nil {
		p.in.Close()
		return io.EOF
	}
	b, err := io.ReadAll(p.src)
	if err != nil {
		return err
	}
	block, body, found := strings.Cut(string(b), "\x00\x00")
	if !found {
		return io.ErrUnexpectedEOF
	}
	host, stdin := os.Environ(), os.Stdin
	defer func() {
		setEnv(host)
		os.Stdin = stdin
	}()
	setEnv(strings.Split(block, "\x00"))
	if p.in, err = os.CreateTemp("", "stdin"); err != nil {
		return err
	}
	os.Remove(p.in.Name())
	io.WriteString(p.in, body)
	p.in.Seek(0, io.SeekStart)
	os.Stdin = p.in
	return cgi.ReadRequest(r)
}

func setEnv(env []string) {
	os.Clearenv()
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		os.Setenv(name, value)
	}
}

func (p *process) ReadResponse(res *gateway.Response) error {
	if p.response == nil {
		p.response = new(stream.Reader)
		p.response.Reset(p.src)
	}
	return p.response.ReadResponse(res, 0, "cgi")
}

func FuzzConsumeParams(f *testing.F) { conformance.FuzzParams(f, codec) }

func FuzzReadRequest(f *testing.F) { conformance.FuzzReader(f, streams, "request") }

func FuzzReadResponse(f *testing.F) { conformance.FuzzReader(f, streams, "response") }

func FuzzConsumeEnv(f *testing.F) {
	f.Add("A=1\nB=2", 3)
	f.Add("=C:=x\nnone\nA==\nA", 2)
	f.Fuzz(func(t *testing.T, text string, n int) {
		env := strings.Split(text, "\n")
		for range n % 1200 {
			env = append(env, "X=")
		}
		var p gateway.Params
		if err := cgi.ConsumeEnv(env, &p); err != nil {
			if !errors.Is(err, gateway.ErrTooLarge) || p.Len() != 0 {
				t.Fatalf("%v, %d params", err, p.Len())
			}
			return
		}
		out, err := cgi.AppendEnv(nil, &p)
		if err != nil {
			return // a NUL
		}
		var again gateway.Params
		if err := cgi.ConsumeEnv(out, &again); err != nil || again.Len() != p.Len() {
			t.Fatalf("%q became %q, %v", env, out, err)
		}
	})
}

// FuzzScript requests scripts by every path. A script that runs must be inside the root, and its
// name and path info must be the path.
func FuzzScript(f *testing.F) {
	root := f.TempDir()
	outside := filepath.Join(f.TempDir(), "outside")
	for _, path := range []string{outside, filepath.Join(root, "a"), filepath.Join(root, "dir", "b.cgi"), filepath.Join(root, "nph-c")} {
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
			f.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(root, "link")); err != nil {
		f.Fatal(err)
	}
	os.Symlink(outside, filepath.Join(root, "xa"))
	os.Symlink("a", filepath.Join(root, "dir", "inner"))
	os.Symlink("../..", filepath.Join(root, "dir", "up"))
	for _, path := range []string{"/a", "/a/info", "/dir/b.cgi/x/..", "/../outside", "/link", "/dir/up/outside", "/dir/inner", "//a", "/a\x00", "/dir/../a", "/nph-c", "a", "xa"} {
		f.Add("", path)
		f.Add("/cgi-bin", "/cgi-bin"+path)
		f.Add(path, "/info")
	}
	f.Fuzz(func(t *testing.T, script, info string) {
		ran := false
		c := &cgi.Client{Root: root, Logger: quiet, Prepare: func(_ context.Context, cmd *exec.Cmd, r *gateway.Request) error {
			ran = true
			checkScript(t, root, cmd, script+info)
			return errSent
		}}
		r := new(gateway.Request)
		r.Params.Add("REQUEST_METHOD", "GET")
		r.Params.Add("SCRIPT_NAME", script)
		r.Params.Add("PATH_INFO", info)
		if err := c.RoundTrip(t.Context(), r, new(gateway.Response)); err == nil || ran != errors.Is(err, errSent) {
			t.Fatalf("ran %v, %v", ran, err)
		}
	})
}

func checkScript(t *testing.T, root string, cmd *exec.Cmd, path string) {
	real, err := filepath.EvalSymlinks(cmd.Path)
	if err != nil || !strings.HasPrefix(real, root+"/") {
		t.Fatalf("%q runs %s, %v", path, real, err)
	}
	var p gateway.Params
	if err := cgi.ConsumeEnv(cmd.Env, &p); err != nil {
		t.Fatal(err)
	}
	if got := p.Get("SCRIPT_NAME") + p.Get("PATH_INFO"); got != path {
		t.Fatalf("%q became %q", path, got)
	}
}
