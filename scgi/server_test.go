package scgi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/scgi"
)

func TestServer(t *testing.T) {
	called := gateway.HandlerFunc(func(gateway.ResponseWriter, *gateway.Request) error {
		panic("the handler was called")
	})
	t.Run("bytes of other protocols [201 297 F49]", func(t *testing.T) {
		for _, input := range []string{"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", "\x01\x01\x00\x01\x00\x08\x00\x00"} {
			dropped(t, &scgi.Server{Handler: called}, input)
		}
	})
	t.Run("a head that is never completed [203 299 F33]", func(t *testing.T) {
		addr := gatewaytest.Start(t, &scgi.Server{Handler: called, ReadHeadTimeout: 50 * time.Millisecond, IdleTimeout: time.Hour, Logger: quiet})
		idle := gatewaytest.Start(t, &scgi.Server{Handler: called, ReadHeadTimeout: time.Hour, IdleTimeout: 50 * time.Millisecond, Logger: quiet})
		for _, begin := range []string{"", "7", "70:CONTENT_LENGTH"} {
			c := dial(t, addr)
			if begin == "" {
				c = dial(t, idle)
			}
			io.WriteString(c, begin)
			if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
				t.Errorf("%q: %q, %v", begin, b, err)
			}
		}
		c := dial(t, addr)
		begun := time.Now()
		for range 1000 { // a byte now and then is no request
			if _, err := io.WriteString(c, "1"); err != nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if d := time.Since(begun); d > 5*time.Second {
			t.Errorf("closed after %v", d)
		}
	})
	t.Run("a lower MaxHeadBytes [202]", func(t *testing.T) {
		got := play(t, &scgi.Server{Handler: called, MaxHeadBytes: 100}, head("A", strings.Repeat("v", 100)))
		if !strings.HasPrefix(got, "Status: 431 ") {
			t.Errorf("response %q", got)
		}
	})
	t.Run("more requests than MaxRequests [129 F35]", func(t *testing.T) {
		begun, release := make(chan struct{}), make(chan struct{})
		s := &scgi.Server{MaxRequests: 1, Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			begun <- struct{}{}
			<-release
			return nil
		})}
		addr := gatewaytest.Start(t, s)
		first := dial(t, addr)
		io.WriteString(first, head())
		<-begun
		if got := conformance.Play(t, dial(t, addr), head()); !strings.HasPrefix(got, "Status: 503 ") {
			t.Errorf("response %q", got)
		}
		close(release)
		if b, err := io.ReadAll(first); err != nil || !bytes.HasPrefix(b, []byte("Status: 200 ")) {
			t.Errorf("%q, %v", b, err)
		}
		go func() { <-begun }()
		if got := conformance.Play(t, dial(t, addr), head()); !strings.HasPrefix(got, "Status: 200 ") {
			t.Errorf("response %q", got)
		}
	})
	t.Run("a Server without a Handler [127]", func(t *testing.T) {
		if got := play(t, &scgi.Server{}, head()); !strings.HasPrefix(got, "Status: 501 ") {
			t.Errorf("response %q", got)
		}
	})
	t.Run("the bytes of a response [208 212 263 265]", func(t *testing.T) {
		got := play(t, &scgi.Server{Handler: echo}, head("CONTENT_LENGTH", "5", "HTTP_X", "1", "HTTP_X", "2")+"hello")
		if got != "Status: 200 OK\r\nContent-Type: application/octet-stream\r\nX-Length: 5\r\n\r\nhello" {
			t.Errorf("response %q", got)
		}
	})
	t.Run("a handler keeps its arguments [136 F36]", func(t *testing.T) {
		type leftovers struct {
			w      gateway.ResponseWriter
			r      *gateway.Request
			body   io.Reader
			header *gateway.Header
			ctx    context.Context
		}
		kept := make(chan leftovers, 2)
		s := &scgi.Server{Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			kept <- leftovers{w, r, r.Body, w.Header(), r.Context()}
			if r.PathInfo() == "/first" {
				return nil
			}
			k := <-kept
			k.header.Set("X-Stale", "1")
			k.w.WriteHeader(418)
			k.r.Params.Set("HTTP_SECRET", "stale")
			if _, err := k.w.Write([]byte("stale")); err == nil {
				t.Error("a dead writer writes")
			}
			if n, err := k.body.Read(make([]byte, 5)); n > 0 || err == nil {
				t.Error("a dead body reads")
			}
			if k.ctx.Err() == nil || k.w.SetReadDeadline(time.Now()) == nil || k.w.Flush() == nil {
				t.Error("a dead writer lives")
			}
			b, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %v %s", b, err, r.Params.Get("HTTP_SECRET"))
			return nil
		})}
		addr := gatewaytest.Start(t, s)
		conformance.Play(t, dial(t, addr), head("PATH_INFO", "/first", "HTTP_SECRET", "first", "CONTENT_LENGTH", "5")+"first")
		got := conformance.Play(t, dial(t, addr), head("PATH_INFO", "/second", "HTTP_SECRET", "second", "CONTENT_LENGTH", "6")+"second")
		if got != "Status: 200 OK\r\n\r\nsecond <nil> second" {
			t.Errorf("response %q", got)
		}
	})
	t.Run("a peer that disconnects [149]", func(t *testing.T) {
		told := make(chan time.Duration, 1)
		s := &scgi.Server{Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			gone := <-closing(r)
			told <- time.Since(gone)
			return nil
		})}
		c := dial(t, gatewaytest.Start(t, s))
		io.WriteString(c, head())
		time.Sleep(20 * time.Millisecond)
		closed := time.Now()
		c.Close()
		select {
		case <-told:
			t.Logf("told after %v", time.Since(closed))
		case <-time.After(limit):
			t.Error("the handler is told of nothing")
		}
	})
	t.Run("a peer that closes its sending side gets its response [149]", func(t *testing.T) {
		s := &scgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			<-r.Context().Done()
			_, err := io.WriteString(w, "still here")
			return err
		})}
		if got := play(t, s, head()); !strings.HasSuffix(got, "still here") {
			t.Errorf("response %q", got)
		}
	})
	t.Run("bodies are read while the connection is watched [148]", func(t *testing.T) {
		s := &scgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			r.Context().Done()
			time.Sleep(30 * time.Millisecond)
			b, err := io.ReadAll(iotest.OneByteReader(r.Body))
			fmt.Fprintf(w, "%d %v", len(b), err)
			return nil
		})}
		if got := play(t, s, head("CONTENT_LENGTH", "300000")+strings.Repeat("b", 300000)); !strings.HasSuffix(got, "\r\n\r\n300000 <nil>") {
			t.Errorf("response %q", got)
		}
	})
	t.Run("deadlines [151]", func(t *testing.T) {
		s := &scgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			for _, watch := range []bool{false, true} {
				if watch {
					r.Context().Done()
				}
				w.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				_, err := r.Body.Read(make([]byte, 1))
				fmt.Fprint(w, errors.Is(err, os.ErrDeadlineExceeded), " ")
			}
			w.SetReadDeadline(time.Time{})
			b, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %v", b, err)
			return nil
		}), Logger: quiet}
		c := dial(t, gatewaytest.Start(t, s))
		io.WriteString(c, head("CONTENT_LENGTH", "4"))
		time.Sleep(100 * time.Millisecond)
		io.WriteString(c, "late")
		if b, err := io.ReadAll(c); !strings.HasSuffix(string(b), "true true late <nil>") || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		failed := make(chan error, 1)
		s = &scgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			w.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			_, err := w.Write(make([]byte, 64<<20))
			failed <- err
			return err
		}), Logger: quiet}
		c = dial(t, gatewaytest.Start(t, s))
		io.WriteString(c, head())
		if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("addresses that may connect [150 289 F14 F15]", func(t *testing.T) {
		refused := &scgi.Server{Handler: called, Peers: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
		dropped(t, refused, head())
		if got := play(t, &scgi.Server{Handler: echo, Peers: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, head()); got == "" {
			t.Error("no response")
		}
	})
	t.Run("a body that is still arriving does not prevent the response [143]", func(t *testing.T) {
		s := &scgi.Server{Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			w.WriteHeader(413)
			return nil
		})}
		addr := gatewaytest.Start(t, s)
		for range 20 {
			c := dial(t, addr)
			io.WriteString(c, head("CONTENT_LENGTH", "200000"))
			io.WriteString(c, strings.Repeat("b", 100000))
			time.Sleep(2 * time.Millisecond)
			io.WriteString(c, strings.Repeat("b", 50000))
			if b, err := io.ReadAll(c); err != nil || !bytes.HasPrefix(b, []byte("Status: 413 ")) {
				t.Fatalf("%q, %v", b, err)
			}
		}
	})
}

