package fastcgi_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

func TestRecordHeader(t *testing.T) {
	t.Run("a header round trip [055]", func(t *testing.T) {
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
	t.Run("content and padding over 65535 bytes together [056 F4]", func(t *testing.T) {
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
	t.Run("a version other than 1 [058 F49]", func(t *testing.T) {
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
	t.Run("the reserved byte is ignored [059]", func(t *testing.T) {
		if _, err := fromBytes(get(1, false)); err != nil { // rec sets it
			t.Error(err)
		}
		b, _ := fastcgi.AppendHeader(nil, fastcgi.RecordHeader{Type: fastcgi.TypeStdin, ID: 1})
		if b[7] != 0 {
			t.Errorf("written as %d", b[7])
		}
	})
	t.Run("reserved bytes of bodies are ignored [060]", func(t *testing.T) {
		e := []byte(response(1, okHead+"x"))
		copy(e[len(e)-3:], "\xff\xee\xdd")
		if o := received(t, string(e)); o.err != nil || o.body != "x" {
			t.Errorf("%q, %v", o.body, o.err)
		}
		s := serve(t, &fastcgi.Server{Handler: echo})
		s.must(1) // begin sets them
	})
	t.Run("padding on every type, also on empty records [061 062 153]", func(t *testing.T) {
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
}

func TestRecordMemory(t *testing.T) {
	t.Run("no decoder allocates from a length [065 F5]", func(t *testing.T) {
		var before, after, worst uint64
		b := []byte("\xff\xff\xff\xff\xff\xff\xff\xff0123456789")
		for range 100 {
			before = heapBytes()
			var p gateway.Params
			if n, err := fastcgi.ConsumeParams(b, &p); n != 0 || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
			after = heapBytes()
			worst = max(worst, after-before)
		}
		if worst > 1<<20 {
			t.Errorf("%d bytes allocated", worst)
		}
	})
}
