package fastcgi_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

// hold is a handler that reports its requests, and returns when the test allows it.
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

func TestServerConn(t *testing.T) {
	t.Run("the handler starts before STDIN ends [121]", func(t *testing.T) {
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			_, err := io.WriteString(w, "early")
			return err
		}))
		s.send(head(1, 1, false, "CONTENT_LENGTH", "5"))
		if r := s.reply(1); r.body() != "early" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("concurrent requests on a connection [128 148]", func(t *testing.T) {
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
	t.Run("more requests than MaxRequests [129 F35]", func(t *testing.T) {
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
	t.Run("without FCGI_KEEP_CONN the server closes [143]", func(t *testing.T) {
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
	t.Run("with FCGI_KEEP_CONN the connection is kept [144]", func(t *testing.T) {
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
	t.Run("a peer that disconnects [149]", func(t *testing.T) {
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
	t.Run("a finished request does not count [129]", func(t *testing.T) {
		s := serve(t, &fastcgi.Server{Handler: echo, MaxRequests: 1})
		for id := range uint16(5) {
			s.must(id + 1)
		}
	})
	t.Run("the end comes with the response [143]", func(t *testing.T) {
		s := serve(t, &fastcgi.Server{Handler: echo})
		s.send(get(1, false))
		s.reply(1)
		s.c.SetReadDeadline(time.Now().Add(500 * time.Millisecond)) // before the drain is over
		s.ending()
	})
	t.Run("a truncated response closes a connection that others use [276]", func(t *testing.T) {
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
	t.Run("each request has its own drain [145]", func(t *testing.T) {
		s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error { return nil }))
		for range 4 {
			s.send(head(1, 1, true, "CONTENT_LENGTH", "100001") + stdin(1, strings.Repeat("x", 50000)) + stdin(1, strings.Repeat("x", 50000)))
			s.reply(1)
		}
		s.send(stdin(1, ""))
		s.must(2)
	})
	t.Run("responses to requests that do not exist [131 133]", func(t *testing.T) {
		s := serve(t, &fastcgi.Server{Handler: echo, MaxRequests: 1000})
		s.send(rec(fastcgi.TypeGetValuesResult, 0, "") + rec(fastcgi.TypeUnknown, 0, "\x09\x00\x00\x00\x00\x00\x00\x00"))
		s.must(1)
		s.send(rec(fastcgi.TypeGetValues, 0, pairs("FCGI_MAX_REQS", "")))
		if rec, _ := s.next(); string(rec.Content) != pairs("FCGI_MAX_REQS", "256") {
			t.Errorf("%v %q", rec.Type, rec.Content)
		}
	})
}

// TestAbortIsSeen: a handler that does nothing but run learns of ABORT_REQUEST, and of a lost peer,
// within 10 ms; one that asked for Done learns at once.
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

// TestFlowControl checks that a handler that does not read delays others only when its buffer is
// full.
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

// TestServerReuse checks that a request does not see bytes of an earlier one that used the same
// memory.
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

// TestServerBounds checks how many bytes the server reads while its handlers do not.
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
	unread := func(t *testing.T, input string) {
		var taken int
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			wait := gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
				<-release
				return nil
			})
			srv := &fastcgi.Server{Logger: quiet, Handler: wait, Filter: wait}
			ours, theirs := net.Pipe()
			p := &pipe{Conn: theirs}
			go srv.ServeConn(context.Background(), p)
			go io.WriteString(ours, input)
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
	}
	t.Run("a body that is not read [148]", func(t *testing.T) {
		unread(t, head(1, 1, true, "CONTENT_LENGTH", "600000")+many(fastcgi.TypeStdin))
	})
	t.Run("DATA that is not read [148 155]", func(t *testing.T) {
		unread(t, head(1, 3, true, "CONTENT_LENGTH", "0", "FCGI_DATA_LENGTH", "600000")+stdin(1, "")+many(fastcgi.TypeData))
	})
	t.Run("the drain after a response [143 145]", func(t *testing.T) {
		srv := &fastcgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error { return nil })}
		taken := play(t, srv, get(1, false)+many(fastcgi.TypeStdin))
		if taken < 128<<10 || taken > 256<<10+64<<10 {
			t.Errorf("%d bytes taken", taken)
		}
	})
	t.Run("the drain of an upload that is not read [143 145]", func(t *testing.T) {
		for _, keep := range []bool{false, true} {
			srv := &fastcgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error { return nil })}
			upload := head(1, 1, keep, "CONTENT_LENGTH", "18000000") + strings.Repeat(many(fastcgi.TypeStdin), 30)
			if taken := play(t, srv, upload); taken < 16<<20 || taken > 16<<20+64<<10 {
				t.Errorf("keep %v: %d bytes taken", keep, taken)
			}
		}
	})
}

// A Read that a handler left behind once counted its bytes as another request's.
func TestReadLeftBehind(t *testing.T) {
	srv := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		if r.PathInfo() == "/leave" {
			body := r.Body
			go body.Read(make([]byte, 100))
			time.Sleep(2 * time.Millisecond)
			return nil
		}
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %v", b, err)
		return nil
	})
	for range 5 {
		a := serve(t, srv)
		b := connect(t, a.c.RemoteAddr().String())
		a.send(head(1, 1, true, "PATH_INFO", "/leave", "CONTENT_LENGTH", "10") + stdin(1, "0123456789")[:8])
		a.reply(1)
		b.send(head(1, 1, true, "PATH_INFO", "/read", "CONTENT_LENGTH", "10") + stdin(1, "abcde"))
		time.Sleep(2 * time.Millisecond)
		a.send("0123")
		time.Sleep(2 * time.Millisecond)
		b.send(stdin(1, "fghij") + stdin(1, ""))
		if r := b.reply(1); r.body() != "abcdefghij <nil>" {
			t.Fatalf("%+v", r)
		}
		srv = handler(srv.Handler.ServeGateway)
	}
}

