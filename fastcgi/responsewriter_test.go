package fastcgi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

func TestResponseWriter(t *testing.T) {
	t.Run("nothing is sent after END_REQUEST [136 F36]", func(t *testing.T) {
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
	t.Run("an empty write after a flush [141]", func(t *testing.T) {
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			w.Flush()
			w.Write(nil)
			w.Flush()
			w.(io.StringWriter).WriteString("")
			w.Flush()
			_, err := io.WriteString(w, "c")
			return err
		}))
		s.send(get(1, true))
		// The head, "c" and one empty record: another would have ended the stream.
		if r := s.reply(1); r.body() != "c" || len(r.records) != 4 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("an empty write to STDERR [139]", func(t *testing.T) {
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			w.Stderr().Write(nil)
			return nil
		}))
		s.send(get(1, true))
		if r := s.reply(1); strings.Contains(fmt.Sprint(r.records), fastcgi.TypeStderr.String()) {
			t.Errorf("%v", r.records)
		}
	})
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
	t.Run("heads that web servers refuse [273]", func(t *testing.T) {
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
	t.Run("a head larger than a record [273 F3]", func(t *testing.T) {
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			w.Header().Set("X-Large", strings.Repeat("v", 40000))
			w.Header().Set("X-Larger", strings.Repeat("v", 30000))
			return nil
		}))
		s.send(get(1, true))
		if r := s.reply(1); r.status() != "500 Internal Server Error" {
			t.Errorf("%.40q", r.stdout)
		}
		s.alive()
	})
	t.Run("bodies that contradict their heads [268]", func(t *testing.T) {
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			switch r.PathInfo() {
			case "/long":
				w.Header().Set("Content-Length", "3")
				io.WriteString(w, "abc")
				w.Flush()
				if _, err := io.WriteString(w, "d"); err == nil {
					t.Error("a fourth byte of three")
				}
			case "/letters":
				w.Header().Set("Content-Length", "abc")
				io.WriteString(w, "abc")
			case "/304":
				w.Header().Set("Content-Length", "10")
				w.WriteHeader(304)
			case "/head":
				w.Header().Set("Content-Length", "10")
			}
			return nil
		}))
		for i, c := range []struct{ path, method, status, body string }{
			{"/long", "GET", "200 OK", "abc"},
			{"/letters", "GET", "500 Internal Server Error", ""},
			{"/304", "GET", "304 Not Modified", ""},
			{"/head", "HEAD", "200 OK", ""},
		} {
			id := uint16(i + 1)
			s.send(head(id, 1, true, "REQUEST_METHOD", c.method, "PATH_INFO", c.path) + stdin(id, ""))
			if r := s.reply(id); r.status() != c.status || r.body() != c.body {
				t.Errorf("%s: %+v", c.path, r)
			}
		}
	})
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
				t.Error("101 was sent as an interim response")
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

// The last flush of a response was once cut when the peer closed its sending side, or the server
// was shut down.
func TestLastFlush(t *testing.T) {
	big := make([]byte, 8<<20)
	for _, how := range []string{"half close", "shutdown"} {
		done := make(chan struct{}, 1)
		srv := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			defer func() { done <- struct{}{} }()
			_, err := w.Write(big)
			return err
		})
		s := serve(t, srv)
		s.send(get(1, false))
		time.Sleep(10 * time.Millisecond)
		switch how {
		case "half close":
			s.c.CloseWrite()
		case "shutdown":
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), limit)
				defer cancel()
				srv.Shutdown(ctx)
			}()
		}
		time.Sleep(10 * time.Millisecond)
		n := 0
		var r reply
		for !r.ended {
			rec, ok := s.next()
			if !ok {
				t.Fatalf("%s: cut after %d bytes", how, n)
			}
			if rec.Type == fastcgi.TypeStdout {
				n += len(rec.Content)
				rec.Content = nil
			}
			r.add(rec)
		}
		if n < len(big) {
			t.Errorf("%s: %d bytes", how, n)
		}
		<-done
	}
}

// SetWriteDeadline once waited for the Write that it was to end.
func TestSetWriteDeadlineEndsAWrite(t *testing.T) {
	ended := make(chan error, 1)
	s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		time.AfterFunc(50*time.Millisecond, func() { w.SetWriteDeadline(time.Now()) })
		_, err := w.Write(make([]byte, 64<<20))
		ended <- err
		return err
	}))
	s.send(get(1, true))
	select {
	case err := <-ended:
		if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
			t.Errorf("%v", err)
		}
	case <-time.After(limit):
		t.Error("the write goes on")
	}
}
