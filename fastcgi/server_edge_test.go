package fastcgi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

// The tests here hold single lines of the server: each was written because the line could be taken out and nothing failed.

// ending reads to the end of the connection without an error.
func (s *session) ending() {
	s.t.Helper()
	if b, err := io.ReadAll(s.c); err != nil || len(b) > 0 {
		s.t.Errorf("%d bytes, %v, want the end", len(b), err)
	}
}

// watched waits until the server reads the connection beside the handler.
func watched(r *gateway.Request) {
	r.Context().Done()
	time.Sleep(20 * time.Millisecond)
}

func TestServerEdges(t *testing.T) {
	t.Run("excess that was queued [146 F2]", func(t *testing.T) {
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			watched(r)
			b, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%q %v", b, err)
			return nil
		}))
		s.send(head(1, 1, true, "CONTENT_LENGTH", "5") + stdin(1, "hello"+get(9, true)) + stdin(1, ""))
		if r := s.reply(1); r.body() != `"hello" <nil>` {
			t.Errorf("%q", r.body())
		}
	})
	t.Run("a request that is over counts no more [129]", func(t *testing.T) {
		s := serve(t, &fastcgi.Server{Handler: echo, MaxRequests: 1})
		for id := range uint16(5) {
			s.must(id + 1)
		}
	})
	t.Run("no new request after Shutdown [129 160]", func(t *testing.T) {
		running, release := make(chan struct{}), make(chan struct{})
		calls := 0
		srv := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			calls++
			close(running)
			<-release
			return nil
		})
		s := serve(t, srv)
		s.send(get(1, true))
		<-running
		down := make(chan error, 1)
		go func() { down <- srv.Shutdown(t.Context()) }()
		time.Sleep(20 * time.Millisecond)
		s.send(get(5, true))
		if r := s.reply(5); r.status() != "503 Service Unavailable" {
			t.Errorf("%+v", r)
		}
		close(release)
		if r := s.reply(1); r.status() != "200 OK" || calls != 1 {
			t.Errorf("%+v, %d calls", r, calls)
		}
		if err := <-down; err != nil {
			t.Error(err)
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
	t.Run("the end comes with the response [143]", func(t *testing.T) {
		s := serve(t, &fastcgi.Server{Handler: echo})
		s.send(get(1, false))
		s.reply(1)
		s.c.SetReadDeadline(time.Now().Add(500 * time.Millisecond)) // before the drain is over
		s.ending()
	})
	t.Run("a cut response ends the connection under others [276]", func(t *testing.T) {
		held := make(chan struct{})
		defer close(held)
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			if r.PathInfo() == "/held" {
				<-held
				return nil
			}
			io.WriteString(w, "part")
			w.Flush()
			panic("on purpose")
		}))
		s.send(getPath(1, true, "/held") + getPath(2, true, "/cut"))
		all := s.rest()
		if r := all[2]; r == nil || r.ended || r.body() != "part" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("a Filter that skips STDIN, and its output [155]", func(t *testing.T) {
		s := serve(t, &fastcgi.Server{Filter: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			if r.PathInfo() == "/early" {
				io.WriteString(w, "early")
				return w.Flush()
			}
			b, err := io.ReadAll(r.Data)
			fmt.Fprintf(w, "%s %v", b, err)
			return nil
		}), Logger: quiet})
		data := func(id uint16, content string) string { return rec(fastcgi.TypeData, id, content) }
		long := stdin(1, strings.Repeat("i", 60000)) + stdin(1, strings.Repeat("i", 40000)) + stdin(1, "")
		s.send(head(1, 3, true, "CONTENT_LENGTH", "100000", "FCGI_DATA_LENGTH", "4") + long + data(1, "data") + data(1, ""))
		if r := s.reply(1); r.body() != "data <nil>" {
			t.Errorf("%+v", r)
		}
		s.send(head(2, 3, true, "PATH_INFO", "/early", "CONTENT_LENGTH", "5", "FCGI_DATA_LENGTH", "0") + stdin(2, "inp"))
		s.c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, _ := s.c.Read(make([]byte, 1)); n > 0 {
			t.Error("output before the end of STDIN")
		}
		s.send(stdin(2, "ut") + stdin(2, "") + data(2, ""))
		if r := s.reply(2); r.body() != "early" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("STDIN after its end [145]", func(t *testing.T) {
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			<-r.Context().Done()
			return nil
		}))
		s.send(head(1, 1, true, "CONTENT_LENGTH", "10") + stdin(1, "hel") + stdin(1, "") + stdin(1, "lo"))
		if r := s.rest()[1]; r != nil && r.ended {
			t.Errorf("%+v", r)
		}
	})
	t.Run("the drain begins anew with each request [145]", func(t *testing.T) {
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error { return nil }))
		for range 4 {
			s.send(head(1, 1, true, "CONTENT_LENGTH", "100001") + stdin(1, strings.Repeat("x", 50000)) + stdin(1, strings.Repeat("x", 50000)))
			s.reply(1)
		}
		s.send(stdin(1, ""))
		s.must(2)
	})
	t.Run("responses to nothing that was asked [131 133]", func(t *testing.T) {
		s := serve(t, &fastcgi.Server{Handler: echo, MaxRequests: 1000})
		s.send(rec(fastcgi.TypeGetValuesResult, 0, "") + rec(fastcgi.TypeUnknown, 0, "\x09\x00\x00\x00\x00\x00\x00\x00"))
		s.must(1)
		s.send(rec(fastcgi.TypeGetValues, 0, pairs("FCGI_MAX_REQS", "")))
		if rec, _ := s.next(); string(rec.Content) != pairs("FCGI_MAX_REQS", "256") {
			t.Errorf("%v %q", rec.Type, rec.Content)
		}
	})
	t.Run("the limit that stands by itself [124]", func(t *testing.T) {
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
	t.Run("bodies and what their heads promise [268]", func(t *testing.T) {
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
	t.Run("what waits is not read after ABORT_REQUEST [135]", func(t *testing.T) {
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

// TestServerReuse: what one request left in the memory that the next one uses does not reach it.
func TestServerReuse(t *testing.T) {
	s := serve(t, &fastcgi.Server{Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		switch r.PathInfo() {
		case "/abort":
			<-r.Context().Done()
		case "/status":
			w.SetAppStatus(5)
		case "/stderr":
			io.WriteString(w.Stderr(), "words")
		case "/deadlines":
			w.SetReadDeadline(time.Now().Add(-time.Second))
			w.SetWriteDeadline(time.Now().Add(time.Minute))
			r.Body.Read(make([]byte, 1))
			w.SetReadDeadline(time.Time{})
		case "/late":
			w.SetReadDeadline(time.Now().Add(-time.Second))
		case "/failed":
			return gateway.ErrParam
		case "/long":
			w.Header().Set("Content-Length", "1")
			io.WriteString(w, "xy")
		case "/queue":
			watched(r)
			r.Body.Read(make([]byte, 1))
		}
		if r.PathInfo() != "/plain" {
			return nil
		}
		watched(r)
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %v %v", b, err, r.Context().Err())
		return nil
	}), Filter: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		io.Copy(io.Discard, r.Data)
		return nil
	})})
	for _, path := range []string{"/abort", "/status", "/stderr", "/deadlines", "/late", "/failed", "/long", "/queue", "/filter"} {
		t.Run(path[1:], func(t *testing.T) {
			role := gateway.RoleResponder
			if path == "/filter" {
				role = gateway.RoleFilter
			}
			s.send(head(1, role, true, "PATH_INFO", path, "CONTENT_LENGTH", "5", "FCGI_DATA_LENGTH", "0") + stdin(1, "first"))
			switch path {
			case "/abort":
				s.send(rec(fastcgi.TypeAbort, 1, ""))
			case "/filter":
				s.send(stdin(1, "") + rec(fastcgi.TypeData, 1, ""))
			}
			s.reply(1)
			s.send(head(2, 1, true, "PATH_INFO", "/plain", "CONTENT_LENGTH", "6"))
			time.Sleep(40 * time.Millisecond) // the handler waits for it
			s.send(stdin(2, "second") + stdin(2, ""))
			r := s.reply(2)
			if r.body() != "second <nil> <nil>" || r.end.AppStatus != 0 || r.stderr != "" || strings.Contains(fmt.Sprint(r.records), "STDERR") {
				t.Errorf("%+v", r)
			}
		})
	}
}

// pipe is a connection in memory that counts what the server takes.
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

// TestServerBounds checks how much the server accepts of what its handlers do not read.
func TestServerBounds(t *testing.T) {
	play := func(t *testing.T, s *fastcgi.Server, input string) (taken int) {
		synctest.Test(t, func(t *testing.T) {
			s.Logger = quiet
			ours, theirs := net.Pipe()
			p := &pipe{Conn: theirs}
			done := make(chan struct{})
			go func() {
				defer close(done)
				s.ServeConn(context.Background(), p)
			}()
			go io.WriteString(ours, input)
			go io.Copy(io.Discard, ours)
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			taken = p.taken
			ours.Close()
			<-done
			time.Sleep(time.Second)
		})
		return taken
	}
	many := func(typ fastcgi.Type) string { return strings.Repeat(rec(typ, 1, strings.Repeat("x", 60000)), 10) }
	t.Run("a body that is not read [148]", func(t *testing.T) {
		var taken int
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			srv := &fastcgi.Server{Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
				<-release
				return nil
			})}
			ours, theirs := net.Pipe()
			p := &pipe{Conn: theirs}
			go srv.ServeConn(context.Background(), p)
			go io.WriteString(ours, head(1, 1, true, "CONTENT_LENGTH", "600000")+many(fastcgi.TypeStdin))
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			taken = p.taken
			close(release)
			ours.Close()
			time.Sleep(time.Second)
		})
		if taken > 64<<10+16<<10 {
			t.Errorf("%d bytes taken", taken)
		}
	})
	t.Run("DATA that is not read [148 155]", func(t *testing.T) {
		var taken int
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			srv := &fastcgi.Server{Logger: quiet, Filter: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
				<-release
				return nil
			})}
			ours, theirs := net.Pipe()
			p := &pipe{Conn: theirs}
			go srv.ServeConn(context.Background(), p)
			go io.WriteString(ours, head(1, 3, true, "CONTENT_LENGTH", "0", "FCGI_DATA_LENGTH", "600000")+stdin(1, "")+many(fastcgi.TypeData))
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			taken = p.taken
			close(release)
			ours.Close()
			time.Sleep(time.Second)
		})
		if taken > 64<<10+16<<10 {
			t.Errorf("%d bytes taken", taken)
		}
	})
	t.Run("the drain after a response [143 145]", func(t *testing.T) {
		srv := &fastcgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error { return nil })}
		taken := play(t, srv, head(1, 1, false, "CONTENT_LENGTH", "600000")+many(fastcgi.TypeStdin))
		if taken < 128<<10 || taken > 256<<10+64<<10 {
			t.Errorf("%d bytes taken", taken)
		}
	})
}

