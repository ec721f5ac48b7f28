package fastcgi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

func handler(f func(w gateway.ResponseWriter, r *gateway.Request) error) *fastcgi.Server {
	return &fastcgi.Server{Handler: gateway.HandlerFunc(f), Logger: quiet}
}

// hold is a handler that says what it was asked, and ends when it is told to.
type hold struct {
	started chan string
	release chan struct{}
}

func newHold() *hold { return &hold{make(chan string, 300), make(chan struct{})} }

func (h *hold) ServeGateway(w gateway.ResponseWriter, r *gateway.Request) error {
	h.started <- r.PathInfo()
	<-h.release
	_, err := io.WriteString(w, r.PathInfo())
	return err
}

func getPath(id uint16, keep bool, path string) string {
	return head(id, gateway.RoleResponder, keep, "REQUEST_METHOD", "GET", "PATH_INFO", path) + stdin(id, "")
}

// TestServerConformance is items 121 to 160 of the conformance list; 159 is in internal/integration.
func TestServerConformance(t *testing.T) {
	t.Run("the handler starts before STDIN [121]", func(t *testing.T) {
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			_, err := io.WriteString(w, "early")
			return err
		}))
		s.send(head(1, 1, false, "CONTENT_LENGTH", "5"))
		if r := s.reply(1); r.body() != "early" {
			t.Errorf("%+v", r)
		}
	})
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
	t.Run("a role we have not [127]", func(t *testing.T) {
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
	t.Run("several requests on a connection [128 148]", func(t *testing.T) {
		h := newHold()
		s := serve(t, &fastcgi.Server{Handler: h})
		s.send(head(1, 1, true, "PATH_INFO", "/one") + stdin(1, strings.Repeat("b", 40000)))
		<-h.started
		s.send(getPath(2, true, "/two") + getPath(3, true, "/three"))
		for range 2 {
			<-h.started
		}
		close(h.release)
		got := map[uint16]string{}
		var replies [4]reply
		for len(got) < 3 {
			rec, ok := s.next()
			if !ok {
				t.Fatal("closed")
			}
			r := &replies[rec.ID]
			if r.add(rec); r.ended {
				got[rec.ID] = r.body()
			}
		}
		if got[1] != "/one" || got[2] != "/two" || got[3] != "/three" {
			t.Errorf("%v", got)
		}
	})
	t.Run("too many requests [129 F35]", func(t *testing.T) {
		h := newHold()
		srv := &fastcgi.Server{Handler: h, MaxRequests: 1}
		s := serve(t, srv)
		s.send(getPath(1, true, "/one"))
		<-h.started
		s.send(getPath(2, true, "/two"))
		if r := s.reply(2); r.status() != "503 Service Unavailable" || r.end.Status != fastcgi.StatusComplete {
			t.Errorf("%+v", r)
		}
		close(h.release)
		if r := s.reply(1); r.body() != "/one" {
			t.Errorf("%+v", r)
		}
		h = newHold()
		s = serve(t, &fastcgi.Server{Handler: h, MaxRequests: 1, BareEnd: true})
		s.send(getPath(1, true, "/one"))
		<-h.started
		s.send(getPath(2, true, "/two"))
		if r := s.reply(2); r.stdout != "" || r.end.Status != fastcgi.StatusOverloaded {
			t.Errorf("%+v", r)
		}
		close(h.release)
		// Requests that are begun and left there are bounded too.
		s = serve(t, &fastcgi.Server{Handler: echo})
		for id := range uint16(257) {
			s.send(begin(id+1, 1, true))
		}
		if r := s.reply(257); !strings.HasPrefix(r.status(), "503") {
			t.Errorf("%+v", r)
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
	t.Run("GET_VALUES that is malformed or huge [134 F32]", func(t *testing.T) {
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
	t.Run("nothing after END_REQUEST [136 F36]", func(t *testing.T) {
		type leftovers struct {
			w      gateway.ResponseWriter
			header *gateway.Header
			r      *gateway.Request
			params *gateway.Params
			body   io.Reader
			ctx    context.Context
			err    io.Writer
		}
		kept := make(chan leftovers, 1)
		first := true
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			if first {
				first = false
				kept <- leftovers{w, w.Header(), r, &r.Params, r.Body, r.Context(), w.Stderr()}
				return nil
			}
			k := <-kept
			// What the first request's handler kept, used while the second is served.
			k.header.Set("X-Stale", "1")
			k.w.Header().Set("X-Stale", "2")
			k.w.WriteHeader(418)
			k.w.SetAppStatus(99)
			if k.params.Len() > 0 || k.r.Params.Get("HTTP_SECRET") != "" || k.r.Context().Err() == nil {
				t.Errorf("a dead request reads %v", list(k.params))
			}
			k.params.Set("HTTP_SECRET", "stale")
			if got := r.Params.Get("HTTP_SECRET"); got != "again" {
				t.Errorf("a dead request writes: %q", got)
			}
			if _, err := k.w.Write([]byte("stale")); err == nil {
				t.Error("a dead writer writes")
			}
			if _, err := k.w.(io.StringWriter).WriteString("stale"); err == nil {
				t.Error("a dead writer writes strings")
			}
			if err := k.w.Flush(); err == nil {
				t.Error("a dead writer flushes")
			}
			if _, err := k.err.Write([]byte("stale")); err == nil {
				t.Error("a dead STDERR writes")
			}
			if err := k.w.SetReadDeadline(time.Now()); err == nil {
				t.Error("a dead writer sets deadlines")
			}
			for _, body := range []io.Reader{k.body, k.r.Body} {
				if n, err := body.Read(make([]byte, 10)); n > 0 || err == nil {
					t.Error("a dead body reads")
				}
			}
			if k.ctx.Err() == nil || r.Context() == k.ctx || r.Context().Err() != nil {
				t.Error("the contexts are one")
			}
			body, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %v", body, err)
			return nil
		}))
		for id, body := range []string{"first", "again"} {
			s.send(head(1, 1, true, "CONTENT_LENGTH", "5", "HTTP_SECRET", body) + stdin(1, body) + stdin(1, ""))
			r := s.reply(1)
			if r.status() != "200 OK" || r.end.AppStatus != 0 || r.stderr != "" || id == 1 && r.body() != "again <nil>" ||
				strings.Contains(r.stdout, "X-Stale") {
				t.Errorf("%+v", r)
			}
		}
	})
	t.Run("streams and their ends [139 140 142]", func(t *testing.T) {
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			if r.PathInfo() == "/err" {
				io.WriteString(w.Stderr(), "oops")
			}
			io.WriteString(w, "a")
			io.WriteString(w, "b")
			w.Write(nil)
			w.Flush()
			w.Flush()
			_, err := io.WriteString(w, "c")
			return err
		}))
		s.send(getPath(300, true, "/"))
		r := s.reply(300)
		expect := []fastcgi.Type{fastcgi.TypeStdout, fastcgi.TypeStdout, fastcgi.TypeStdout, fastcgi.TypeEnd}
		if r.body() != "abc" || !slices.Equal(r.records, expect) {
			t.Errorf("%v %q", r.records, r.stdout)
		}
		s.send(getPath(301, true, "/err"))
		r = s.reply(301)
		expect = []fastcgi.Type{fastcgi.TypeStderr, fastcgi.TypeStdout, fastcgi.TypeStdout, fastcgi.TypeStdout, fastcgi.TypeStderr, fastcgi.TypeEnd}
		if r.stderr != "oops" || !slices.Equal(r.records, expect) {
			t.Errorf("%v %q", r.records, r.stderr)
		}
	})
	t.Run("large and empty writes [141]", func(t *testing.T) {
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			w.Write(nil)
			io.WriteString(w, "ab")
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return err
			}
			_, err := io.Copy(w.(io.ReaderFrom).(io.Writer), io.LimitReader(strings.NewReader(strings.Repeat("r", 100000)), 100000))
			return err
		}))
		s.send(get(1, true))
		var r reply
		for !r.ended {
			rec, ok := s.next()
			if !ok {
				t.Fatal("closed")
			}
			if rec.Type == fastcgi.TypeStdout && len(rec.Content) == 0 && len(r.body()) != 2+1<<20+100000 {
				t.Fatal("an empty record ended the stream")
			}
			r.add(rec)
		}
	})
	t.Run("without FCGI_KEEP_CONN [143]", func(t *testing.T) {
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			w.WriteHeader(413)
			return nil
		}))
		// The body still arrives when the response is there: closing at once would reset it away.
		s.send(head(1, 1, false, "CONTENT_LENGTH", "200000"))
		for range 3 {
			s.send(stdin(1, strings.Repeat("b", 60000)))
		}
		if r := s.reply(1); !strings.HasPrefix(r.status(), "413") {
			t.Errorf("%+v", r)
		}
		s.closed()
		s = serve(t, &fastcgi.Server{Handler: echo})
		s.send(get(1, false) + get(2, true))
		if all := s.rest(); len(all) != 1 {
			t.Errorf("%d responses", len(all))
		}
	})
	t.Run("with FCGI_KEEP_CONN [144]", func(t *testing.T) {
		s := serve(t, &fastcgi.Server{Handler: echo})
		for _, id := range []uint16{1, 1, 1, 3, 5, 65535} {
			s.must(id)
		}
		s.send(get(1, true) + get(3, true)) // pipelined
		for _, id := range []uint16{1, 3} {
			if r := s.reply(id); r.status() != "200 OK" {
				t.Errorf("%+v", r)
			}
		}
	})
	t.Run("what the handler left of its body [145 F2]", func(t *testing.T) {
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error { return nil }))
		for range 3 {
			s.send(head(1, 1, true, "CONTENT_LENGTH", "100000") + stdin(1, get(9, true)) + stdin(1, strings.Repeat("b", 60000)) +
				stdin(1, strings.Repeat("b", 40000-len(get(9, true)))) + stdin(1, ""))
			if r := s.reply(1); r.status() != "200 OK" {
				t.Errorf("%+v", r)
			}
		}
		s.must(2)
		// The drain is bounded.
		s.send(head(1, 1, true, "CONTENT_LENGTH", "10000000"))
		s.reply(1)
		conn := s.c
		go func() {
			for range 20 {
				io.WriteString(conn, stdin(1, strings.Repeat("b", 60000)))
			}
		}()
		s.closed()
		s = serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error { return nil }))
		s.send(head(1, 1, true, "CONTENT_LENGTH", "10"))
		s.reply(1)
		s.closed() // after a second in which nothing came
	})
	t.Run("a body of another length [146 F2]", func(t *testing.T) {
		s := serve(t, &fastcgi.Server{Handler: echo})
		s.send(head(1, 1, true, "REQUEST_METHOD", "PUT", "CONTENT_LENGTH", "5") + stdin(1, "hello"+get(9, true)) + stdin(1, ""))
		if r := s.reply(1); r.body() != `PUT 5 "hello" <nil>` {
			t.Errorf("%+v", r)
		}
		s.closed()
		s = serve(t, &fastcgi.Server{Handler: echo})
		s.send(head(1, 1, true, "REQUEST_METHOD", "PUT", "CONTENT_LENGTH", "5") + stdin(1, "hel") + stdin(1, ""))
		if r := s.reply(1); !strings.HasPrefix(r.body(), `PUT 5 "hel" `) || !strings.Contains(r.body(), "unexpected EOF") {
			t.Errorf("%+v", r)
		}
		req, err := fromBytes(head(1, 1, true, "CONTENT_LENGTH", "5") + stdin(1, "hel") + stdin(1, ""))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(req.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%v", err)
		}
		r := fastcgi.NewReader(strings.NewReader(head(1, 1, true, "CONTENT_LENGTH", "5") + stdin(1, "hello!") + stdin(1, "") + get(1, true)))
		if _, body, err := readRequest(r); string(body) != "hello" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
		_, _, err = readRequest(r)
		want(t, err, gateway.ErrMalformed)
	})
	t.Run("an unknown length [147 019 020]", func(t *testing.T) {
		for _, length := range [][]string{nil, {"CONTENT_LENGTH", ""}, {"CONTENT_LENGTH", "-1"}} {
			s := serve(t, &fastcgi.Server{Handler: echo})
			nv := append([]string{"REQUEST_METHOD", "PUT"}, length...)
			s.send(head(1, 1, true, nv...) + stdin(1, "hel") + stdin(1, "lo") + stdin(1, ""))
			if r := s.reply(1); r.body() != `PUT -1 "hello" <nil>` {
				t.Errorf("%v: %+v", length, r)
			}
			// The end of STDIN is there already: no body, not an unknown one.
			s.send(head(2, 1, true, nv...) + stdin(2, ""))
			if r := s.reply(2); r.body() != `PUT 0 "" <nil>` {
				t.Errorf("%v: %+v", length, r)
			}
		}
	})
	t.Run("a peer that is gone [149]", func(t *testing.T) {
		result := make(chan error, 1)
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			<-r.Context().Done()
			var err error
			for err == nil {
				_, err = w.Write(make([]byte, 1<<20))
			}
			result <- r.Context().Err()
			return err
		}))
		s.send(get(1, true))
		s.c.SetLinger(0)
		s.c.Close()
		want(t, <-result, context.Canceled)
		// One that has only closed its sending side gets its response.
		s = serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			<-r.Context().Done()
			_, err := io.WriteString(w, "still")
			return err
		}))
		s.send(get(1, false))
		s.c.CloseWrite()
		if r := s.reply(1); r.body() != "still" {
			t.Errorf("%+v", r)
		}
		s.closed()
		body := make(chan error, 1)
		s = serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			_, err := io.ReadAll(r.Body)
			body <- err
			return err
		}))
		s.send(head(1, 1, true, "CONTENT_LENGTH", "10") + stdin(1, "half"))
		s.c.CloseWrite()
		want(t, <-body, io.ErrUnexpectedEOF)
	})
	t.Run("who may connect [150 F14 F15 289]", allowed)
	t.Run("time-outs [151 299]", timeouts)
	t.Run("listeners [152 290]", listeners)
	t.Run("Authorizer [154]", func(t *testing.T) {
		s := serve(t, &fastcgi.Server{Authorizer: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			if r.Role != gateway.RoleAuthorizer || r.Body != gateway.NoBody {
				return fmt.Errorf("%v %v", r.Role, r.Body)
			}
			w.Header().Set("Variable-USER", "ali")
			return nil
		})})
		s.send(head(1, gateway.RoleAuthorizer, true, "REQUEST_METHOD", "GET")) // and no STDIN
		if r := s.reply(1); r.stdout != "Status: 200 OK\r\nVariable-USER: ali\r\n\r\n" {
			t.Errorf("%+v", r)
		}
		s.send(head(1, gateway.RoleAuthorizer, false, "CONTENT_LENGTH", "3") + stdin(1, ""))
		if r := s.reply(1); r.status() != "200 OK" {
			t.Errorf("%+v", r)
		}
		s.closed()
	})
	t.Run("Filter [155]", func(t *testing.T) {
		filter := gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			if r.PathInfo() == "/eager" {
				if _, err := io.WriteString(w, "out "); err != nil { // before STDIN is read
					return err
				}
			}
			data, err := io.ReadAll(r.Data)
			fmt.Fprintf(w, "%s %v %s", data, err, r.Params.Get("FCGI_DATA_LAST_MOD"))
			return nil
		})
		for _, path := range []string{"/", "/eager"} {
			s := serve(t, &fastcgi.Server{Filter: filter})
			s.send(head(1, gateway.RoleFilter, true, "PATH_INFO", path, "CONTENT_LENGTH", "4", "FCGI_DATA_LENGTH", "8", "FCGI_DATA_LAST_MOD", "1700000000") +
				stdin(1, "body") + stdin(1, "") + rec(fastcgi.TypeData, 1, "the ") + rec(fastcgi.TypeData, 1, "file and more") + rec(fastcgi.TypeData, 1, ""))
			if r := s.reply(1); strings.TrimPrefix(r.body(), "out ") != "the file <nil> 1700000000" {
				t.Errorf("%+v", r)
			}
		}
		s := serve(t, &fastcgi.Server{Filter: filter})
		s.send(head(1, gateway.RoleFilter, true, "FCGI_DATA_LENGTH", "8") + rec(fastcgi.TypeData, 1, "the file"))
		s.closed() // DATA before the end of STDIN
	})
	t.Run("a handler that fails [157 276 F38]", func(t *testing.T) {
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			switch r.PathInfo() {
			case "/panic":
				panic("secret")
			case "/late panic":
				io.WriteString(w, "partial")
				w.Flush()
				panic("secret")
			case "/buffered":
				io.WriteString(w, "partial")
				return gateway.ErrNoResponse
			case "/error":
				return gateway.ErrLengthRequired
			}
			return nil
		}))
		for path, status := range map[string]string{
			"/panic": "500 Internal Server Error", "/buffered": "502 Bad Gateway", "/error": "411 Length Required", "/": "200 OK",
		} {
			s.send(getPath(1, true, path))
			r := s.reply(1)
			if r.status() != status || r.body() != "" || strings.Contains(r.stderr, "secret") || (path == "/panic") != (r.stderr != "") {
				t.Errorf("%s: %+v", path, r)
			}
		}
		s.send(getPath(1, true, "/late panic"))
		all := s.rest()
		if r := all[1]; r == nil || r.body() != "partial" || r.ended || slices.Contains(r.records[1:], fastcgi.TypeStdout) {
			t.Errorf("%+v", r)
		}
	})
	t.Run("appStatus [158]", func(t *testing.T) {
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			w.SetAppStatus(0xdeadbeef)
			return nil
		}))
		s.send(get(1, true))
		if r := s.reply(1); r.end.AppStatus != 0xdeadbeef {
			t.Errorf("%+v", r)
		}
		s = serve(t, &fastcgi.Server{Handler: echo})
		s.send(get(1, true))
		if r := s.reply(1); r.end.AppStatus != 0 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("shutdown [160]", shutdown)
	t.Run("the head [265 268]", func(t *testing.T) {
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			switch r.PathInfo() {
			case "/bad":
				w.Header().Set("X", "a\r\nInjected: 1")
			case "/long", "/short":
				w.Header().Set("Content-Length", "3")
			case "/status":
				w.Header().Set("Status", "201 Other")
				w.WriteHeader(302)
				w.WriteHeader(404)
			case "/1xx":
				w.WriteHeader(103)
			case "/204":
				w.Header().Set("Content-Length", "5")
				w.WriteHeader(204)
				return nil
			case "/goexit":
				runtime.Goexit()
			}
			if r.PathInfo() == "/short" {
				_, err := io.WriteString(w, "ab")
				return err
			}
			_, err := io.WriteString(w, "abcd")
			return err
		}))
		for path, expect := range map[string]string{
			"/bad": "500 Internal Server Error", "/long": "500 Internal Server Error", "/short": "500 Internal Server Error",
			"/status": "302 Found", "/1xx": "500 Internal Server Error", "/204": "204 No Content", "/goexit": "500 Internal Server Error", "/": "200 OK",
		} {
			s.send(getPath(1, true, path))
			r := s.reply(1)
			if r.status() != expect || strings.Contains(r.stdout, "Injected") || strings.Contains(r.stdout, "201") {
				t.Errorf("%s: %q", path, r.stdout)
			}
		}
	})
	t.Run("a head that front ends may not take [273]", func(t *testing.T) {
		var log syncBuffer
		srv := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			w.Header().Set("X-Long", strings.Repeat("v", 5000))
			return nil
		})
		srv.Logger = slog.New(slog.NewTextHandler(&log, nil))
		s := serve(t, srv)
		for range 2 {
			s.send(get(1, true))
			if r := s.reply(1); len(r.stdout) < 5000 {
				t.Errorf("%d bytes", len(r.stdout))
			}
		}
		if n := strings.Count(log.String(), "4096"); n != 1 {
			t.Errorf("warned %d times: %s", n, log.String())
		}
	})
	t.Run("accepting that fails [F48]", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		srv := &fastcgi.Server{Handler: echo, Logger: quiet}
		failing := &failingListener{Listener: l}
		failing.left.Store(5)
		served := make(chan error, 1)
		begun := time.Now()
		go func() { served <- srv.Serve(failing) }()
		connect(t, l.Addr().String()).must(1)
		if failing.left.Load() >= 0 || time.Since(begun) < 50*time.Millisecond {
			t.Errorf("%d failures left after %v: it does not wait", failing.left.Load(), time.Since(begun))
		}
		srv.Close()
		want(t, <-served, gateway.ErrServerClosed)
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

// failingListener fails some times before it accepts, as one does that has no descriptors.
type failingListener struct {
	net.Listener
	left atomic.Int64
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, errors.New("accept: too many open files")
	}
	return l.Listener.Accept()
}

