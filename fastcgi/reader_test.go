package fastcgi_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

// waiting is a Reader that waits before it gives anything.
type waiting struct {
	ready <-chan struct{}
	r     io.Reader
}

func (w *waiting) Read(p []byte) (int, error) {
	<-w.ready
	return w.r.Read(p)
}

// TestChunking reads the same bytes in every kind of piece.
func TestChunking(t *testing.T) {
	in := get(7, true) + head(8, gateway.RoleResponder, true, "REQUEST_METHOD", "POST") +
		stdin(8, strings.Repeat("b", 70000)[:65535]) + stdin(8, "tail") + stdin(8, "")
	var golden string
	for name, src := range map[string]io.Reader{
		"whole": strings.NewReader(in),
		"byte":  iotest.OneByteReader(strings.NewReader(in)),
		"half":  iotest.HalfReader(strings.NewReader(in)),
		"eof":   iotest.DataErrReader(strings.NewReader(in)),
	} {
		r := fastcgi.NewReader(src)
		var got strings.Builder
		for {
			req, body, err := readRequest(r)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got.WriteString(fmt.Sprintf("%s %d %d;", list(&req.Params), req.ContentLength, len(body)))
		}
		if golden == "" {
			golden = got.String()
		}
		if got.String() != golden {
			t.Errorf("%s: %s, want %s", name, got.String(), golden)
		}
	}
	out := rec(fastcgi.TypeStdout, 1, okHead[:10]) + rec(fastcgi.TypeStdout, 1, okHead[10:]+"x") + response(1, strings.Repeat("y", 60000))
	for name, src := range map[string]io.Reader{
		"whole": strings.NewReader(out),
		"byte":  iotest.OneByteReader(strings.NewReader(out)),
		"half":  iotest.HalfReader(strings.NewReader(out)),
		"eof":   iotest.DataErrReader(strings.NewReader(out)),
	} {
		var res gateway.Response
		if err := fastcgi.NewReader(src).ReadResponse(&res); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || len(body) != 60001 || res.Status != 200 {
			t.Errorf("%s: %d bytes, %v", name, len(body), err)
		}
	}
}

// TestLinear gives a head byte by byte: its cost must not grow as the square.
func TestLinear(t *testing.T) {
	big := pairs("A", strings.Repeat("v", 60000))
	var in strings.Builder
	in.WriteString(begin(1, 1, false))
	for i := range len(big) {
		in.WriteString(rec(fastcgi.TypeParams, 1, big[i:i+1]))
	}
	in.WriteString(rec(fastcgi.TypeParams, 1, "") + stdin(1, ""))
	req, err := fromBytes(in.String())
	if v, _ := req.Params.Lookup("A"); err != nil || len(v) != 60000 {
		t.Errorf("%d bytes, %v", len(v), err)
	}
	// A head in pieces is looked at once: see scan's own test for the count.
	out := strings.Builder{}
	value := "Status: 200 OK\r\nX: " + strings.Repeat("v", 60000) + "\r\n\r\n"
	for i := range len(value) {
		out.WriteString(rec(fastcgi.TypeStdout, 1, value[i:i+1]))
	}
	out.WriteString(rec(fastcgi.TypeStdout, 1, "") + end(1, 0, 0))
	if _, _, err := responseFrom(out.String()); err != nil {
		t.Error(err)
	}
}