// TestLife listens, serves and shuts down.
func TestLife(t *testing.T) {
	conformance.Life(t, "scgi", func(h gateway.Handler) conformance.Listener {
		return &scgi.Server{Handler: h, SocketMode: 0o600, BaseContext: conformance.Base, ConnContext: conformance.PerConn, Logger: quiet}
	}, func(addr string) gateway.RoundTripper { return &scgi.Client{Addr: addr} })
}

func TestDeadlines(t *testing.T) {
	t.Run("of reading", func(t *testing.T) {
		for name, watched := range map[string]bool{"straight": false, "behind the watcher": true} {
			t.Run(name, func(t *testing.T) {
				s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
					if watched {
						r.Context().Done()
						time.Sleep(10 * time.Millisecond)
					}
					w.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
					if n, err := r.Body.Read(make([]byte, 9)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("%d, %v", n, err)
					}
					w.SetReadDeadline(time.Time{})
					time.AfterFunc(20*time.Millisecond, func() { w.SetReadDeadline(time.Unix(1, 0)) })
					if n, err := r.Body.Read(make([]byte, 9)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("set while it waits: %d, %v", n, err)
					}
					w.SetReadDeadline(time.Time{})
					io.WriteString(w, "ready")
					w.Flush()
					b, err := io.ReadAll(r.Body)
					if string(b) != "body" || err != nil {
						t.Errorf("%q, %v", b, err)
					}
					return nil
				})
				c := dial(t, gatewaytest.Start(t, s))
				io.WriteString(c, head("CONTENT_LENGTH", "4"))
				io.ReadFull(c, make([]byte, len("Status: 200 OK\r\n\r\nready")))
				io.WriteString(c, "body")
				io.Copy(io.Discard, c)
			})
		}
	})
	// full writes until the connection takes no more, and returns how that ended.
	full := func(w gateway.ResponseWriter) error {
		p := make([]byte, 1<<20)
		for range 1000 {
			if _, err := w.Write(p); err != nil {
				return err
			}
		}
		return nil
	}
	t.Run("of writing", func(t *testing.T) {
		ended := make(chan error, 1)
		s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			w.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			err := full(w)
			ended <- err
			return err
		})
		io.WriteString(dial(t, gatewaytest.Start(t, s)), head())
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
	t.Run("set while a write waits", func(t *testing.T) {
		ended := make(chan error, 1)
		s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			time.AfterFunc(50*time.Millisecond, func() { w.SetWriteDeadline(time.Unix(1, 0)) })
			err := full(w)
			ended <- err
			return err
		})
		io.WriteString(dial(t, gatewaytest.Start(t, s)), head())
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
	t.Run("WriteTimeout", func(t *testing.T) {
		ended := make(chan error, 1)
		s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			err := full(w)
			ended <- err
			return err
		})
		s.WriteTimeout = 50 * time.Millisecond
		io.WriteString(dial(t, gatewaytest.Start(t, s)), head())
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("151: %v", err)
		}
	})
	t.Run("when it is over", func(t *testing.T) {
		keep := make(chan gateway.ResponseWriter, 1)
		s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			keep <- w
			return nil
		})
		play(t, s, head())
		kept := <-keep
		if kept.SetReadDeadline(time.Now()) == nil || kept.SetWriteDeadline(time.Now()) == nil || kept.Flush() == nil || kept.WriteInterim(103, nil) == nil {
			t.Error("136: a writer that is over takes orders")
		}
		if _, err := kept.Hijack(); err == nil {
			t.Error("136: Hijack")
		}
		if _, err := kept.Stderr().Write([]byte("x")); err == nil {
			t.Error("136: Stderr")
		}
		kept.SetAppStatus(1)
		kept.WriteHeader(404)
	})
}