// syncBuffer is a log that goroutines share.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func allowed(t *testing.T) {
	for _, c := range []struct {
		peers []string
		let   bool
	}{
		{nil, true},
		{[]string{"127.0.0.0/8"}, true},
		{[]string{"127.0.0.2/32"}, false},
		{[]string{"::1/128", "10.0.0.0/8"}, false},
	} {
		srv := &fastcgi.Server{Handler: echo}
		for _, p := range c.peers {
			srv.Peers = append(srv.Peers, netip.MustParsePrefix(p))
		}
		s := serve(t, srv)
		if c.let {
			s.must(1)
		} else {
			s.closed()
		}
	}
	for list, expect := range map[string]string{
		"127.0.0.1": "in", "127.0.0.2, 127.0.0.1": "in", "::ffff:127.0.0.1": "in", "127.0.0.2": "out",
		"": "error", "localhost": "error", "127.0.0.1,": "error", "127.0.0.1/8": "error",
	} {
		t.Setenv("FCGI_WEB_SERVER_ADDRS", list)
		srv := &fastcgi.Server{Handler: echo, Logger: quiet}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(l) }()
		if expect == "error" {
			if err := <-served; err == nil || errors.Is(err, gateway.ErrServerClosed) {
				t.Errorf("%q: %v", list, err)
			}
			continue
		}
		s := connect(t, l.Addr().String())
		if expect == "in" {
			s.must(1)
		} else {
			s.closed()
		}
		srv.Close()
		<-served
	}
	// A peer without an IP address is not in any list, section 3.2.
	t.Setenv("FCGI_WEB_SERVER_ADDRS", "127.0.0.1")
	path := socketDir(t) + "/s"
	srv := &fastcgi.Server{Handler: echo, Logger: quiet}
	l, err := new(fastcgi.Server).Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(l)
	defer srv.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(limit))
	if n, err := c.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		t.Errorf("%d, %v", n, err)
	}
}