// What comes for a request that is over once ended the others of its connection.
func TestOrphansDoNotKill(t *testing.T) {
	h := newHold()
	s := serve(t, &fastcgi.Server{Handler: h, MaxRequests: 1})
	s.send(getPath(1, true, "/kept"))
	<-h.started
	s.send(getPath(2, true, "/refused"))
	if r := s.reply(2); !strings.HasPrefix(r.status(), "503") {
		t.Fatalf("%+v", r)
	}
	for range 10 {
		s.send(stdin(2, strings.Repeat("b", 60000)))
	}
	close(h.release)
	if r := s.reply(1); r.body() != "/kept" {
		t.Errorf("%+v", r)
	}
}

// What heads that never became requests had brought was once kept for as long as any other request
// of its slab lived.
func TestRefusedHeadsAreFreed(t *testing.T) {
	release := make(chan struct{})
	srv := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		if r.PathInfo() == "/held" {
			<-release
		}
		return nil
	})
	s := serve(t, srv)
	addr := s.c.RemoteAddr().String()
	for range 40 { // the slab grows
		for range 50 {
			s.must(1)
		}
	}
	s.send(getPath(1, true, "/held"))
	time.Sleep(20 * time.Millisecond)
	var params strings.Builder
	for i := range 16 {
		params.WriteString(rec(fastcgi.TypeParams, 1, pairs("HTTP_X_"+strings.Repeat("x", i), strings.Repeat("v", 60000))))
	}
	live := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := live()
	for i := range 40 {
		c := connect(t, addr)
		c.send(begin(1, 1, true) + params.String())
		if i%2 == 0 {
			c.send(rec(fastcgi.TypeAbort, 1, ""))
			c.reply(1)
		}
		c.c.Close()
	}
	time.Sleep(50 * time.Millisecond)
	if grown := live() - before; grown > 20<<20 {
		t.Errorf("%d bytes are kept of 40 heads", grown)
	}
	close(release)
	s.reply(1)
}

// slowListener accepts connections whose CloseWrite waits for release.
type slowListener struct {
	net.Listener
	release chan struct{}
}

func (l slowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return slowConn{c, l.release}, err
}

type slowConn struct {
	net.Conn
	release chan struct{}
}

func (c slowConn) CloseWrite() error {
	<-c.release
	return c.Conn.(*net.TCPConn).CloseWrite()
}

// TestSlowCloseWrite checks that a CloseWrite that waits, as that of TLS can, does not delay other
// connections.
func TestSlowCloseWrite(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	running, end := make(chan struct{}, 1), make(chan struct{})
	srv := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		if r.PathInfo() == "/long" {
			running <- struct{}{}
			<-end
		}
		return nil
	})
	srv.Logger = quiet
	release := make(chan struct{})
	go srv.Serve(slowListener{l, release})
	t.Cleanup(func() { close(release); close(end); srv.Close() })
	connect := func(path string) net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(c, getPath(1, false, path))
		return c
	}
	response := func(c net.Conn) {
		if _, err := io.ReadFull(c, make([]byte, 8)); err != nil {
			t.Errorf("no response: %v", err)
		}
	}
	response(connect("/first")) // its CloseWrite waits from now on
	connect("/long")            // while its handler runs, the server sweeps the connections
	<-running
	time.Sleep(50 * time.Millisecond)
	response(connect("/other"))
}

// TestMalformedIsCountedOnce sends no records where a handler reads the body. Both the handler's
// Read and the end of the connection meet them.
func TestMalformedIsCountedOnce(t *testing.T) {
	read := make(chan error, 1)
	srv := &fastcgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		_, err := io.ReadAll(r.Body)
		read <- err
		return err
	})}
	s := serve(t, srv)
	s.send(head(1, 1, true, "CONTENT_LENGTH", "5") + stdin(1, "ab") + "GET / HTTP/1.1\r\n\r\n")
	if err := <-read; err == nil {
		t.Error("the body is whole")
	}
	io.Copy(io.Discard, s.c)
	if stats := srv.Stats(); stats.Malformed != 1 {
		t.Errorf("%+v", stats)
	}
}