// The tests here are for faults that reviews found. They hold for uwsgi as well, which shares the
// code.

func handler(f func(w gateway.ResponseWriter, r *gateway.Request) error) *scgi.Server {
	return &scgi.Server{Handler: gateway.HandlerFunc(f), Logger: quiet}
}

var errFailed = errors.New("failed on purpose")

// What lies in the kernel behind the body must not reset the connection, and with it the response.
func TestExcessIsDrained(t *testing.T) {
	const size = 1 << 20
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		io.Copy(io.Discard, r.Body)
		_, err := w.Write(make([]byte, size))
		return err
	})
	c := dial(t, gatewaytest.Start(t, s))
	io.WriteString(c, head("CONTENT_LENGTH", "100000")+strings.Repeat("b", 100000)+"\r\n")
	time.Sleep(20 * time.Millisecond) // the response fills the way before the peer reads
	if b, err := io.ReadAll(c); len(b) < size || err != nil {
		t.Errorf("183 186 210: %d bytes, %v", len(b), err)
	}
}

func TestGoexitGivesItsPlaceBack(t *testing.T) {
	first := true
	s := handler(func(gateway.ResponseWriter, *gateway.Request) error {
		if first {
			first = false
			runtime.Goexit()
		}
		return nil
	})
	s.MaxConns = 1
	addr := gatewaytest.Start(t, s)
	for _, want := range []string{"Status: 500 ", "Status: 200 "} {
		if got := conformance.Play(t, dial(t, addr), head()); !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestErrorAfterInterim(t *testing.T) {
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		if err := w.WriteInterim(103, nil); err != nil {
			t.Error(err)
		}
		return errFailed
	})
	s.SendInterim = true
	o := conformance.Ask(t, &scgi.Client{Addr: gatewaytest.Start(t, s)}, gatewaytest.NewRequest("GET", "/", nil))
	if o.Err != nil || o.Res.Status != 500 {
		t.Errorf("%d, %v", o.Res.Status, o.Err)
	}
}

