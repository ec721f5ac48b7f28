//go:build unix

package cgi_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

// Close of a Body does not wait for the reader of STDERR.
func TestCloseWhileStderrBlocks(t *testing.T) {
	c := shell(t, "echo oops >&2; printf 'X: 1\\n\\nbody'; sleep 20\n")
	c.Grace = 100 * time.Millisecond
	told, release := make(chan struct{}), make(chan struct{})
	c.Stderr = func(context.Context, []byte) {
		close(told)
		<-release
	}
	var res gateway.Response
	if err := c.RoundTrip(t.Context(), request("/"), &res); err != nil {
		t.Fatal(err)
	}
	<-told
	res.Body.Close()
	close(release)
	c.Close()
}

// Of STDERR a request's writer gets as much as Client.Stderr.
func TestStderrIsCapped(t *testing.T) {
	c := shell(t, "head -c 200000 /dev/zero >&2; printf 'X: 1\\n\\nbody'\n")
	r := request("/")
	var errs bytes.Buffer
	r.Stderr = &errs
	if o := conformance.Ask(t, c, r); o.Err != nil || o.Body != "body" || errs.Len() != 64<<10 {
		t.Errorf("224: %q, %d bytes, %v", o.Body, errs.Len(), o.Err)
	}
}

// TestLinesNameTheRun checks the record of a line of standard error.
func TestLinesNameTheRun(t *testing.T) {
	c := shell(t, "echo oops >&2; printf 'X: 1\\n\\nbody'\n")
	var log strings.Builder
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	if o := conformance.Ask(t, c, get("/path?secret")); o.Err != nil {
		t.Fatal(o.Err)
	}
	c.Close()
	if got := log.String(); !strings.Contains(got, "msg=program stderr=oops addr="+c.Path+" script="+c.Path+" method=GET path=/path") || strings.Contains(got, "secret") {
		t.Errorf("%q", got)
	}
}

// TestStderrPanicsOnce checks that a Stderr that has panicked is not called again in its run.
func TestStderrPanicsOnce(t *testing.T) {
	c := shell(t, "for i in 1 2 3 4 5; do echo $i >&2; sleep 0.01; done; printf 'X: 1\\n\\nbody'\n")
	c.Logger = quiet
	var calls atomic.Int64
	c.Stderr = func(context.Context, []byte) {
		calls.Add(1)
		panic("of the caller")
	}
	if o := conformance.Ask(t, c, get("/")); o.Err != nil || o.Body != "body" {
		t.Errorf("%q, %v", o.Body, o.Err)
	}
	c.Close()
	if calls.Load() != 1 {
		t.Errorf("%d calls", calls.Load())
	}
}
