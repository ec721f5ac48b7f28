package fastcgi_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

var bodySizes = []int{0, 64 << 10}

func BenchmarkWriteRequest(b *testing.B) {
	for _, size := range bodySizes {
		b.Run(fmt.Sprintf("proto=fastcgi/size=%d", size), func(b *testing.B) {
			body := make([]byte, size)
			req := typical(body)
			w := fastcgi.NewWriter(io.Discard)
			b.SetBytes(int64(900 + size))
			b.ReportAllocs()
			for b.Loop() {
				req.SetBody(body)
				if err := w.WriteRequest(req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// countingReader counts reads.
type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	c.n++
	return c.r.Read(p)
}

func BenchmarkReadRequest(b *testing.B) {
	for _, size := range bodySizes {
		b.Run(fmt.Sprintf("proto=fastcgi/size=%d", size), func(b *testing.B) {
			var wire bytes.Buffer
			if err := fastcgi.NewWriter(&wire).WriteRequest(typical(make([]byte, size))); err != nil {
				b.Fatal(err)
			}
			src := bytes.NewReader(wire.Bytes())
			count := &countingReader{r: src}
			r := fastcgi.NewReader(count)
			var req gateway.Request
			buf := make([]byte, 32<<10)
			b.SetBytes(int64(wire.Len()))
			b.ReportAllocs()
			for b.Loop() {
				src.Reset(wire.Bytes())
				r.Reset(count)
				if err := r.ReadRequest(&req); err != nil {
					b.Fatal(err)
				}
				for req.Body != nil {
					if _, err := req.Body.Read(buf); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(count.n)/float64(b.N), "reads/op")
		})
	}
}

func BenchmarkReadResponse(b *testing.B) {
	for _, size := range bodySizes {
		b.Run(fmt.Sprintf("proto=fastcgi/size=%d", size), func(b *testing.B) {
			var wire strings.Builder
			wire.WriteString(rec(fastcgi.TypeStdout, 1, okHead))
			for left := size; left > 0; left -= 8184 {
				wire.WriteString(rec(fastcgi.TypeStdout, 1, string(make([]byte, min(left, 8184)))))
			}
			wire.WriteString(rec(fastcgi.TypeStdout, 1, "") + end(1, 0, 0))
			src := bytes.NewReader(nil)
			count := &countingReader{r: src}
			r := fastcgi.NewReader(count)
			var res gateway.Response
			buf := make([]byte, 32<<10)
			in := []byte(wire.String())
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				src.Reset(in)
				r.Reset(count)
				if err := r.ReadResponse(&res); err != nil {
					b.Fatal(err)
				}
				for {
					if _, err := res.Body.Read(buf); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(count.n)/float64(b.N), "reads/op")
		})
	}
}

func BenchmarkAppendRequest(b *testing.B) {
	req := typical(nil)
	dst := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := fastcgi.AppendRequest(dst, 1, true, req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkConsumeParams(b *testing.B) {
	content, err := fastcgi.AppendParams(nil, &typical(nil).Params)
	if err != nil {
		b.Fatal(err)
	}
	var p gateway.Params
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		p.Reset()
		if _, err := fastcgi.ConsumeParams(content, &p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	wire := []byte(rec(fastcgi.TypeStdout, 1, string(make([]byte, 8184))))
	r := fastcgi.NewReader(&loop{b: wire})
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

// countingWriter counts writes.
type countingWriter struct{ n int }

func (c *countingWriter) Write(p []byte) (int, error) {
	c.n++
	return len(p), nil
}

func BenchmarkWriteResponse(b *testing.B) {
	for _, size := range bodySizes {
		b.Run(fmt.Sprintf("proto=fastcgi/size=%d", size), func(b *testing.B) {
			body := make([]byte, size)
			src := bytes.NewReader(body)
			res := &gateway.Response{Status: 200, ContentLength: int64(size), Body: io.NopCloser(src)}
			res.Header.Add("Content-Type", "text/html; charset=utf-8")
			count := new(countingWriter)
			w := fastcgi.NewWriter(count)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				src.Reset(body)
				if err := w.WriteResponse(res); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(count.n)/float64(b.N), "writes/op")
		})
	}
}
