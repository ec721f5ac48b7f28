package uwsgi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

func TestReaderEdges(t *testing.T) {
	input := head("A", strings.Repeat("v", 100))
	size := len(input) - 4 // of the vars
	r := uwsgi.NewReader(strings.NewReader(input + "rest"))
	r.MaxHeadBytes = size
	var req gateway.Request
	if err := r.ReadRequest(&req); err != nil || len(req.Params.Get("A")) != 100 {
		t.Errorf("at the limit: %v", err)
	}
	if string(r.Buffered()) != "rest" || r.Offset() != int64(len(input)) {
		t.Errorf("293: %q at %d", r.Buffered(), r.Offset())
	}
	r.Reset(strings.NewReader(input))
	r.MaxHeadBytes = size - 1
	for range 2 { // it stays
		if err := r.ReadRequest(&req); !errors.Is(err, gateway.ErrTooLarge) || req.Params.Len() > 0 {
			t.Errorf("above it: %v, %d params", err, req.Params.Len())
		}
	}
	called := &uwsgi.Server{MaxHeadBytes: size - 1, Logger: quiet, Handler: gateway.HandlerFunc(func(gateway.ResponseWriter, *gateway.Request) error {
		t.Error("the handler was called")
		return nil
	})}
	if got := play(t, called, input); !strings.HasPrefix(got, "HTTP/1.1 431 ") {
		t.Errorf("202: %q", got)
	}
}

func TestWriterEdges(t *testing.T) {
	var out bytes.Buffer
	w := uwsgi.NewWriter(&out)
	for _, r := range []*gateway.Request{{Role: 2}, {ContentLength: -1, Body: strings.NewReader("of what length?")}} {
		if err := w.WriteRequest(r); err == nil || out.Len() > 0 {
			t.Errorf("%v, %q", err, &out)
		}
	}
	bad := &gateway.Response{Status: 200}
	bad.Header.Add("X", "a\r\nb")
	if err := w.WriteResponse(bad); err == nil || out.Len() > 0 {
		t.Errorf("%v, %q", err, &out)
	}
	// A nil body is none, whatever its length.
	if err := w.WriteResponse(&gateway.Response{Status: 304, ContentLength: 5}); err != nil || !strings.HasPrefix(out.String(), "HTTP/1.1 304 Not Modified\r\n") || !strings.HasSuffix(out.String(), "\r\n\r\n") {
		t.Errorf("%v, %q", err, &out)
	}
	out.Reset()
	if err := w.WriteResponse(&gateway.Response{Status: 200, ContentLength: 5, Body: io.NopCloser(strings.NewReader("1234"))}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a body that is short: %v", err)
	}
}

// TestMisconfigured: what is wrong with the fields is said by every call.
func TestMisconfigured(t *testing.T) {
	dial := func(context.Context) (net.Conn, error) { return nil, errors.New("was dialed") }
	c := &uwsgi.Client{Dial: dial, Env: []string{"A\x00=1"}}
	defer c.Close()
	if _, err := c.Ping(t.Context()); !errors.Is(err, gateway.ErrParam) {
		t.Errorf("Ping: %v", err)
	}
	if err := c.RoundTrip(t.Context(), new(gateway.Request), new(gateway.Response)); !errors.Is(err, gateway.ErrParam) {
		t.Errorf("RoundTrip: %v", err)
	}
}

func TestSendTimeout(t *testing.T) {
	conformance.SendTimeout(t, func(dial func(context.Context) (net.Conn, error), timeout time.Duration) gateway.RoundTripper {
		return &uwsgi.Client{Dial: dial, SendTimeout: timeout}
	}, func(w io.Writer) { io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly") })
}