// A file is copied into a response in every way.
func TestFileIntoResponse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	content := strings.Repeat("0123456789abcdef", 160<<10)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func(w gateway.ResponseWriter, f *os.File) error{
		"io.Copy": func(w gateway.ResponseWriter, f *os.File) error {
			n, err := io.Copy(w, f)
			if n != int64(len(content)) {
				t.Errorf("%d copied", n)
			}
			return err
		},
		"io.CopyN": func(w gateway.ResponseWriter, f *os.File) error {
			if n, err := io.CopyN(w, f, 1<<20); n != 1<<20 || err != nil {
				t.Errorf("%d copied, %v", n, err)
			}
			if at, err := f.Seek(0, io.SeekCurrent); at != 1<<20 || err != nil {
				t.Errorf("at %d, %v", at, err)
			}
			_, err := io.Copy(w, f)
			return err
		},
		"a longer one than promised": func(w gateway.ResponseWriter, f *os.File) error {
			w.Header().Set("Content-Length", "1048576")
			if n, err := io.Copy(w, f); n != 1<<20 || err == nil {
				t.Errorf("268: %d copied, %v", n, err)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
				f, err := os.Open(path)
				if err != nil {
					return err
				}
				defer f.Close()
				return put(w, f)
			})
			want := content
			o := conformance.Ask(t, &scgi.Client{Addr: gatewaytest.Start(t, s)}, gatewaytest.NewRequest("GET", "/", nil))
			if strings.HasPrefix(name, "a longer") {
				want = content[:1<<20]
			}
			if o.Err != nil || o.Body != want {
				t.Errorf("%d bytes, %v", len(o.Body), o.Err)
			}
		})
	}
}