// pipeServer serves one end of a pipe and gives the other.
func pipeServer(ctx context.Context, srv *fastcgi.Server) (c net.Conn, served chan error) {
	ours, theirs := net.Pipe()
	served = make(chan error, 1)
	go func() { served <- srv.ServeConn(ctx, theirs) }()
	return ours, served
}

func timeouts(t *testing.T) {
	for _, c := range []struct {
		name, in string
		trickle  string // goes on, a byte a second
		after    time.Duration
	}{
		{"nothing comes", "", "", 2 * time.Minute},
		{"a header does not end", "\x01", "", 10 * time.Second},
		{"a header byte by byte", "", begin(1, 1, true) + rec(fastcgi.TypeParams, 1, pairs("LONG", "PARAM")), 11 * time.Second},
		{"params do not end", begin(1, 1, true) + rec(fastcgi.TypeParams, 1, pairs("A", "1")), "", 10 * time.Second},
		{"params byte by byte", begin(1, 1, true) + rec(fastcgi.TypeParams, 1, strings.Repeat("x", 0xff))[:8], strings.Repeat("x", 100), 10 * time.Second},
		{"nothing after a response", get(1, true), "", 2 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			conn, served := pipeServer(t.Context(), &fastcgi.Server{Handler: echo, Logger: quiet})
			defer conn.Close()
			begun := time.Now()
			go io.Copy(io.Discard, conn)
			go func() {
				io.WriteString(conn, c.in)
				for i := range c.trickle {
					time.Sleep(time.Second)
					io.WriteString(conn, c.trickle[i:i+1])
				}
			}()
			<-served
			if took := time.Since(begun); took < c.after-time.Second || took > c.after+2*time.Second {
				t.Errorf("%s: closed after %v, want %v", c.name, took, c.after)
			}
			time.Sleep(time.Hour)
		})
	}
	synctest.Test(t, func(t *testing.T) { // a peer that does not read
		conn, served := pipeServer(t.Context(), handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			_, err := w.Write(make([]byte, 1<<20))
			return err
		}))
		defer conn.Close()
		begun := time.Now()
		io.WriteString(conn, get(1, true))
		<-served
		if took := time.Since(begun); took < 50*time.Second || took > 70*time.Second {
			t.Errorf("closed after %v", took)
		}
		time.Sleep(time.Hour)
	})
	synctest.Test(t, func(t *testing.T) { // a handler's own deadline
		for _, slow := range []bool{false, true} {
			conn, served := pipeServer(t.Context(), handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
				if slow {
					r.Context().Done() // another goroutine reads the connection now
					time.Sleep(time.Second)
				}
				if err := w.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
					return err
				}
				begun := time.Now()
				_, err := io.ReadAll(r.Body)
				if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) != 3*time.Second {
					t.Errorf("slow %v: %v after %v", slow, err, time.Since(begun))
				}
				w.SetReadDeadline(time.Time{})
				b, err := io.ReadAll(r.Body)
				fmt.Fprintf(w, "%s %v", b, err)
				return nil
			}))
			go func() {
				io.WriteString(conn, head(1, 1, false, "CONTENT_LENGTH", "4")+stdin(1, "a"))
				time.Sleep(10 * time.Second)
				io.WriteString(conn, stdin(1, "bcd")+stdin(1, ""))
			}()
			var res gateway.Response
			if err := fastcgi.NewReader(conn).ReadResponse(&res); err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(res.Body); string(b) != "bcd <nil>" {
				t.Errorf("slow %v: %q, %v", slow, b, err)
			}
			conn.Close()
			<-served
		}
		time.Sleep(time.Hour)
	})
}

