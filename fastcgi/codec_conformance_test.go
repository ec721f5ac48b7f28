package fastcgi_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

// TestCodecConformance is items 55 to 71 of the conformance list.
func TestCodecConformance(t *testing.T) {
	t.Run("header round trip [055]", func(t *testing.T) {
		for typ := range 256 {
			for _, id := range []uint16{0, 1, 65535} {
				for _, length := range []uint16{0, 1, 65535} {
					for _, padding := range []uint8{0, 7, 255} {
						h := fastcgi.RecordHeader{Version: 1, Type: fastcgi.Type(typ), ID: id, Length: length, Padding: padding}
						b, err := fastcgi.AppendHeader(nil, h)
						if got, n := fastcgi.ConsumeHeader(b); err != nil || got != h || n != 8 {
							t.Fatalf("%+v came back as %+v, %d, %v", h, got, n, err)
						}
					}
				}
			}
		}
	})
	t.Run("content plus padding over 65535 [056 F4]", func(t *testing.T) {
		big := padded(fastcgi.TypeStdout, 1, strings.Repeat("x", 65535), 255)
		if len(big) != 65798 {
			t.Fatalf("%d bytes", len(big))
		}
		r := fastcgi.NewReader(strings.NewReader(big + rec(fastcgi.TypeStdout, 1, "next")))
		first, err := r.Next()
		if err != nil || len(first.Content) != 65535 {
			t.Fatalf("%d bytes, %v", len(first.Content), err)
		}
		second, err := r.Next()
		if err != nil || string(second.Content) != "next" {
			t.Errorf("the next record is %q, %v", second.Content, err)
		}
		if _, n := fastcgi.ConsumeRecord([]byte(big)); n != 65798 {
			t.Errorf("ConsumeRecord used %d bytes", n)
		}
	})
	t.Run("a body over 65535 is split [057 F3]", func(t *testing.T) {
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
	t.Run("another version [058 F49]", func(t *testing.T) {
		for _, version := range []byte{0, 2, 'G', 0x16} {
			b := []byte(get(1, false))
			b[0] = version
			_, err := fromBytes(string(b))
			want(t, err, gateway.ErrMalformed)
			s := serve(t, &fastcgi.Server{Handler: echo})
			s.send(string(b))
			s.closed()
			a := []byte(response(1, okHead))
			a[0] = version
			want(t, received(t, string(a)).err, gateway.ErrMalformed)
		}
	})
	t.Run("the reserved byte [059]", func(t *testing.T) {
		if _, err := fromBytes(get(1, false)); err != nil { // rec sets it
			t.Error(err)
		}
		b, _ := fastcgi.AppendHeader(nil, fastcgi.RecordHeader{Type: fastcgi.TypeStdin, ID: 1})
		if b[7] != 0 {
			t.Errorf("written as %d", b[7])
		}
	})
	t.Run("reserved bytes of contents [060]", func(t *testing.T) {
		e := []byte(response(1, okHead+"x"))
		copy(e[len(e)-3:], "\xff\xee\xdd")
		if o := received(t, string(e)); o.err != nil || o.body != "x" {
			t.Errorf("%q, %v", o.body, o.err)
		}
		s := serve(t, &fastcgi.Server{Handler: echo})
		s.must(1) // begin sets them
	})
	t.Run("padding on every type, empty ones too [061 062 153]", func(t *testing.T) {
		for _, padding := range []int{1, 7, 8, 255} {
			in := padded(fastcgi.TypeBegin, 1, "\x00\x01\x01\x00\x00\x00\x00\x00", padding) +
				padded(fastcgi.TypeParams, 1, pairs("REQUEST_METHOD", "POST", "CONTENT_LENGTH", "4"), padding) +
				padded(fastcgi.TypeParams, 1, "", padding) + padded(fastcgi.TypeStdin, 1, "body", padding) +
				padded(fastcgi.TypeStdin, 1, "", padding) + padded(fastcgi.TypeGetValues, 0, "", padding)
			s := serve(t, &fastcgi.Server{Handler: echo})
			s.send(in)
			if r := s.reply(1); r.body() != `POST 4 "body" <nil>` {
				t.Errorf("padding %d: %q", padding, r.body())
			}
			if rec, ok := s.next(); !ok || rec.Type != fastcgi.TypeGetValuesResult {
				t.Errorf("after it %v", rec)
			}
			out := padded(fastcgi.TypeStdout, 1, okHead, padding) + padded(fastcgi.TypeStdout, 1, "x", padding) +
				padded(fastcgi.TypeStderr, 1, "", padding) + padded(fastcgi.TypeStdout, 1, "", padding) +
				padded(fastcgi.TypeEnd, 1, "\x00\x00\x00\x00\x00\x00\x00\x00", padding)
			if o := received(t, out); o.err != nil || o.body != "x" {
				t.Errorf("padding %d: %q, %v", padding, o.body, o.err)
			}
		}
	})
	t.Run("lengths of names and values [063]", func(t *testing.T) {
		for _, n := range []int{1, 127, 128, 8 << 10} {
			for _, v := range []int{0, 1, 127, 128, 65000} {
				name, value := strings.Repeat("N", n), strings.Repeat("v", v)
				b, err := fastcgi.AppendParam(nil, name, value)
				if err != nil {
					t.Fatal(err)
				}
				lengths := 2
				for _, l := range []int{n, v} {
					if l > 127 {
						lengths += 3
					}
				}
				gotName, gotValue, used := fastcgi.ConsumeParam(b)
				if len(b) != lengths+n+v || used != len(b) || string(gotName) != name || string(gotValue) != value {
					t.Errorf("%d and %d: %d bytes, used %d", n, v, len(b), used)
				}
			}
		}
		b := binary.BigEndian.AppendUint32([]byte{1}, math.MaxUint32) // a value of 2^31-1 bytes
		if _, _, n := fastcgi.ConsumeParam(append(b, 'N')); n != 0 {
			t.Errorf("used %d", n)
		}
	})
	t.Run("four bytes for a short length [064]", func(t *testing.T) {
		name, value, n := fastcgi.ConsumeParam([]byte("\x80\x00\x00\x01\x80\x00\x00\x02NVV"))
		if n != 11 || string(name) != "N" || string(value) != "VV" {
			t.Errorf("%q %q %d", name, value, n)
		}
	})
	t.Run("lengths of 0x7fffffff [065 F5]", func(t *testing.T) {
		bad := strings.Repeat("\xff", 8) + "0123456789"
		if _, _, n := fastcgi.ConsumeParam([]byte(bad)); n != 0 {
			t.Errorf("used %d", n)
		}
		in := begin(1, gateway.RoleResponder, false) + rec(fastcgi.TypeParams, 1, bad) + rec(fastcgi.TypeParams, 1, "")
		allocated := testing.AllocsPerRun(1, func() {
			_, err := fromBytes(in)
			want(t, err, gateway.ErrMalformed)
		})
		if allocated > 30 {
			t.Errorf("%v allocations", allocated)
		}
		s := serve(t, &fastcgi.Server{Handler: echo})
		s.send(in)
		s.closed()
	})
	t.Run("a length one too long [066]", func(t *testing.T) {
		for _, content := range []string{"\x01\x03NVV", "\x03\x00NN", "\x01\x80\x00\x00\x03NVV"} {
			in := begin(1, gateway.RoleResponder, false) + rec(fastcgi.TypeParams, 1, pairs("A", "1")+content) + rec(fastcgi.TypeParams, 1, "")
			_, err := fromBytes(in)
			want(t, err, gateway.ErrMalformed)
		}
	})
	t.Run("a pair cut at every byte [067]", func(t *testing.T) {
		content := pairs("A", "1", "LONG", strings.Repeat("v", 200), "REQUEST_METHOD", "GET", "E", "")
		expect := fmt.Sprintf("A=1;LONG=%s;REQUEST_METHOD=GET;E=;", strings.Repeat("v", 200))
		try := func(pieces ...string) {
			t.Helper()
			var in strings.Builder
			in.WriteString(begin(1, gateway.RoleResponder, false))
			for _, p := range pieces {
				if p != "" {
					in.WriteString(rec(fastcgi.TypeParams, 1, p))
				}
			}
			in.WriteString(rec(fastcgi.TypeParams, 1, ""))
			req, err := fromBytes(in.String())
			if got := list(&req.Params); err != nil || got != expect {
				t.Fatalf("got %q, %v", got, err)
			}
			var p gateway.Params
			if _, _, n, err := fastcgi.ConsumeRequest([]byte(in.String()), &p); err != nil || n != len(in.String()) || list(&p) != expect {
				t.Fatalf("ConsumeRequest: %d, %v", n, err)
			}
		}
		for i := range len(content) {
			try(content[:i], content[i:])
			try(content[:i/2], content[i/2:i], content[i:])
		}
		try(strings.Split(content, "")...)
	})
	t.Run("cut inside the lengths [068]", func(t *testing.T) {
		for _, content := range []string{"\x01", "\x80", "\x80\x00\x00", "\x01\x80\x00"} {
			in := begin(1, gateway.RoleResponder, false) + rec(fastcgi.TypeParams, 1, content) + rec(fastcgi.TypeParams, 1, "")
			_, err := fromBytes(in)
			want(t, err, gateway.ErrMalformed)
		}
	})
	t.Run("an empty name [001 069]", func(t *testing.T) {
		if _, _, n := fastcgi.ConsumeParam([]byte("\x00\x00")); n >= 0 {
			t.Errorf("used %d", n)
		}
		_, err := fromBytes(begin(1, 1, false) + rec(fastcgi.TypeParams, 1, "\x00\x01v") + rec(fastcgi.TypeParams, 1, ""))
		want(t, err, gateway.ErrMalformed)
		_, err = fastcgi.AppendParam(nil, "", "v")
		want(t, err, gateway.ErrParam)
	})
	t.Run("nothing is allocated from a length [070]", func(t *testing.T) {
		// 250 PARAMS records each announce 2 GiB; the memory is that of what came.
		bad := strings.Repeat(rec(fastcgi.TypeParams, 1, "\xff\xff\xff\xff\xff\xff\xff\xff"), 250)
		in := begin(1, 1, false) + bad + rec(fastcgi.TypeParams, 1, "")
		result := testing.Benchmark(func(b *testing.B) {
			for b.Loop() {
				fromBytes(in)
			}
		})
		if got := result.AllocedBytesPerOp(); got > 100<<10 {
			t.Errorf("%d bytes allocated", got)
		}
	})
	t.Run("a pair larger than a record [071 075 F47]", func(t *testing.T) {
		r := request(t, "GET", "")
		r.Params.Add("A", strings.Repeat("v", 65528))
		_, err := fastcgi.AppendRequest([]byte("as it was"), 1, false, r)
		want(t, err, gateway.ErrTooLarge)
		c := &fastcgi.Client{Addr: "127.0.0.1:1"}
		want(t, ask(t, c, r).err, gateway.ErrTooLarge)
		if s := c.Stats(); s.Dialed > 0 {
			t.Errorf("dialed: %+v", s)
		}
	})
}

// TestPrefixes cuts whole messages after every byte.
func TestPrefixes(t *testing.T) {
	req := head(1, gateway.RoleResponder, true, "REQUEST_METHOD", "POST", "CONTENT_LENGTH", "4") + stdin(1, "body") + stdin(1, "")
	for n := range len(req) {
		r := fastcgi.NewReader(strings.NewReader(req[:n]))
		var q gateway.Request
		err := r.ReadRequest(&q)
		if n == 0 && err != io.EOF {
			t.Fatalf("nothing: %v", err)
		}
		if err == nil {
			_, err = io.ReadAll(q.Body)
			if err == nil {
				err = r.ReadRequest(&q) // the end of STDIN is missing
			}
		}
		if n > 0 && err != io.ErrUnexpectedEOF && !strings.Contains(err.Error(), "unexpected EOF") {
			t.Errorf("%d of %d bytes: %v", n, len(req), err)
		}
	}
	res := rec(fastcgi.TypeStderr, 1, "err") + rec(fastcgi.TypeStdout, 1, okHead) + response(1, "body")
	closed := len(res) - 16 // all but END_REQUEST is a response of applications that close
	for n := range len(res) {
		_, _, err := responseFrom(res[:n])
		switch {
		case n == 0:
			if err != io.EOF {
				t.Errorf("nothing: %v", err)
			}
		case n == closed:
			if err != nil {
				t.Errorf("without END_REQUEST: %v", err)
			}
		default:
			if err == nil {
				t.Errorf("%d of %d bytes look whole", n, len(res))
				continue
			}
			want(t, err, gateway.ErrTruncated)
			want(t, err, io.ErrUnexpectedEOF)
		}
	}
	for n := range len(res) {
		if n == closed {
			continue
		}
		if o := received(t, res[:n]); o.err == nil {
			t.Errorf("client: %d of %d bytes look whole", n, len(res))
		}
	}
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
