//go:build unix

package cgi_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

func get(target string) *gateway.Request { return gatewaytest.NewRequest("GET", target, nil) }

// environment asks a script for its environment.
func environment(t *testing.T, c *cgi.Client, r *gateway.Request) map[string]string {
	t.Helper()
	o := conformance.Ask(t, c, r)
	if o.Err != nil {
		t.Fatal(o.Err)
	}
	env := make(map[string]string)
	for line := range strings.SplitSeq(o.Body, "\x00") {
		if name, value, ok := strings.Cut(line, "="); ok {
			env[name] = value
		}
	}
	return env
}

const printEnv = "printf 'Content-Type: text/plain\\r\\n\\r\\n'; env -0\n"

// What was found by a review, each with the test that would have found it.

func request(target string) *gateway.Request { return gatewaytest.NewRequest("GET", target, nil) }

// folder is a folder of scripts.
func folder(t *testing.T, texts map[string]string) (root string) {
	t.Helper()
	root = filepath.Join(t.TempDir(), "root")
	for name, text := range texts {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// This file has the helpers of the tests: this program as a CGI script, and scripts in sh.

var quiet = slog.New(slog.DiscardHandler)

// TestMain is also the script of tests that need one in Go: they start this program with the name
// of a handler.
func TestMain(m *testing.M) {
	name, ok := os.LookupEnv("GATEHOUSE_TEST_HANDLER")
	if !ok {
		os.Exit(m.Run())
	}
	os.Unsetenv("GATEHOUSE_TEST_HANDLER")
	err := (&cgi.Server{Handler: conformance.Handlers[name], Logger: quiet}).Serve(context.Background())
	if status, ok := errors.AsType[cgi.ExitStatus](err); ok {
		os.Exit(int(status))
	}
	if err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// program is this program as a script that is a handler of the suite.
func program(t testing.TB, handler string) *cgi.Client {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &cgi.Client{Path: path, Env: append(conformance.Environ(t), "GATEHOUSE_TEST_HANDLER="+handler), Logger: quiet}
}

// shell is a client of a script in sh.
func shell(t testing.TB, script string) *cgi.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return &cgi.Client{Path: path, Logger: quiet}
}

// responding is a client of a script that reads its input and responds with those bytes.
func responding(t testing.TB, response string) *cgi.Client {
	t.Helper()
	c := shell(t, "cat >/dev/null; cat \"$RESPONSE\"\n")
	file := filepath.Join(t.TempDir(), "response")
	if err := os.WriteFile(file, []byte(response), 0o644); err != nil {
		t.Fatal(err)
	}
	c.Env = []string{"RESPONSE=" + file}
	return c
}

// run starts this program with the environment env, and returns its output.
func run(t testing.TB, handler, stdin string, env ...string) (stdout, stderr string, err error) {
	t.Helper()
	path, perr := os.Executable()
	if perr != nil {
		t.Fatal(perr)
	}
	cmd := exec.Command(path)
	cmd.Env = append(append(env, conformance.Environ(t)...), "GATEHOUSE_TEST_HANDLER="+handler)
	cmd.Stdin = bytes.NewReader([]byte(stdin))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

var errSent = errors.New("not run")