func listeners(t *testing.T) {
	dir := socketDir(t)
	path := filepath.Join(dir, "s")
	l, err := (&fastcgi.Server{SocketMode: 0o600}).Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := new(fastcgi.Server).Listen("unix:" + path); err == nil {
		t.Error("took the socket of a server that lives")
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	l, err = new(fastcgi.Server).Listen("unix:" + path) // a stale one is replaced
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	l.Close()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := new(fastcgi.Server).Listen("unix:" + file); err == nil {
		t.Error("a file that is no socket was replaced")
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Error("a file that is no socket was touched")
	}
	for _, addr := range []string{"", "nowhere", "unix:", "fd:", "fd:x", "fd:-1", "fd:999", "systemd:"} {
		if l, err := new(fastcgi.Server).Listen(addr); err == nil {
			l.Close()
			t.Errorf("%q: no error", addr)
		}
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	f, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	if fastcgi.Started() {
		t.Error("the test was not started as a FastCGI application")
	}
	for _, addr := range []string{"fd:0", "fd:3", "systemd:", "systemd:web", "systemd:other"} {
		inherits(t, f, tcp.Addr().String(), addr)
	}
}

// inherits starts this program with a listening socket, as a spawner or a service manager does.
func inherits(t *testing.T, f *os.File, at, addr string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "GATEHOUSE_TEST_PEER=inherited "+addr+" 0", "LISTEN_FDS=2", "LISTEN_FDNAMES=admin:web")
	if addr == "fd:0" {
		cmd.Stdin = f
	} else {
		cmd.ExtraFiles = []*os.File{f, f} // descriptors 3 and 4
	}
	var out syncBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		if t.Failed() {
			t.Logf("%s: %s", addr, out.String())
		}
	}()
	if addr == "systemd:other" {
		<-ended
		if !strings.Contains(out.String(), "no socket of that name") {
			t.Errorf("%s: %s", addr, out.String())
		}
		return
	}
	s := connect(t, at)
	s.send(head(1, 1, false, "REQUEST_METHOD", "GET", "REQUEST_URI", "/", "HTTP_HOST", "h") + stdin(1, ""))
	if r := s.reply(1); r.body() != "hello, world\n" {
		t.Errorf("%s: %+v %s", addr, r, out.String())
	}
	cmd.Process.Kill()
	<-ended
}

