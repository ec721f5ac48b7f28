package scgi_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/scgi"
)

// The tests here are for faults that reviews found. They hold for uwsgi as well, which shares the code.

func handler(f func(w gateway.ResponseWriter, r *gateway.Request) error) *scgi.Server {
	return &scgi.Server{Handler: gateway.HandlerFunc(f), Logger: quiet}
}

var errFailed = errors.New("failed on purpose")

func TestReaderAfterClose(t *testing.T) {
	const one = "Status: 200 OK\r\nContent-Length: 3\r\n\r\nabc"
	rd := scgi.NewReader(strings.NewReader(one + one))
	var res gateway.Response
	for i := range 2 {
		if err := rd.ReadResponse(&res); err != nil {
			t.Fatalf("response %d: %v", i, err)
		}
		res.Body.Close()
		if n, err := res.Body.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
			t.Errorf("a closed body gives %d, %v", n, err)
		}
	}
	if err := rd.ReadResponse(&res); err != io.EOF {
		t.Error(err)
	}
}

func TestWriterWithoutBody(t *testing.T) {
	for _, res := range []*gateway.Response{{Status: 304, ContentLength: 10}, {Status: 200, ContentLength: 10}} {
		var b strings.Builder
		if err := scgi.NewWriter(&b).WriteResponse(res); err != nil || !strings.Contains(b.String(), "Status: ") {
			t.Errorf("%q, %v", b.String(), err)
		}
	}
	r := gatewaytest.NewRequest("POST", "/", nil)
	r.ContentLength = 10
	if err := scgi.NewWriter(io.Discard).WriteRequest(r); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a request without the body it promises: %v", err)
	}
}

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
	time.Sleep(20 * time.Millisecond) // the response fills the way before anybody reads
	if b, err := io.ReadAll(c); len(b) < size || err != nil {
		t.Errorf("183 186 210: %d bytes, %v", len(b), err)
	}
}

// A Read of the body that a handler left behind must not cost the peer the end of its sending.
func TestLeftReadIsDrained(t *testing.T) {
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		go io.Copy(io.Discard, r.Body)
		time.Sleep(5 * time.Millisecond)
		w.WriteHeader(413)
		return nil
	})
	c := dial(t, gatewaytest.Start(t, s))
	io.WriteString(c, head("CONTENT_LENGTH", "200000")+strings.Repeat("b", 50000))
	time.Sleep(20 * time.Millisecond)
	for range 15 {
		if _, err := io.WriteString(c, strings.Repeat("b", 10000)); err != nil {
			t.Fatalf("143 145: %v", err)
		}
	}
	c.CloseWrite()
	if b, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(b), "Status: 413 ") {
		t.Errorf("%q, %v", b, err)
	}
}

// While a large body in memory is being written, something has left.
func TestSentWhileWriting(t *testing.T) {
	for name, end := range map[string]func(c net.Conn, cancel func()){
		"the application closes": func(c net.Conn, _ func()) { c.(*net.TCPConn).CloseWrite() },
		"the caller gives up":    func(_ net.Conn, cancel func()) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			over := make(chan struct{})
			addr := script(t, func(c net.Conn) {
				io.ReadFull(c, make([]byte, 100000))
				end(c, cancel)
				<-over
			})
			var x gateway.Exchange
			c := &scgi.Client{Addr: addr, Observe: func(_ context.Context, e *gateway.Exchange) { x = *e }}
			const size = 64 << 20
			err := c.RoundTrip(ctx, gatewaytest.NewRequest("POST", "/", make([]byte, size)), new(gateway.Response))
			close(over)
			if e, ok := errors.AsType[*gateway.Error](err); !ok || !e.Sent || gateway.Retryable(err) {
				t.Errorf("%+v", err)
			}
			if x.Sent >= size {
				t.Errorf("%d bytes of the body are said to be sent", x.Sent)
			}
		})
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

// A response that is cut must not look whole over TLS, where a close says goodbye.
func TestCutOverTLS(t *testing.T) {
	ts := httptest.NewUnstartedServer(nil)
	ts.StartTLS()
	defer ts.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", ts.TLS)
	if err != nil {
		t.Fatal(err)
	}
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		io.WriteString(w, "part")
		w.Flush()
		return errFailed
	})
	go s.Serve(l)
	defer s.Close()
	d := &tls.Dialer{Config: ts.Client().Transport.(*http.Transport).TLSClientConfig}
	c := &scgi.Client{Dial: func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", l.Addr().String()) }}
	if o := conformance.Ask(t, c, gatewaytest.NewRequest("GET", "/", nil)); !errors.Is(o.Err, gateway.ErrTruncated) {
		t.Errorf("276: %q, %v", o.Body, o.Err)
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

var upgrade = []string{"REQUEST_METHOD", "GET", "HTTP_UPGRADE", "websocket", "HTTP_CONNECTION", "Upgrade"}

// A connection that a handler took over is the handler's: Shutdown neither waits for it nor closes it.
func TestShutdownLeavesTaken(t *testing.T) {
	ready, after, wrote := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		stream, err := w.Hijack()
		if err != nil {
			return err
		}
		defer stream.Close()
		close(ready)
		<-after
		_, err = io.WriteString(stream, "bye")
		wrote <- err
		return nil
	})
	c := dial(t, gatewaytest.Start(t, s))
	io.WriteString(c, head(upgrade...))
	<-ready
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	close(after)
	if err := <-wrote; err != nil {
		t.Errorf("writing after it: %v", err)
	}
}

