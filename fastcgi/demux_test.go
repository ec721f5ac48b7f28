package fastcgi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

func TestServerRecords(t *testing.T) {
	t.Run("STDIN before the end of PARAMS [122]", func(t *testing.T) {
		s := serve(t, &fastcgi.Server{Handler: echo})
		s.send(begin(1, 1, true) + rec(fastcgi.TypeParams, 1, pairs("A", "1")) + stdin(1, "x"))
		s.closed()
	})
	t.Run("PARAMS after their end [123]", func(t *testing.T) {
		h := newHold()
		s := serve(t, &fastcgi.Server{Handler: h})
		defer close(h.release)
		s.send(getPath(1, true, "/"))
		<-h.started
		s.send(rec(fastcgi.TypeParams, 1, pairs("A", "1")))
		s.closed()
	})
	t.Run("params over the limit [124 F35 F17]", func(t *testing.T) {
		s := serve(t, &fastcgi.Server{Handler: echo, MaxHeadBytes: 1000})
		s.send(begin(1, 1, true) + rec(fastcgi.TypeParams, 1, pairs("A", strings.Repeat("v", 990))) + rec(fastcgi.TypeParams, 1, pairs("B", "1234567")))
		if r := s.reply(1); r.status() != "431 Request Header Fields Too Large" || r.end.Status != fastcgi.StatusComplete {
			t.Errorf("%+v", r)
		}
		s.closed()
		many := rec(fastcgi.TypeParams, 1, "")
		var all strings.Builder
		for i := range 1001 {
			all.WriteString(pairs(fmt.Sprintf("N%d", i), ""))
		}
		s = serve(t, &fastcgi.Server{Handler: echo})
		s.send(begin(1, 1, true) + rec(fastcgi.TypeParams, 1, all.String()) + many)
		if r := s.reply(1); !strings.HasPrefix(r.status(), "431") {
			t.Errorf("%+v", r)
		}
		s = serve(t, &fastcgi.Server{Handler: echo})
		s.send(begin(1, 1, true) + rec(fastcgi.TypeParams, 1, pairs("A", "1")+"\x05\x05abc") + rec(fastcgi.TypeParams, 1, ""))
		s.closed() // a pair is cut
	})
	t.Run("the default limit of params [124]", func(t *testing.T) {
		s := serve(t, &fastcgi.Server{Handler: echo})
		value := strings.Repeat("v", 60000)
		s.send(begin(1, 1, false))
		for i := range 18 { // 1,080,000 bytes, more than 1 MiB
			s.send(rec(fastcgi.TypeParams, 1, pairs("HTTP_X_"+strconv.Itoa(i), value)))
		}
		if r := s.reply(1); r.status() != "431 Request Header Fields Too Large" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("BEGIN_REQUEST of another length [125]", func(t *testing.T) {
		for _, content := range []string{"", "\x00\x01\x00\x00\x00\x00\x00", "\x00\x01\x00\x00\x00\x00\x00\x00\x00"} {
			s := serve(t, &fastcgi.Server{Handler: echo})
			s.send(rec(fastcgi.TypeBegin, 1, content))
			s.closed()
		}
	})
	t.Run("id 0, and an active id [126]", func(t *testing.T) {
		s := serve(t, &fastcgi.Server{Handler: echo})
		s.send(begin(0, 1, true))
		s.closed()
		s = serve(t, &fastcgi.Server{Handler: echo})
		s.send(begin(1, 1, true) + begin(1, 1, true))
		s.closed()
		for _, typ := range []fastcgi.Type{fastcgi.TypeStdin, fastcgi.TypeParams, fastcgi.TypeAbort, fastcgi.TypeStdout} {
			s = serve(t, &fastcgi.Server{Handler: echo})
			s.send(rec(typ, 0, ""))
			s.closed()
		}
		s = serve(t, &fastcgi.Server{Handler: echo})
		s.send(rec(fastcgi.TypeGetValues, 1, ""))
		s.closed()
	})
	t.Run("an unknown role [127]", func(t *testing.T) {
		for _, role := range []gateway.Role{0, 2, 3, 9} {
			s := serve(t, &fastcgi.Server{Handler: echo})
			s.send(begin(5, role, true))
			if r := s.reply(5); r.status() != "501 Not Implemented" || r.end.Status != fastcgi.StatusComplete {
				t.Errorf("role %d: %+v", role, r)
			}
			s.send(rec(fastcgi.TypeParams, 5, pairs("A", "1")) + rec(fastcgi.TypeParams, 5, "") + stdin(5, "x") + stdin(5, ""))
			s.must(6)
			s = serve(t, &fastcgi.Server{Handler: echo, BareEnd: true})
			s.send(begin(5, role, true))
			if r := s.reply(5); r.stdout != "" || r.end.Status != fastcgi.StatusUnknownRole {
				t.Errorf("role %d: %+v", role, r)
			}
		}
	})
	t.Run("records of inactive ids [130 137]", func(t *testing.T) {
		s := serve(t, &fastcgi.Server{Handler: echo})
		s.send(stdin(7, "x") + rec(fastcgi.TypeAbort, 7, "") + rec(fastcgi.TypeAbort, 8, "content") + rec(fastcgi.TypeParams, 9, "garbage"))
		s.must(1)
	})
	t.Run("unknown management types [131]", func(t *testing.T) {
		for _, typ := range []fastcgi.Type{0, 12, 255} {
			s := serve(t, &fastcgi.Server{Handler: echo})
			s.send(rec(typ, 0, "whatever"))
			rec, _ := s.next()
			if rec.Type != fastcgi.TypeUnknown || rec.ID != 0 || string(rec.Content) != string([]byte{byte(typ), 0, 0, 0, 0, 0, 0, 0}) {
				t.Errorf("%v %q", rec.Type, rec.Content)
			}
			s.must(1)
		}
	})
	t.Run("unknown types of an active id [132]", func(t *testing.T) {
		s := serve(t, &fastcgi.Server{Handler: echo})
		s.send(begin(1, 1, true) + rec(99, 1, "what") + rec(fastcgi.TypeParams, 1, pairs("REQUEST_METHOD", "PUT")) +
			rec(0, 1, "what") + rec(fastcgi.TypeParams, 1, "") + rec(99, 1, "what") + rec(fastcgi.TypeData, 1, "what") + stdin(1, "b") + stdin(1, ""))
		if r := s.reply(1); r.body() != `PUT -1 "b" <nil>` {
			t.Errorf("%+v", r)
		}
	})
	t.Run("GET_VALUES [133]", func(t *testing.T) {
		for _, srv := range []*fastcgi.Server{{Handler: echo}, {Handler: echo, MaxConns: 7, MaxRequests: 9}} {
			s := serve(t, srv)
			conns, reqs := "10000", "256"
			if srv.MaxConns > 0 {
				conns, reqs = "7", "9"
			}
			asked := pairs("FCGI_MPXS_CONNS", "", "UNKNOWN", "", "FCGI_MAX_CONNS", "", "FCGI_MAX_REQS", "", "FCGI_MAX_REQS", "x")
			s.send(rec(fastcgi.TypeGetValues, 0, asked))
			got, _ := s.next()
			expect := pairs("FCGI_MPXS_CONNS", "1", "FCGI_MAX_CONNS", conns, "FCGI_MAX_REQS", reqs)
			if got.Type != fastcgi.TypeGetValuesResult || got.ID != 0 || string(got.Content) != expect {
				t.Errorf("%v %q", got.Type, got.Content)
			}
			s.send(rec(fastcgi.TypeGetValues, 0, ""))
			if got, _ := s.next(); got.Type != fastcgi.TypeGetValuesResult || len(got.Content) != 0 {
				t.Errorf("%v %q", got.Type, got.Content)
			}
		}
		h := newHold()
		s := serve(t, &fastcgi.Server{Handler: h})
		defer close(h.release)
		s.send(getPath(1, true, "/"))
		<-h.started
		s.send(rec(fastcgi.TypeGetValues, 0, ""))
		if got, _ := s.next(); got.Type != fastcgi.TypeGetValuesResult {
			t.Errorf("while a handler runs: %v", got.Type)
		}
	})
	t.Run("GET_VALUES that is malformed or large [134 F32]", func(t *testing.T) {
		s := serve(t, &fastcgi.Server{Handler: echo})
		s.send(rec(fastcgi.TypeGetValues, 0, "\xff\xff\xff\xff\xff"))
		s.closed()
		s = serve(t, &fastcgi.Server{Handler: echo})
		s.send(rec(fastcgi.TypeGetValues, 0, strings.Repeat(pairs("FCGI_MAX_REQS", ""), 4000)))
		if got, _ := s.next(); string(got.Content) != pairs("FCGI_MAX_REQS", "256") {
			t.Errorf("%d bytes", len(got.Content))
		}
	})
	t.Run("ABORT_REQUEST [135 138 F38]", func(t *testing.T) {
		for _, wait := range []string{"body", "context", "nothing"} {
			result := make(chan error, 1)
			s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
				var err error
				switch wait {
				case "body":
					_, err = io.ReadAll(r.Body)
				case "context":
					<-r.Context().Done()
					_, err = io.WriteString(w, "x")
				case "nothing":
					time.Sleep(50 * time.Millisecond)
					err = r.Context().Err()
				}
				result <- err
				return err
			}))
			s.send(head(1, 1, true, "CONTENT_LENGTH", "10") + stdin(1, "some") + rec(fastcgi.TypeAbort, 1, "ignored"))
			r := s.reply(1)
			if !strings.HasPrefix(r.status(), "5") || r.end.Status != fastcgi.StatusComplete {
				t.Errorf("%s: %+v", wait, r)
			}
			expect := gateway.ErrAborted
			if wait == "nothing" {
				expect = context.Canceled
			}
			want(t, <-result, expect)
			s.alive()
		}
		s := serve(t, &fastcgi.Server{Handler: echo})
		s.send(begin(1, 1, true) + rec(fastcgi.TypeAbort, 1, "")) // HAProxy
		if r := s.reply(1); !strings.Contains(r.stdout, "\r\n\r\n") {
			t.Errorf("%+v", r)
		}
		s.must(2)
	})
	t.Run("buffered input is discarded after ABORT_REQUEST [135]", func(t *testing.T) {
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			<-r.Context().Done()
			if n, err := r.Body.Read(make([]byte, 10)); n > 0 || !errors.Is(err, gateway.ErrAborted) {
				t.Errorf("%d, %v", n, err)
			}
			return nil
		}))
		s.send(head(1, 1, true, "CONTENT_LENGTH", "10") + stdin(1, "hello"))
		time.Sleep(20 * time.Millisecond)
		s.send(rec(fastcgi.TypeAbort, 1, ""))
		s.reply(1)
	})
	t.Run("bytes of other protocols [297 F49]", func(t *testing.T) {
		for _, b := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "70:CONTENT_LENGTH\x00"} {
			s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
				t.Error("the handler was called")
				return nil
			}))
			s.send(b)
			s.closed()
			_, err := fromBytes(b)
			want(t, err, gateway.ErrMalformed)
			s = serve(t, &fastcgi.Server{Handler: echo})
			s.send(b[:1]) // the first byte is enough
			s.closed()
		}
	})
}