func shutdown(t *testing.T) {
	h := newHold()
	srv := &fastcgi.Server{Handler: h, Logger: quiet}
	busy := serve(t, srv)
	idle := connect(t, busy.c.RemoteAddr().String())
	busy.send(getPath(1, true, "/busy"))
	<-h.started
	idle.send(getPath(1, true, "/idle"))
	<-h.started
	h.release <- struct{}{}
	h.release <- struct{}{}
	busy.reply(1)
	idle.reply(1)
	busy.send(getPath(3, true, "/last"))
	<-h.started
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		done <- srv.Shutdown(ctx)
	}()
	idle.closed()
	select {
	case err := <-done:
		t.Errorf("did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if _, err := net.Dial("tcp", busy.c.RemoteAddr().String()); err == nil {
		t.Error("still accepts")
	}
	close(h.release)
	if r := busy.reply(3); r.body() != "/last" {
		t.Errorf("%+v", r)
	}
	busy.closed()
	if err := <-done; err != nil {
		t.Error(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	want(t, srv.Serve(l), gateway.ErrServerClosed)

	// Run ends with its context; a request that does not end is cut at the time-out.
	h = newHold()
	defer close(h.release)
	path := socketDir(t) + "/s"
	srv = &fastcgi.Server{Handler: h, Logger: quiet, ShutdownTimeout: 20 * time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- srv.Run(ctx, "unix:"+path) }()
	var c net.Conn
	for range 1000 {
		if c, err = net.Dial("unix", path); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, getPath(1, true, "/stuck"))
	<-h.started
	cancel()
	want(t, <-done, context.DeadlineExceeded)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

// TestLife listens, serves and shuts down.
func TestLife(t *testing.T) {
	conformance.Life(t, "fastcgi", func(h gateway.Handler) conformance.Listener {
		return &fastcgi.Server{Handler: h, SocketMode: 0o600, BaseContext: conformance.Base, ConnContext: conformance.PerConn, Logger: quiet}
	}, func(addr string) gateway.RoundTripper { return &fastcgi.Client{Addr: addr, Logger: quiet} })
}

// TestAbortIsSeen: a handler that does nothing but run learns of ABORT_REQUEST, and of a lost peer, within 10 ms; one
// that asked for Done learns at once.
func TestAbortIsSeen(t *testing.T) {
	for _, asks := range []bool{false, true} {
		for _, what := range []string{rec(fastcgi.TypeAbort, 1, ""), ""} {
			synctest.Test(t, func(t *testing.T) {
				var sent, seen time.Time
				conn, served := pipeServer(t.Context(), handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
					ctx := r.Context()
					if asks {
						<-ctx.Done()
					}
					for ctx.Err() == nil {
						time.Sleep(time.Millisecond)
					}
					seen = time.Now()
					return ctx.Err()
				}))
				go func() {
					io.WriteString(conn, get(1, true))
					time.Sleep(100*time.Millisecond + 137*time.Microsecond)
					sent = time.Now()
					if what == "" {
						conn.Close()
						return
					}
					io.WriteString(conn, what)
					io.Copy(io.Discard, conn)
				}()
				time.Sleep(time.Second)
				synctest.Wait()
				most := 10 * time.Millisecond
				if asks {
					most = 0
				}
				if took := seen.Sub(sent); seen.IsZero() || took > most {
					t.Errorf("asks %v, %q: seen %v after", asks, what, took)
				}
				conn.Close()
				<-served
				time.Sleep(time.Minute)
			})
		}
	}
}

// TestFlowControl: a handler that does not read holds up the others only when what waits for it is full.
func TestFlowControl(t *testing.T) {
	h := newHold()
	s := serve(t, &fastcgi.Server{Handler: h})
	s.send(head(1, 1, true, "PATH_INFO", "/lazy"))
	<-h.started
	s.send(stdin(1, strings.Repeat("b", 60000)) + getPath(2, true, "/quick"))
	if path := <-h.started; path != "/quick" {
		t.Errorf("%s", path)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range 400 {
			io.WriteString(s.c, stdin(1, strings.Repeat("b", 60000)))
		}
	}()
	select {
	case <-sent:
		t.Error("24 MB were taken for a handler that does not read")
	case <-time.After(100 * time.Millisecond):
	}
	close(h.release)
	var wg sync.WaitGroup
	wg.Go(func() { s.rest() })
	<-sent
	s.c.Close()
	wg.Wait()
}

// TestInterim: 1xx responses go out where the server says the peer takes them.
func TestInterim(t *testing.T) {
	for _, interim := range []bool{false, true} {
		srv := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			var h gateway.Header
			h.Set("Link", "</style.css>; rel=preload")
			err := w.WriteInterim(103, &h)
			if errors.Is(err, errors.ErrUnsupported) == interim {
				t.Errorf("interim %v: %v", interim, err)
			}
			if err := w.WriteInterim(101, nil); err == nil {
				t.Error("101 is no interim response")
			}
			var bad gateway.Header
			bad.Add("X", "a\r\nb")
			if err := w.WriteInterim(103, &bad); err == nil {
				t.Error("269: a field with a line end")
			}
			_, err = io.WriteString(w, "final")
			return err
		})
		srv.SendInterim = interim
		s := serve(t, srv)
		var got []string
		r := request(t, "GET", "")
		r.Interim = func(status int, h *gateway.Header) error {
			got = append(got, fmt.Sprint(status, h.Get("Link")))
			return nil
		}
		o := ask(t, &fastcgi.Client{Addr: s.c.RemoteAddr().String()}, r)
		if o.err != nil || o.body != "final" || o.res.Status != 200 || (len(got) == 1) != interim {
			t.Errorf("interim %v: %d %q %v %v", interim, o.res.Status, o.body, o.err, got)
		}
		if o := ask(t, &fastcgi.Client{Addr: s.c.RemoteAddr().String()}, request(t, "GET", "")); o.err != nil || o.body != "final" {
			t.Errorf("dropped: %q, %v", o.body, o.err)
		}
		failed := errors.New("failed")
		r.Interim = func(int, *gateway.Header) error { return failed }
		if o := ask(t, &fastcgi.Client{Addr: s.c.RemoteAddr().String()}, r); errors.Is(o.err, failed) != interim {
			t.Errorf("interim %v, which the caller fails: %v", interim, o.err)
		}
	}
}