// A Hijack that fails leaves a request whose peer is looked after.
func TestFailedHijackStillWatches(t *testing.T) {
	ready, told := make(chan struct{}), make(chan struct{})
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		done := r.Context().Done()
		w.Header().Set("Upgrade", "h2c")
		if _, err := w.Hijack(); !errors.Is(err, gateway.ErrMalformed) {
			t.Errorf("Hijack: %v", err)
		}
		close(ready)
		<-done
		close(told)
		return nil
	})
	c := dial(t, gatewaytest.Start(t, s))
	io.WriteString(c, head(upgrade...))
	<-ready
	c.SetLinger(0)
	c.Close()
	select {
	case <-told:
	case <-time.After(limit):
		t.Error("149: the handler is not told that the peer is gone")
		s.Close()
	}
}

// A 101 may come before the goroutine that wrote the body knows that it is done.
func TestUpgradeWithBody(t *testing.T) {
	addr := script(t, func(c net.Conn) {
		var r gateway.Request
		scgi.NewReader(c).ReadRequest(&r)
		io.Copy(io.Discard, r.Body)
		io.WriteString(c, "Status: 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhi")
	})
	for range 100 {
		r := gatewaytest.NewRequest("GET", "/", nil)
		r.Upgrade = "websocket"
		r.Body, r.ContentLength = io.MultiReader(strings.NewReader("x")), 1
		var res gateway.Response
		if err := (&scgi.Client{Addr: addr}).RoundTrip(t.Context(), r, &res); err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	// One that stands still makes it fail, and not wait for ever.
	addr = script(t, func(c net.Conn) {
		scgi.NewReader(c).ReadRequest(new(gateway.Request))
		io.WriteString(c, "Status: 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		io.Copy(io.Discard, c)
	})
	r := gatewaytest.NewRequest("GET", "/", nil)
	r.Upgrade = "websocket"
	pr, pw := io.Pipe()
	defer pw.Close()
	r.Body, r.ContentLength = pr, 100000
	if err := (&scgi.Client{Addr: addr}).RoundTrip(t.Context(), r, new(gateway.Response)); err == nil {
		t.Error("a stream whose body is still to be sent")
	}
}

// The end of a backend ends a tunnel, whatever the front end does.
func TestTunnelEndsWithBackend(t *testing.T) {
	t.Parallel() // it takes as long as a front end may linger
	back := script(t, func(c net.Conn) {
		scgi.NewReader(c).ReadRequest(new(gateway.Request))
		io.WriteString(c, "Status: 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhi")
	})
	over := make(chan struct{})
	p := &gateway.Proxy{Backend: &scgi.Client{Addr: back}}
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		defer close(over)
		return p.ServeGateway(w, r)
	})
	c := dial(t, gatewaytest.Start(t, s))
	io.WriteString(c, head(upgrade...))
	select {
	case <-over:
	case <-time.After(2 * limit):
		t.Error("the tunnel goes on")
	}
}

func TestEnvFollowsTheRules(t *testing.T) {
	for _, env := range []string{"CONTENT_LENGTH=3", "HTTP_X=a\r\nb", "SERVER_PROTOCOL=HTTP/1.1\r\nX: y", "A=\x00", "=x", "A"} {
		c := &scgi.Client{Addr: "127.0.0.1:1", Env: []string{env}}
		err := c.RoundTrip(t.Context(), gatewaytest.NewRequest("POST", "/", []byte("hello")), new(gateway.Response))
		if !errors.Is(err, gateway.ErrParam) {
			t.Errorf("%q: %v", env, err)
		}
	}
}

// HTTP_TRANSFER_ENCODING would make an application look for chunks in a body that has none.
func TestTransferEncodingIsNotSent(t *testing.T) {
	r := gatewaytest.NewRequest("POST", "/", []byte("hello"))
	r.Params.Add("HTTP_TRANSFER_ENCODING", "chunked")
	b, err := scgi.AppendRequest(nil, r)
	if err != nil || strings.Contains(string(b), "TRANSFER") {
		t.Errorf("016: %q, %v", b, err)
	}
}

// A file goes into a response in whatever way it is copied.
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

// A source that is slow does not use up the time of a write.
func TestSlowSource(t *testing.T) {
	src := script(t, func(c net.Conn) {
		for range 5 {
			io.WriteString(c, "x")
			time.Sleep(40 * time.Millisecond)
		}
	})
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		c, err := net.Dial("tcp", src)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = io.Copy(w, c)
		return err
	})
	s.WriteTimeout = 60 * time.Millisecond
	o := conformance.Ask(t, &scgi.Client{Addr: gatewaytest.Start(t, s)}, gatewaytest.NewRequest("GET", "/", nil))
	if o.Err != nil || o.Body != "xxxxx" {
		t.Errorf("%q, %v", o.Body, o.Err)
	}
}