func TestInterimEdges(t *testing.T) {
	refused := make(chan error, 5)
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		bad := new(gateway.Header)
		bad.Add("X", "a\r\nb")
		for _, status := range []int{99, 200, 101} {
			refused <- w.WriteInterim(status, nil)
		}
		refused <- w.WriteInterim(103, bad)
		h := new(gateway.Header)
		h.Add("Link", "</a>")
		if err := w.WriteInterim(103, h); err != nil {
			t.Error(err)
		}
		w.WriteHeader(200)
		refused <- w.WriteInterim(103, nil)
		return nil
	})
	s.SendInterim = true
	if got := play(t, s, head()); got != "Status: 103 Early Hints\r\nLink: </a>\r\n\r\nStatus: 200 OK\r\n\r\n" {
		t.Errorf("%q", got)
	}
	for i := range cap(refused) {
		if err := <-refused; err == nil {
			t.Errorf("269: the wrong one of number %d was sent", i)
		}
	}
}

// When the peer resets a connection in the middle of an upload that the handler does not read, the
// write of the response fails, and everything that belongs to the connection is freed.
func TestResetDuringUnreadUploadLeavesNothing(t *testing.T) {
	returned := make(chan struct{})
	gone := make(chan struct{})
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		_ = r.Context().Done() // starts the watcher, which queues 64 KiB of the body and then waits for room
		<-gone
		return nil
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	before := runtime.NumGoroutine()
	const rounds = 20
	for range rounds {
		peer := dial(t, l.Addr().String())
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer func() { returned <- struct{}{} }()
			s.ServeConn(context.Background(), c)
		}()
		io.WriteString(peer, head("CONTENT_LENGTH", "1000000")+strings.Repeat("b", 200000))
		time.Sleep(10 * time.Millisecond)
		peer.SetLinger(0)
		peer.Close()
		time.Sleep(5 * time.Millisecond)
		gone <- struct{}{}
		<-returned
	}
	s.Close()
	for end := time.Now().Add(limit); runtime.NumGoroutine() > before+1; time.Sleep(time.Millisecond) { // the sweeper naps
		if time.Now().After(end) {
			t.Fatalf("%d goroutines are left of %d connections", runtime.NumGoroutine()-before, rounds)
		}
	}
}

// shutdownConn is a connection on which Shutdown comes between the arrival of a request and the
// return of the Read that takes it.
type shutdownConn struct {
	net.Conn
	shutdown func()
	once     sync.Once
	stopped  chan struct{} // receives when Shutdown touches the connection
}

func (c *shutdownConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.once.Do(func() {
		go c.shutdown()
		<-c.stopped
	})
	return n, err
}

func (c *shutdownConn) SetReadDeadline(t time.Time) error {
	c.touch()
	return c.Conn.SetReadDeadline(t)
}

func (c *shutdownConn) Close() error {
	c.touch()
	return c.Conn.Close()
}

func (c *shutdownConn) touch() {
	select {
	case c.stopped <- struct{}{}:
	default:
	}
}

// A request that has been read when Shutdown comes is served.
func TestShutdownServesWhatWasRead(t *testing.T) {
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		_, err := io.WriteString(w, "ok")
		return err
	})
	ours, theirs := net.Pipe()
	down := make(chan error, 1)
	c := &shutdownConn{Conn: theirs, stopped: make(chan struct{}), shutdown: func() { down <- s.Shutdown(t.Context()) }}
	served := make(chan error, 1)
	go func() { served <- s.ServeConn(t.Context(), c) }()
	ours.SetDeadline(time.Now().Add(limit))
	go io.WriteString(ours, head("REQUEST_METHOD", "GET"))
	b, err := io.ReadAll(ours)
	if err != nil || !strings.HasSuffix(string(b), "ok") {
		t.Errorf("got %q, %v", b, err)
	}
	if err := <-served; err != nil {
		t.Errorf("ServeConn: %v", err)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// Shutdown ends the wait of connections on which nothing was sent, without an error.
func TestShutdownEndsIdleConnections(t *testing.T) {
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error { return nil })
	ours, theirs := net.Pipe()
	defer ours.Close()
	served := make(chan error, 1)
	go func() { served <- s.ServeConn(t.Context(), theirs) }()
	time.Sleep(5 * time.Millisecond)
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case err := <-served:
		if err != nil && !errors.Is(err, gateway.ErrServerClosed) {
			t.Errorf("ServeConn: %v", err)
		}
	case <-time.After(limit):
		t.Error("the connection is still served")
	}
}
