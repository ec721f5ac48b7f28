package stream

import (
	"bytes"
	"errors"
	"io"
	"net/http/httputil"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// chunked returns the head of a response with chunks that was read from input, and its body.
func chunked(t *testing.T, input io.Reader) (*gateway.Response, *Response, error) {
	t.Helper()
	var in Input
	in.Reset(input)
	r := new(Response)
	r.Reset(&in)
	r.Chunks = true
	res := new(gateway.Response)
	err := r.ReadHead(res, 0)
	return res, r, err
}

const chunkedHead = "HTTP/1.1 200 OK\r\nA: 1\r\nTransfer-Encoding: chunked\r\nB: 2\r\n\r\n"

func TestChunkedHeads(t *testing.T) {
	const body = "3\r\nabc\r\n0\r\n\r\n"
	for _, c := range []struct {
		name, head string
		right      bool
	}{
		{"chunks of HTTP/1.1 [173]", chunkedHead, true},
		{"the first field, in other letters", "HTTP/1.1 200\r\ntransfer-encoding:\tCHUNKED \r\nA: 1\r\nB: 2\r\n\r\n", true},
		{"the last field, lines that end with LF", "HTTP/1.1 200 OK\nA: 1\nB: 2\nTransfer-Encoding: chunked\n\n", true},
		{"HTTP/1.0 [173 F19]", strings.Replace(chunkedHead, "1.1", "1.0", 1), false},
		{"no status line [173 F19]", strings.Replace(chunkedHead, "HTTP/1.1", "Status:", 1), false},
		{"a length before it [173 F19 F59]", strings.Replace(chunkedHead, "A: 1", "content-length: 3", 1), false},
		{"a length behind it [173 F19 F59]", strings.Replace(chunkedHead, "B: 2", "Content-Length: 3", 1), false},
		{"twice [173 F19]", strings.Replace(chunkedHead, "B: 2", "Transfer-Encoding: chunked", 1), false},
		{"another coding first [173 F19]", strings.Replace(chunkedHead, "chunked", "gzip, chunked", 1), false},
		{"another coding [173 F19]", strings.Replace(chunkedHead, "chunked", "identity", 1), false},
		{"a vertical tab [173 F19]", strings.Replace(chunkedHead, "chunked", "\vchunked", 1), false},
		{"a form feed [173 F19]", strings.Replace(chunkedHead, "chunked", "chunked\f", 1), false},
		{"a bare CR [173 F19]", strings.Replace(chunkedHead, "chunked\r", "chunked\r\r", 1), false},
		{"spaces beyond ASCII [173 F19]", strings.Replace(chunkedHead, "chunked", "\u00a0chunked\u0085", 1), false},
		{"an interim response [173 F19]", strings.Replace(chunkedHead, "200", "103", 1), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, r, err := chunked(t, strings.NewReader(c.head+body))
			if !c.right {
				if !errors.Is(err, gateway.ErrMalformed) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || res.Status != 200 || res.ContentLength != -1 || res.Header.Len() != 2 || res.Header.Get("A") != "1" || res.Header.Get("B") != "2" {
				t.Fatalf("%+v, %v", res, err)
			}
			if b, err := io.ReadAll(r); string(b) != "abc" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}

func TestChunks(t *testing.T) {
	long := strings.Repeat("x", 0x1234)
	for _, c := range []struct {
		name, chunks, body string
		err                error
	}{
		{"none", "0\r\n\r\n", "", nil},
		{"two", "3\r\nabc\r\nA;x=y\r\n0123456789\r\n000\r\n\r\n", "abc0123456789", nil},
		{"a long one", "1234\r\n" + long + "\r\n0\r\n\r\n", long, nil},
		{"fields behind them", "1\r\na\r\n0\r\nX: 1\r\nY: 2\r\n\r\n", "a", nil},
		{"bytes behind the end", "1\r\na\r\n0\r\n\r\n5\r\nmore!", "a", nil},
		{"no end", "1\r\na\r\n", "a", gateway.ErrTruncated},
		{"no end of the fields", "1\r\na\r\n0\r\nX: 1\r\n", "a", gateway.ErrTruncated},
		{"cut in a chunk", "5\r\nab", "ab", gateway.ErrTruncated},
		{"no chunk", "", "", gateway.ErrTruncated},
		{"a size that is none", "x\r\n", "", gateway.ErrMalformed},
		{"an empty size", "\r\n", "", gateway.ErrMalformed},
		{"a negative size", "-1\r\na\r\n", "", gateway.ErrMalformed},
		{"a size of 64 bits", "ffffffffffffffff\r\na", "", gateway.ErrMalformed},
		{"a chunk longer than its size", "1\r\nab\r\n0\r\n\r\n", "a", gateway.ErrMalformed},
		{"a line that ends with LF", "1\na\r\n0\r\n\r\n", "", gateway.ErrMalformed},
		{"a size of 63 bits", "7fffffffffffffff\r\na", "a", gateway.ErrTruncated},
		{"a size with zeros in front", "0000000000000001\r\na\r\n0\r\n\r\n", "a", nil},
		{"a field that is none", "1\r\na\r\n0\r\n: \x00\r\n\r\n", "a", gateway.ErrMalformed},
		{"a long line", "1;" + strings.Repeat("x", 5000) + "\r\na\r\n0\r\n\r\n", "", gateway.ErrMalformed},
		{"a line without an end", "1;" + strings.Repeat("x", 5000), "", gateway.ErrMalformed},
		{"a field that ends with LF", "1\r\na\r\n0\r\nX: 1\n\r\n", "a", gateway.ErrMalformed},
		{"fields without an end", "0\r\n" + strings.Repeat("X: 1\r\n", 20_000), "", gateway.ErrTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, input := range map[string]io.Reader{
				"whole":  strings.NewReader(chunkedHead + c.chunks),
				"bytes":  iotest.OneByteReader(strings.NewReader(chunkedHead + c.chunks)),
				"halves": iotest.HalfReader(strings.NewReader(chunkedHead + c.chunks)),
			} {
				_, r, err := chunked(t, input)
				if err != nil {
					t.Fatal(err)
				}
				if b, err := io.ReadAll(r); string(b) != c.body || !errors.Is(err, c.err) {
					t.Errorf("%s: %q, %v", name, b, err)
				}
			}
			_, r, _ := chunked(t, strings.NewReader(chunkedHead+c.chunks))
			if err := r.Discard(); !errors.Is(err, c.err) {
				t.Errorf("Discard: %v", err)
			}
		})
	}
}

// TestChunksAreReady checks that Ready is true whenever Read does not need the source, and only
// then.
func TestChunksAreReady(t *testing.T) {
	const chunks = "3\r\nabc\r\n2\r\nde\r\n0\r\nX: 1\r\n\r\n"
	for cut := 1; cut <= len(chunks); cut++ {
		late := false
		_, r, err := chunked(t, io.MultiReader(strings.NewReader(chunkedHead+chunks[:cut]), iotest.ErrReader(errors.New("late"))))
		for p := make([]byte, 1); err == nil; {
			ready := r.Ready()
			var n int
			n, err = r.Read(p)
			late = err != nil && err != io.EOF
			if ready == late {
				t.Fatalf("cut at %d: Ready %v, Read %d, %v", cut, ready, n, err)
			}
		}
		if late == (cut == len(chunks)) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

// FuzzChunks compares with the decoder of net/http: what it does not take, this one must not take.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n"))
	f.Add([]byte("1\r\na\r\n0\r\nX: 1\r\n\r\n"))
	f.Add([]byte("1 \r\na\r\n0;\r\n\r\n"))
	f.Fuzz(func(t *testing.T, chunks []byte) {
		_, r, err := chunked(t, io.MultiReader(strings.NewReader(chunkedHead), bytes.NewReader(chunks)))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			return
		}
		if want, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(chunks))); err != nil || !bytes.Equal(b, want) {
			t.Errorf("%q, and net/http has %q, %v", b, want, err)
		}
	})
}

// TestChunksOfNoBody reads the response to a HEAD, which may end with its head or have chunks all
// the same.
func TestChunksOfNoBody(t *testing.T) {
	for chunks, want := range map[string]string{"": "", "3\r\nabc\r\n0\r\n\r\n": "abc"} {
		_, r, err := chunked(t, strings.NewReader(chunkedHead+chunks))
		if err != nil {
			t.Fatal(err)
		}
		r.Bare = true
		if b, err := io.ReadAll(r); string(b) != want || err != nil {
			t.Errorf("%q: %q, %v", chunks, b, err)
		}
	}
}
