package fastcgi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

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

// The last flush of a response was once cut when the peer closed its sending side, or the server was shut down.
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

// After a write that broke off inside a record, other requests once wrote into that record.
func TestNothingAfterPartOfARecord(t *testing.T) {
	started := make(chan struct{}, 1)
	srv := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		if r.PathInfo() == "/big" {
			w.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			started <- struct{}{}
			_, err := w.Write(make([]byte, 32<<20))
			time.Sleep(300 * time.Millisecond) // what closes the connection is the write, not the handler's end
			return err
		}
		time.Sleep(100 * time.Millisecond)
		_, err := io.WriteString(w, "SECRET")
		return err
	})
	s := serve(t, srv)
	s.send(getPath(1, true, "/big"))
	<-started
	s.send(getPath(2, true, "/other"))
	time.Sleep(200 * time.Millisecond)
	all, _ := io.ReadAll(s.c)
	if bytes.Contains(all, []byte("SECRET")) {
		t.Error("another request's response lies inside a record")
	}
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

// A body that had come whole was once lost when the peer then closed its sending side.
func TestWholeBodyThenHalfClose(t *testing.T) {
	s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		r.Context().Done()
		time.Sleep(30 * time.Millisecond)
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %v", b, err)
		return nil
	}))
	s.send(head(1, 1, false, "A", "1") + stdin(1, "body") + stdin(1, ""))
	s.c.CloseWrite()
	if r := s.reply(1); r.body() != "body <nil>" {
		t.Errorf("%+v", r)
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

// Close did not end a Serve that was waiting for a free place.
func TestCloseAtMaxConns(t *testing.T) {
	h := newHold()
	defer close(h.release)
	srv := &fastcgi.Server{Handler: h, MaxConns: 1, Logger: quiet}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	s := connect(t, l.Addr().String())
	s.send(get(1, true))
	<-h.started
	srv.Close()
	select {
	case err := <-served:
		want(t, err, gateway.ErrServerClosed)
	case <-time.After(limit):
		t.Error("Serve does not return")
	}
}

// A request was once sent again after a time-out, when the application was at work on it.
func TestTimeOutIsNotRepeated(t *testing.T) {
	var requests atomic.Int64
	addr := script(t, func(c net.Conn) {
		r := fastcgi.NewReader(c)
		for i := uint16(1); ; i++ {
			if _, _, err := readRequest(r); err != nil {
				return
			}
			if requests.Add(1) > 1 {
				time.Sleep(300 * time.Millisecond)
			}
			io.WriteString(c, response(i, okHead))
		}
	})
	c := &fastcgi.Client{Addr: addr, MaxIdleConns: 1, HeadTimeout: 100 * time.Millisecond}
	ask(t, c, request(t, "GET", ""))
	o := ask(t, c, request(t, "GET", ""))
	if e, ok := errors.AsType[*gateway.Error](o.err); !ok || !e.Timeout() || !e.Reused || requests.Load() != 2 {
		t.Errorf("%v, %d requests", o.err, requests.Load())
	}
}

// A body that pauses at its end once kept its last piece back.
func TestBodyThatDoesNotEnd(t *testing.T) {
	got := make(chan int, 1)
	addr := script(t, func(c net.Conn) {
		_, body, _ := readRequest(fastcgi.NewReader(c))
		got <- len(body)
		io.WriteString(c, response(1, okHead))
	})
	for _, n := range []int{100, 40000} {
		pr, pw := io.Pipe()
		r := request(t, "POST", "")
		r.Body, r.ContentLength = pr, int64(n)
		go pw.Write(make([]byte, n)) // and never closes
		c := &fastcgi.Client{Addr: addr}
		if o := ask(t, c, r); o.err != nil || <-got != n {
			t.Errorf("%d: %v", n, o.err)
		}
		pr.Close()
	}
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

// A Filter that took its time and then read Data alone once stood still with more STDIN before it than may wait.
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

// What heads that never became requests had brought was once kept for as long as any other request of its slab lived.
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

// A small body that arrives slowly is not read after its exchange is over.
func TestBodyIsNotReadOn(t *testing.T) {
	addr := script(t, func(c net.Conn) {
		var req gateway.Request
		fastcgi.NewReader(c).ReadRequest(&req)
		io.WriteString(c, response(1, "Status: 403 Forbidden\r\n\r\nno"))
		io.Copy(io.Discard, c)
	})
	var reads atomic.Int64
	r := request(t, "POST", "")
	r.GetBody, r.ContentLength = nil, 1000
	r.Body = readerFunc(func(p []byte) (int, error) {
		reads.Add(1)
		time.Sleep(2 * time.Millisecond)
		p[0] = 'b'
		return 1, nil
	})
	// The head leaves before the body is whole only if something else makes it: a connection that is kept waiting.
	c := &fastcgi.Client{Addr: addr, HeadTimeout: 50 * time.Millisecond, Logger: quiet}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := c.RoundTrip(ctx, r, new(gateway.Response)); err == nil {
		t.Error("a response to a request that has not left")
	}
	had := reads.Load()
	time.Sleep(50 * time.Millisecond)
	if more := reads.Load() - had; more > 1 {
		t.Errorf("%d reads after the end", more)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// MaxRequests was once overshot by connections that began at the same moment.
func TestMaxRequestsHolds(t *testing.T) {
	var at, most atomic.Int64
	srv := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		if n := at.Add(1); n > most.Load() {
			most.Store(n)
		}
		time.Sleep(time.Millisecond)
		at.Add(-1)
		return nil
	})
	srv.MaxRequests = 1
	first := serve(t, srv)
	addr := first.c.RemoteAddr().String()
	for range 5 {
		var all []*session
		for range 30 {
			all = append(all, connect(t, addr))
		}
		for _, s := range all {
			go s.c.Write([]byte(get(1, false)))
		}
		for _, s := range all {
			s.rest()
		}
	}
	if most.Load() != 1 {
		t.Errorf("%d requests at once", most.Load())
	}
}
