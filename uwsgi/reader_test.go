package uwsgi_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

func TestReader(t *testing.T) {
	t.Run("requests one after another, and every prefix [183 293]", func(t *testing.T) {
		first, second := head("A", "1", "CONTENT_LENGTH", "5"), head("A", "2")
		for name, wrap := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader} {
			r := uwsgi.NewReader(wrap(strings.NewReader(first + "hello" + second)))
			var req gateway.Request
			for i, want := range []string{"1", "2"} {
				if err := r.ReadRequest(&req); err != nil || req.Params.Get("A") != want {
					t.Errorf("%s: request %d: %v", name, i, err)
				}
			}
			if err := r.ReadRequest(&req); err != io.EOF || r.Offset() != int64(len(first)+5+len(second)) {
				t.Errorf("%s: %v at %d", name, err, r.Offset())
			}
		}
		whole := first + "hello"
		for i := range len(whole) {
			r, err := fromBytes(whole[:i])
			if err == nil {
				_, err = io.ReadAll(r.Body)
			}
			if i == 0 && err != io.EOF || i > 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%d bytes: %v", i, err)
			}
			var p gateway.Params
			if _, n, err := uwsgi.ConsumeRequest([]byte(whole[:i]), &p); i < len(first) && (n != 0 || err != nil) {
				t.Errorf("%d bytes: ConsumeRequest %d, %v", i, n, err)
			}
		}
	})
}

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
