package conformance

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/race"
)

// A Codec is the bytes and streams of a protocol, whose cost is measured. Reader and Writer are nil
// if it has none.
type Codec struct {
	Proto          string
	AppendParam    func(dst []byte, name, value string) ([]byte, error)
	ConsumeParam   func(b []byte) (name, value []byte, n int)
	AppendParams   func(dst []byte, p *gateway.Params) ([]byte, error)
	ConsumeParams  func(b []byte, p *gateway.Params) (n int, err error)
	AppendRequest  func(dst []byte, r *gateway.Request) ([]byte, error)
	ConsumeRequest func(b []byte, p *gateway.Params) error
	Reader         func(src io.Reader) Reader
	Writer         func(dst io.Writer) Writer
}

// A Reader is the Reader of a protocol.
type Reader interface {
	ReadRequest(req *gateway.Request) error
	ReadResponse(res *gateway.Response) error
}

// A Writer is the Writer of a protocol.
type Writer interface {
	WriteRequest(req *gateway.Request) error
	WriteResponse(res *gateway.Response) error
}

// Typical returns a request with 27 params, about 900 bytes, as a browser sends it through nginx.
func Typical(body []byte) *gateway.Request {
	r := new(gateway.Request)
	for _, nv := range [][2]string{
		{"QUERY_STRING", "page=2&sort=name"}, {"REQUEST_METHOD", "GET"}, {"CONTENT_TYPE", ""}, {"SCRIPT_NAME", "/index.php"},
		{"REQUEST_URI", "/articles/list?page=2&sort=name"}, {"DOCUMENT_URI", "/index.php"}, {"DOCUMENT_ROOT", "/srv/www/example"},
		{"SERVER_PROTOCOL", "HTTP/1.1"}, {"REQUEST_SCHEME", "https"}, {"HTTPS", "on"}, {"GATEWAY_INTERFACE", "CGI/1.1"},
		{"SERVER_SOFTWARE", "nginx/1.22.1"}, {"REMOTE_ADDR", "203.0.113.77"}, {"REMOTE_PORT", "51234"}, {"SERVER_ADDR", "192.0.2.10"},
		{"SERVER_PORT", "443"}, {"SERVER_NAME", "www.example.com"}, {"SCRIPT_FILENAME", "/srv/www/example/index.php"},
		{"HTTP_HOST", "www.example.com"}, {"HTTP_USER_AGENT", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"},
		{"HTTP_ACCEPT", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, {"HTTP_ACCEPT_LANGUAGE", "en-US,en;q=0.5"},
		{"HTTP_ACCEPT_ENCODING", "gzip, deflate, br"}, {"HTTP_COOKIE", "session=0123456789abcdef0123456789abcdef"},
		{"HTTP_REFERER", "https://www.example.com/articles"}, {"HTTP_CONNECTION", "keep-alive"}, {"CONTENT_LENGTH", ""},
	} {
		r.Params.Add(nv[0], nv[1])
	}
	r.SetBody(body)
	return r
}

// A loop returns the same bytes again and again, and counts its reads.
type loop struct {
	b         []byte
	at, reads int
}

func (l *loop) Read(p []byte) (int, error) {
	l.reads++
	if l.at == len(l.b) {
		l.at = 0
	}
	n := copy(p, l.b[l.at:])
	l.at += n
	return n, nil
}

// A counter counts writes.
type counter struct{ writes int }

func (c *counter) Write(p []byte) (int, error) { c.writes++; return len(p), nil }

func drain(t testing.TB, r io.Reader, scrap []byte) {
	for {
		if _, err := r.Read(scrap); err == io.EOF {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// response returns a response with body.
func response(body *bytes.Reader) *gateway.Response {
	res := &gateway.Response{Status: 200, ContentLength: int64(body.Len()), Body: io.NopCloser(body)}
	res.Header.Add("Content-Type", "text/html; charset=utf-8")
	res.Header.Add("Set-Cookie", "a=1")
	return res
}

// wire returns the output of w.
func wire(t testing.TB, c Codec, write func(w Writer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := write(c.Writer(&b)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Allocations tests that the functions documented as not allocating do not allocate, with the
// typical request and a body of 64 KiB.
func Allocations(t *testing.T, c Codec) {
	if race.Enabled {
		t.Skip("builds with the race detector give out memory once")
	}
	paramAllocations(t, c)
	if c.Reader == nil {
		return
	}
	requestAllocations(t, c)
	readerAllocations(t, c)
	writerAllocations(t, c)
	t.Run("one write for a head and a small body", func(t *testing.T) { oneWrite(t, c) })
}

// noAllocations checks that f, from its second call on, allocates nothing.
func noAllocations(t *testing.T, name string, f func() error) {
	t.Run(name, func(t *testing.T) {
		run := func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}
		run()
		if n := testing.AllocsPerRun(200, run); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// costBody is the body of the requests and responses here.
var costBody = make([]byte, 64<<10)

func paramAllocations(t *testing.T, c Codec) {
	req := Typical(costBody)
	dst := make([]byte, 0, 1<<20)
	content, err := c.AppendParams(nil, &req.Params)
	if err != nil {
		t.Fatal(err)
	}
	var params gateway.Params
	noAllocations(t, "AppendParam", func() error { _, err := c.AppendParam(dst, "NAME", "value"); return err })
	noAllocations(t, "ConsumeParam", func() error {
		for b := content; len(b) > 0; {
			_, _, n := c.ConsumeParam(b)
			b = b[n:]
		}
		return nil
	})
	noAllocations(t, "AppendParams", func() error { _, err := c.AppendParams(dst, &req.Params); return err })
	noAllocations(t, "ConsumeParams", func() error {
		params.Reset()
		_, err := c.ConsumeParams(content, &params)
		return err
	})
}

func requestAllocations(t *testing.T, c Codec) {
	req := Typical(costBody)
	head, err := c.AppendRequest(nil, req)
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, 0, 1<<20)
	var params gateway.Params
	noAllocations(t, "AppendRequest", func() error { _, err := c.AppendRequest(dst, req); return err })
	noAllocations(t, "ConsumeRequest", func() error { return c.ConsumeRequest(head, &params) })
}

func readerAllocations(t *testing.T, c Codec) {
	scrap := make([]byte, 32<<10)
	r := c.Reader(&loop{b: wire(t, c, func(w Writer) error { return w.WriteRequest(Typical(costBody)) })})
	var req gateway.Request
	noAllocations(t, "Reader.ReadRequest", func() error {
		err := r.ReadRequest(&req)
		if err == nil {
			drain(t, req.Body, scrap)
		}
		return err
	})
	r = c.Reader(&loop{b: wire(t, c, func(w Writer) error { return w.WriteResponse(response(bytes.NewReader(costBody))) })})
	var res gateway.Response
	noAllocations(t, "Reader.ReadResponse", func() error {
		err := r.ReadResponse(&res)
		if err == nil {
			drain(t, res.Body, scrap)
		}
		return err
	})
}

func writerAllocations(t *testing.T, c Codec) {
	w := c.Writer(io.Discard)
	req := Typical(costBody)
	noAllocations(t, "Writer.WriteRequest", func() error {
		req.SetBody(costBody)
		return w.WriteRequest(req)
	})
	body := bytes.NewReader(costBody)
	res := response(body)
	noAllocations(t, "Writer.WriteResponse", func() error {
		body.Reset(costBody)
		return w.WriteResponse(res)
	})
}

func oneWrite(t *testing.T, c Codec) {
	small := costBody[:16<<10]
	var count counter
	w := c.Writer(&count)
	if err := w.WriteRequest(Typical(small)); err != nil || count.writes != 1 {
		t.Errorf("%d writes, %v", count.writes, err)
	}
	if err := w.WriteResponse(response(bytes.NewReader(small))); err != nil || count.writes != 2 {
		t.Errorf("%d writes, %v", count.writes, err)
	}
}

// bench runs f as a benchmark named after the protocol.
func bench(b *testing.B, name string, bytes int, f func() error) {
	b.Run(name, func(b *testing.B) {
		b.SetBytes(int64(bytes))
		b.ReportAllocs()
		for b.Loop() {
			if err := f(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchCodec measures the functions on bytes, with the typical request.
func BenchCodec(b *testing.B, c Codec) {
	req := Typical(nil)
	content, _ := c.AppendParams(nil, &req.Params)
	dst := make([]byte, 0, 64<<10)
	var p gateway.Params
	proto := "/proto=" + c.Proto
	bench(b, "ConsumeParams"+proto, len(content), func() error {
		p.Reset()
		_, err := c.ConsumeParams(content, &p)
		return err
	})
	bench(b, "AppendParams"+proto, len(content), func() error {
		_, err := c.AppendParams(dst, &req.Params)
		return err
	})
	if c.AppendRequest == nil {
		return
	}
	head, _ := c.AppendRequest(nil, req)
	bench(b, "ConsumeRequest"+proto, len(head), func() error { return c.ConsumeRequest(head, &p) })
	bench(b, "AppendRequest"+proto, len(head), func() error {
		_, err := c.AppendRequest(dst, req)
		return err
	})
}

var sizes = []int{0, 64 << 10}

// BenchStreams measures Reader and Writer, with the typical request, a response, and a body of each
// size. Reads and writes are counted.
func BenchStreams(b *testing.B, c Codec) {
	for _, size := range sizes {
		body := make([]byte, size)
		name := func(what string) string { return fmt.Sprintf("%s/proto=%s/size=%d", what, c.Proto, size) }
		benchReader(b, name("ReadRequest"), c, wire(b, c, func(w Writer) error { return w.WriteRequest(Typical(body)) }), readRequest)
		benchReader(b, name("ReadResponse"), c, wire(b, c, func(w Writer) error { return w.WriteResponse(response(bytes.NewReader(body))) }), readResponse)
		req := Typical(body)
		benchWriter(b, name("WriteRequest"), c, size, func(w Writer) error {
			req.SetBody(body)
			return w.WriteRequest(req)
		})
		src := bytes.NewReader(body)
		res := response(src)
		benchWriter(b, name("WriteResponse"), c, size, func(w Writer) error {
			src.Reset(body)
			return w.WriteResponse(res)
		})
	}
}

// scratch is the buffer that a benchmark reads into.
type scratch struct {
	req gateway.Request
	res gateway.Response
	buf [32 << 10]byte
}

func readRequest(r Reader, s *scratch) (io.Reader, error) {
	err := r.ReadRequest(&s.req)
	return s.req.Body, err
}

func readResponse(r Reader, s *scratch) (io.Reader, error) {
	err := r.ReadResponse(&s.res)
	return s.res.Body, err
}

func benchReader(b *testing.B, name string, c Codec, wire []byte, read func(r Reader, s *scratch) (io.Reader, error)) {
	b.Run(name, func(b *testing.B) {
		src := &loop{b: wire}
		r := c.Reader(src)
		s := new(scratch)
		b.SetBytes(int64(len(wire)))
		b.ReportAllocs()
		for b.Loop() {
			body, err := read(r, s)
			if err != nil {
				b.Fatal(err)
			}
			if body != nil {
				drain(b, body, s.buf[:])
			}
		}
		b.ReportMetric(float64(src.reads)/float64(b.N), "reads/op")
	})
}

func benchWriter(b *testing.B, name string, c Codec, size int, write func(w Writer) error) {
	b.Run(name, func(b *testing.B) {
		var count counter
		w := c.Writer(&count)
		b.SetBytes(int64(900 + size))
		b.ReportAllocs()
		for b.Loop() {
			if err := write(w); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(count.writes)/float64(b.N), "writes/op")
	})
}