// TestReaderEdges is the same for the Reader.
func TestReaderEdges(t *testing.T) {
	t.Run("STDIN after its end [145]", func(t *testing.T) {
		req, err := fromBytes(head(1, 3, true, "CONTENT_LENGTH", "3", "FCGI_DATA_LENGTH", "4") +
			stdin(1, "hel") + stdin(1, "") + stdin(1, "lo") + rec(fastcgi.TypeData, 1, "data"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(req.Data)
		want(t, err, gateway.ErrMalformed)
	})
	t.Run("DATA beyond its length [155]", func(t *testing.T) {
		req, err := fromBytes(head(1, 3, true, "CONTENT_LENGTH", "0", "FCGI_DATA_LENGTH", "8") + stdin(1, "") +
			rec(fastcgi.TypeData, 1, "12345678excess") + rec(fastcgi.TypeData, 1, ""))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(req.Data); string(b) != "12345678" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("a length of DATA that fits nothing [155]", func(t *testing.T) {
		req, err := fromBytes(head(1, 3, true, "CONTENT_LENGTH", "0", "FCGI_DATA_LENGTH", strings.Repeat("9", 25)) + stdin(1, "") +
			rec(fastcgi.TypeData, 1, "all of it") + rec(fastcgi.TypeData, 1, ""))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(req.Data); string(b) != "all of it" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("BEGIN_REQUEST of nine bytes [125]", func(t *testing.T) {
		_, err := fromBytes(rec(fastcgi.TypeBegin, 1, "\x00\x01\x00\x00\x00\x00\x00\x00\x00") + rec(fastcgi.TypeParams, 1, ""))
		want(t, err, gateway.ErrMalformed)
	})
}

// TestReaderOdds tests the rest of Reader's methods.
func TestReaderOdds(t *testing.T) {
	in := response(7, okHead+"first") + rec(fastcgi.TypeStdout, 8, okHead+"second") + rec(fastcgi.TypeStderr, 8, "err") + end(8, 9, 0) + "rest"
	r := fastcgi.NewReader(strings.NewReader(in))
	var stderr bytes.Buffer
	r.Stderr = &stderr
	var res gateway.Response
	if err := r.ReadResponse(&res); err != nil || r.Offset() == 0 {
		t.Fatal(err)
	}
	res.Body.Close() // drops what is left
	if err := r.ReadResponse(&res); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(res.Body); string(b) != "second" || err != nil || r.End().AppStatus != 9 || stderr.String() != "err" {
		t.Errorf("%q, %v, %+v, %q", b, err, r.End(), &stderr)
	}
	if string(r.Buffered()) != "rest" || r.Offset() != int64(len(in)-len("rest")) {
		t.Errorf("%q at %d of %d", r.Buffered(), r.Offset(), len(in))
	}
	r.Reset(strings.NewReader(get(1, true)))
	if _, _, err := readRequest(r); err != nil || r.Offset() == 0 {
		t.Error(err)
	}
	// Another request that begins inside a body, and records that make no sense.
	for _, b := range []string{begin(2, 1, true), rec(fastcgi.TypeParams, 1, "x"), rec(fastcgi.TypeStdin, 0, "x"), rec(fastcgi.TypeData, 1, "x")} {
		_, _, err := readRequest(fastcgi.NewReader(strings.NewReader(head(1, 1, true, "CONTENT_LENGTH", "9") + stdin(1, "a") + b + stdin(1, "b"))))
		want(t, err, gateway.ErrMalformed)
	}
	for _, b := range []string{begin(1, 0, true), begin(1, 1, true) + begin(2, 1, true), stdin(0, "")} {
		_, err := fromBytes(b + rec(fastcgi.TypeParams, 1, ""))
		want(t, err, gateway.ErrMalformed)
	}
	// ABORT_REQUEST before the params are whole: the next request counts.
	req, err := fromBytes(begin(1, 1, true) + rec(fastcgi.TypeParams, 1, pairs("A", "1")) + rec(fastcgi.TypeAbort, 1, "") + get(2, true))
	if err != nil || req.Method() != "GET" || req.Params.Get("A") != "" {
		t.Errorf("%v", err)
	}
}

// Each test here is of something that went wrong once.

// A DATA record for a responder, cut after its header, once held the connection's lock for ever.
func TestDataForResponder(t *testing.T) {
	srv := &fastcgi.Server{Handler: echo}
	s := serve(t, srv)
	s.send(head(1, 1, true, "CONTENT_LENGTH", "5") + rec(fastcgi.TypeData, 1, strings.Repeat("x", 100))[:8])
	time.Sleep(20 * time.Millisecond)
	connect(t, s.c.RemoteAddr().String()).must(1)
	s.send(strings.Repeat("x", 100) + stdin(1, "hello") + stdin(1, ""))
	if r := s.reply(1); !strings.Contains(r.body(), `"hello"`) {
		t.Errorf("%+v", r)
	}
}

// What waits for a handler once grew by all that had ever waited.
func TestQueueStaysSmall(t *testing.T) {
	const total = 64 << 20
	s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		r.Context().Done() // another goroutine reads the connection
		buf := make([]byte, 8<<10)
		var n int64
		for {
			m, err := r.Body.Read(buf)
			n += int64(m)
			if err != nil {
				break
			}
		}
		var m runtime.MemStats
		runtime.GC() // what other tests left
		runtime.ReadMemStats(&m)
		fmt.Fprint(w, n == total, m.HeapAlloc < 40<<20)
		return nil
	}))
	s.send(head(1, 1, false, "CONTENT_LENGTH", fmt.Sprint(total)))
	piece := stdin(1, strings.Repeat("b", 32<<10))
	for range total / (32 << 10) {
		s.send(piece)
	}
	s.send(stdin(1, ""))
	if r := s.reply(1); r.body() != "true true" {
		t.Errorf("%q", r.body())
	}
}

// One head that stays open was once given new time by each request beside it.
func TestHeadLimitIsItsOwn(t *testing.T) {
	s := serve(t, &fastcgi.Server{Handler: echo, ReadHeadTimeout: 300 * time.Millisecond})
	s.send(begin(9, 1, true))
	for range 100 {
		if _, err := io.WriteString(s.c, get(1, true)); err != nil {
			return
		}
		if _, ok := s.next(); !ok {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("an open head held the connection for 5 s")
}

// Reader once could not go on after params that were too large.
func TestReadRequestAfterTooLarge(t *testing.T) {
	in := head(1, 1, true, "A", strings.Repeat("v", 200)) + stdin(1, "body") + stdin(1, "") + get(2, true)
	r := fastcgi.NewReader(strings.NewReader(in))
	r.MaxHeadBytes = 100
	var req gateway.Request
	want(t, r.ReadRequest(&req), gateway.ErrTooLarge)
	if err := r.ReadRequest(&req); err != nil || req.Method() != "GET" {
		t.Errorf("%v", err)
	}
}

// A Filter that took its time and then read Data alone once stood still with more STDIN before it
// than may wait.
func TestFilterBehindStdin(t *testing.T) {
	s := serve(t, &fastcgi.Server{Logger: quiet, Filter: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		r.Context().Done()
		time.Sleep(50 * time.Millisecond)
		b, err := io.ReadAll(r.Data)
		fmt.Fprintf(w, "%s %v", b, err)
		return nil
	})})
	s.send(head(1, gateway.RoleFilter, true, "CONTENT_LENGTH", "120000", "FCGI_DATA_LENGTH", "4"))
	go s.c.Write([]byte(stdin(1, strings.Repeat("i", 60000)) + stdin(1, strings.Repeat("i", 60000)) + stdin(1, "") +
		rec(fastcgi.TypeData, 1, "data") + rec(fastcgi.TypeData, 1, "")))
	if r := s.reply(1); r.body() != "data <nil>" {
		t.Errorf("%+v", r)
	}
}

// pipe is a connection in memory that counts the bytes that the server reads.
type pipe struct {
	net.Conn
	taken int
}

func (p *pipe) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	p.taken += n
	return n, err
}

func (p *pipe) CloseWrite() error { return nil }