// TestServerTimes sets the limits that other tests leave at their defaults.
func TestServerTimes(t *testing.T) {
	run := func(t *testing.T, srv *fastcgi.Server, f func(t *testing.T, c net.Conn)) {
		synctest.Test(t, func(t *testing.T) {
			srv.Logger = quiet
			ours, theirs := net.Pipe()
			done := make(chan error, 1)
			go func() { done <- srv.ServeConn(context.Background(), theirs) }()
			f(t, ours)
			ours.Close()
			<-done
			time.Sleep(time.Second)
		})
	}
	// end returns after what time the connection ended.
	end := func(c net.Conn) time.Duration {
		begun := time.Now()
		io.Copy(io.Discard, c)
		return time.Since(begun)
	}
	t.Run("IdleTimeout [151]", func(t *testing.T) {
		run(t, &fastcgi.Server{Handler: echo, IdleTimeout: 7 * time.Second}, func(t *testing.T, c net.Conn) {
			if d := end(c); d != 7*time.Second {
				t.Errorf("ended after %v", d)
			}
		})
	})
	t.Run("WriteTimeout [151]", func(t *testing.T) {
		var failed chan time.Duration // made in the bubble
		run(t, &fastcgi.Server{WriteTimeout: 9 * time.Second, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			begun := time.Now()
			w.Write(make([]byte, 100000))
			failed <- time.Since(begun)
			return nil
		})}, func(t *testing.T, c net.Conn) {
			failed = make(chan time.Duration, 1)
			io.WriteString(c, get(1, true))
			if d := <-failed; d != 9*time.Second {
				t.Errorf("the write failed after %v", d)
			}
		})
	})
	t.Run("half a management record beside a handler [151]", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			srv := &fastcgi.Server{Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
				r.Context().Done()
				<-release
				return nil
			})}
			ours, theirs := net.Pipe()
			done := make(chan error, 1)
			go func() { done <- srv.ServeConn(context.Background(), theirs) }()
			io.WriteString(ours, get(1, true))
			io.WriteString(ours, rec(fastcgi.TypeGetValues, 0, pairs("FCGI_MAX_REQS", ""))[:12])
			if d := end(ours); d != 10*time.Second {
				t.Errorf("ended after %v", d)
			}
			close(release)
			if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
			time.Sleep(time.Second)
		})
	})
	t.Run("SetReadDeadline ends a Read that waits [151]", func(t *testing.T) {
		run(t, &fastcgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			time.AfterFunc(3*time.Second, func() { w.SetReadDeadline(time.Now()) })
			begun := time.Now()
			_, err := r.Body.Read(make([]byte, 1))
			fmt.Fprintf(w, "%v %v", time.Since(begun), errors.Is(err, os.ErrDeadlineExceeded))
			return nil
		})}, func(t *testing.T, c net.Conn) {
			go io.WriteString(c, head(1, 1, false, "CONTENT_LENGTH", "5"))
			r := fastcgi.NewReader(c)
			var res gateway.Response
			if err := r.ReadResponse(&res); err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(res.Body); string(b) != "3s true" {
				t.Errorf("%q", b)
			}
		})
	})
}

// TestShutdownTimesOut: what is left when the context ends is closed.
func TestShutdownTimesOut(t *testing.T) {
	begun, gone := make(chan struct{}), make(chan error, 1)
	srv := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		close(begun)
		select {
		case <-r.Context().Done():
			gone <- nil
		case <-time.After(limit):
			gone <- errors.New("the handler was told of nothing")
		}
		return nil
	})
	s := serve(t, srv)
	s.send(get(1, true))
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := <-gone; err != nil {
		t.Error(err)
	}
	if r := s.rest()[1]; r != nil && r.ended {
		t.Errorf("%+v", r)
	}
	ours, theirs := net.Pipe()
	defer ours.Close()
	if err := srv.ServeConn(t.Context(), theirs); !errors.Is(err, gateway.ErrServerClosed) {
		t.Errorf("ServeConn after Shutdown: %v", err)
	}
}
