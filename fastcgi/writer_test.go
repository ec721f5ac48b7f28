package fastcgi_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

func TestWriterRecords(t *testing.T) {
	t.Run("a body over 65535 bytes is split [057 F3]", func(t *testing.T) {
		for _, n := range []int{65535, 65536, 99000, 131072} {
			body := strings.Repeat("b", n)
			var wire bytes.Buffer
			w := fastcgi.NewWriter(&wire)
			if err := w.WriteRequest(request(t, "POST", body)); err != nil {
				t.Fatal(err)
			}
			if err := w.WriteRecord(fastcgi.TypeStdout, 1, []byte(body)); err != nil {
				t.Fatal(err)
			}
			r := fastcgi.NewReader(&wire)
			for _, typ := range []fastcgi.Type{fastcgi.TypeStdin, fastcgi.TypeStdout} {
				got := 0
				for got < n {
					rec, err := r.Next()
					if err != nil {
						t.Fatal(err)
					}
					if rec.Type == typ {
						got += len(rec.Content)
					}
				}
				if got != n {
					t.Errorf("%v: %d bytes of %d", typ, got, n)
				}
			}
			b, err := fastcgi.AppendRecord(nil, fastcgi.TypeStdin, 1, []byte(body))
			if want := n + 8*((n+65534)/65535); err != nil || len(b) != want {
				t.Errorf("AppendRecord of %d: %d bytes, want %d, %v", n, len(b), want, err)
			}
		}
	})
	t.Run("the streams of a Filter [116]", func(t *testing.T) {
		r := request(t, "POST", "input")
		r.Role, r.Data = gateway.RoleFilter, strings.NewReader("data")
		r.Params.Set("FCGI_DATA_LENGTH", "4")
		r.Params.Set("FCGI_DATA_LAST_MOD", "1")
		var b bytes.Buffer
		if err := fastcgi.NewWriter(&b).WriteRequest(r); err != nil {
			t.Fatal(err)
		}
		input, inputEnds := content(fastcgi.TypeStdin, b.String())
		data, dataEnds := content(fastcgi.TypeData, b.String())
		if input != "input" || !inputEnds || data != "data" || !dataEnds {
			t.Errorf("%q %v, %q %v", input, inputEnds, data, dataEnds)
		}
		r.Params.Set("FCGI_DATA_LENGTH", "5")
		r.SetBody([]byte("input"))
		r.Data = strings.NewReader("data")
		if err := fastcgi.NewWriter(&b).WriteRequest(r); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("DATA that is short: %v", err)
		}
	})
}

// TestWriterOdds checks that a refused message leaves nothing in the buffer.
func TestWriterOdds(t *testing.T) {
	var out bytes.Buffer
	w := fastcgi.NewWriter(&out)
	large := make([]byte, 70000)
	for name, err := range map[string]error{
		"an id that is none":      w.WriteRecord(fastcgi.TypeStdout, 0, []byte("x")),
		"and much for it":         w.WriteRecord(fastcgi.TypeStdout, 0, large),
		"a field with a line end": w.WriteResponse(withField("X", "a\nb")),
	} {
		want(t, err, gateway.ErrMalformed)
		if out.Len() > 0 {
			t.Errorf("%s: %d bytes", name, out.Len())
		}
	}
	want(t, w.WriteRecord(fastcgi.TypeEnd, 1, large), gateway.ErrTooLarge) // is no stream
	want(t, w.WriteResponse(withField("X", string(bytes.Repeat([]byte("x"), 70000)))), gateway.ErrTooLarge)
	want(t, w.WriteRequest(&gateway.Request{ContentLength: 1}), io.ErrUnexpectedEOF)
	if out.Len() > 0 {
		t.Errorf("%d bytes", out.Len())
	}
	failed := errors.New("failed")
	w.Reset(writer(func(p []byte) (int, error) { return 0, failed }))
	want(t, w.WriteRecord(fastcgi.TypeStdout, 1, large), failed)
	want(t, w.WriteRecord(fastcgi.TypeStdout, 1, []byte("x")), failed)
	r := gatewaytest.NewRequest("POST", "/", large)
	want(t, w.WriteRequest(r), failed)
	res := withField("X", "1")
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(large)), int64(len(large))
	want(t, w.WriteResponse(res), failed)
	// A failed write does not affect the next one.
	w.Reset(&out)
	if err := w.WriteRecord(fastcgi.TypeStdout, 1, []byte("x")); err != nil || out.String() != "\x01\x06\x00\x01\x00\x01\x00\x00x" {
		t.Errorf("%v, %q", err, &out)
	}
}

func withField(name, value string) *gateway.Response {
	res := &gateway.Response{Status: 200, ContentLength: -1}
	res.Header.Add(name, value)
	return res
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// TestNothingAfterPartOfARecord checks that a write that fails inside a record closes the
// connection, before another request can write into that record.
func TestNothingAfterPartOfARecord(t *testing.T) {
	started := make(chan struct{}, 1)
	big := make([]byte, 32<<20)
	srv := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		if r.PathInfo() == "/big" {
			w.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			started <- struct{}{}
			_, err := w.Write(big)
			time.Sleep(300 * time.Millisecond) // the failed write closes the connection, not the handler's return
			return err
		}
		time.Sleep(100 * time.Millisecond)
		_, err := io.WriteString(w, "SECRET")
		return err
	})
	s := serve(t, srv)
	s.send(getPath(1, true, "/big"))
	<-started
	s.send(getPath(2, true, "/other"))
	time.Sleep(200 * time.Millisecond)
	all, _ := io.ReadAll(s.c)
	// On a busy machine the deadline passes before the first byte. Then the other response may come
	// alone.
	if i := bytes.Index(all, []byte("SECRET")); i > 100 {
		t.Errorf("the response of another request is inside a record, at byte %d", i)
	}
}
