package uwsgi_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

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
	// A nil body means that there is none, whatever its length.
	if err := w.WriteResponse(&gateway.Response{Status: 304, ContentLength: 5}); err != nil || !strings.HasPrefix(out.String(), "HTTP/1.1 304 Not Modified\r\n") || !strings.HasSuffix(out.String(), "\r\n\r\n") {
		t.Errorf("%v, %q", err, &out)
	}
	out.Reset()
	if err := w.WriteResponse(&gateway.Response{Status: 200, ContentLength: 5, Body: io.NopCloser(strings.NewReader("1234"))}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a body that is short: %v", err)
	}
}
