package fastcgi_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

// The tests here hold single lines of the server: each was written because the line could be taken
// out and nothing failed.

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

func TestRequestBody(t *testing.T) {
	t.Run("the handler does not read its body [145 F2]", func(t *testing.T) {
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
	t.Run("a body of another length than CONTENT_LENGTH [146 F2]", func(t *testing.T) {
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
	t.Run("excess bytes that were queued [146 F2]", func(t *testing.T) {
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
}

func TestRequestRoles(t *testing.T) {
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
}

func TestRequestEnds(t *testing.T) {
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
}

// ABORT_REQUEST after part of a response once ended the connection and all its requests.
func TestAbortInMidResponse(t *testing.T) {
	s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		io.WriteString(w, "part")
		w.Flush()
		<-r.Context().Done()
		_, err := io.WriteString(w, "more")
		return err
	}))
	s.send(get(1, true))
	s.next()
	s.send(rec(fastcgi.TypeAbort, 1, ""))
	if r := s.reply(1); strings.Contains(r.stdout, "more") || r.end.Status != fastcgi.StatusComplete {
		t.Errorf("%+v", r)
	}
	s.alive()
}
