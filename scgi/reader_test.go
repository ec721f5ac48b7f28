package scgi_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/scgi"
)

func TestReader(t *testing.T) {
	t.Run("requests one after another [210 293]", func(t *testing.T) {
		first, second := head("A", "1", "CONTENT_LENGTH", "5"), head("A", "2")
		r := scgi.NewReader(strings.NewReader(first + "hello" + second + "rest"))
		var req gateway.Request
		for i, want := range []string{"1", "2"} {
			if err := r.ReadRequest(&req); err != nil || req.Params.Get("A") != want {
				t.Errorf("request %d: %v", i, err)
			}
		}
		if string(r.Buffered()) != "rest" || r.Offset() != int64(len(first)+5+len(second)) {
			t.Errorf("%q at %d", r.Buffered(), r.Offset())
		}
	})
	t.Run("an error while a body is discarded", func(t *testing.T) {
		r := scgi.NewReader(io.MultiReader(strings.NewReader(head("CONTENT_LENGTH", "9")+"part"), iotest.ErrReader(errFailed)))
		var req gateway.Request
		if err := r.ReadRequest(&req); err != nil {
			t.Fatal(err)
		}
		for range 2 { // it stays
			if err := r.ReadRequest(&req); !errors.Is(err, errFailed) || req.Params.Len() > 0 {
				t.Errorf("%v, %d params", err, req.Params.Len())
			}
		}
		r.Reset(strings.NewReader(head()))
		if err := r.ReadRequest(&req); err != nil {
			t.Errorf("after Reset: %v", err)
		}
	})
	t.Run("the end while a body is discarded", func(t *testing.T) {
		r := scgi.NewReader(strings.NewReader(head("CONTENT_LENGTH", "9") + "part"))
		var req gateway.Request
		if err := r.ReadRequest(&req); err != nil {
			t.Fatal(err)
		}
		if err := r.ReadRequest(&req); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%v", err)
		}
	})
	t.Run("an error inside a head", func(t *testing.T) {
		r := scgi.NewReader(io.MultiReader(strings.NewReader("70:CONTENT"), iotest.ErrReader(errFailed)))
		for range 2 {
			if err := r.ReadRequest(new(gateway.Request)); !errors.Is(err, errFailed) {
				t.Errorf("%v", err)
			}
		}
	})
	t.Run("an error while a response is discarded", func(t *testing.T) {
		r := scgi.NewReader(io.MultiReader(strings.NewReader("Content-Length: 9\n\npart"), iotest.ErrReader(errFailed)))
		var res gateway.Response
		if err := r.ReadResponse(&res); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := r.ReadResponse(&res); !errors.Is(err, errFailed) || res.Status != 0 {
				t.Errorf("%v, %d", err, res.Status)
			}
		}
	})
	t.Run("a response truncated while it is discarded", func(t *testing.T) {
		for body, want := range map[string]error{"": io.EOF, "part": gateway.ErrTruncated} {
			r := scgi.NewReader(strings.NewReader("Content-Length: 9\n\n" + body))
			var res gateway.Response
			if err := r.ReadResponse(&res); err != nil {
				t.Fatal(err)
			}
			if err := r.ReadResponse(&res); !errors.Is(err, want) {
				t.Errorf("%q: %v", body, err)
			}
		}
	})
	t.Run("a response's head that is as long as the limit", func(t *testing.T) {
		const response = "X: 0123456789\n\nbody"
		for limit, want := range map[int]error{len(response) - 4: nil, len(response) - 5: gateway.ErrTooLarge} {
			r := scgi.NewReader(strings.NewReader(response))
			r.MaxHeadBytes = limit
			var res gateway.Response
			if err := r.ReadResponse(&res); !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("%d: %v", limit, err)
			}
		}
	})
	t.Run("the last bytes of a response come with its end", func(t *testing.T) { // so that a proxy can send both at once
		r := scgi.NewReader(strings.NewReader("Content-Length: 4\n\nbody"))
		var res gateway.Response
		if err := r.ReadResponse(&res); err != nil {
			t.Fatal(err)
		}
		if n, err := res.Body.Read(make([]byte, 9)); n != 4 || err != io.EOF {
			t.Errorf("%d, %v", n, err)
		}
	})
	t.Run("a truncated response, and one of unknown length", func(t *testing.T) {
		for body, want := range map[string]error{"": nil, "p": gateway.ErrTruncated} {
			r := scgi.NewReader(strings.NewReader("Content-Length: 9\n\n" + body))
			var res gateway.Response
			if err := r.ReadResponse(&res); err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(iotest.OneByteReader(res.Body))
			if string(b) != body || !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("%q: %q, %v", body, b, err)
			}
		}
	})
	t.Run("the offset of an error", func(t *testing.T) {
		const next = "the next"
		r := scgi.NewReader(strings.NewReader(head() + next))
		if err := r.ReadRequest(new(gateway.Request)); err != nil {
			t.Fatal(err)
		}
		if string(r.Buffered()) != next || r.Offset() != int64(len(head())) {
			t.Errorf("293: %q at %d", r.Buffered(), r.Offset())
		}
	})
}

func TestReaderAfterClose(t *testing.T) {
	const one = "Status: 200 OK\r\nContent-Length: 3\r\n\r\nabc"
	rd := scgi.NewReader(strings.NewReader(one + one))
	var res gateway.Response
	for i := range 2 {
		if err := rd.ReadResponse(&res); err != nil {
			t.Fatalf("response %d: %v", i, err)
		}
		res.Body.Close()
		if n, err := res.Body.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
			t.Errorf("a closed body gives %d, %v", n, err)
		}
	}
	if err := rd.ReadResponse(&res); err != io.EOF {
		t.Error(err)
	}
}
