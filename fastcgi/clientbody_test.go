package fastcgi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

// The tests here hold single lines of the client and the codec: each was written because the line
// could be taken out and nothing failed.

// recorded starts an application that keeps every byte it is sent and responds nothing.
func recorded(t *testing.T) (addr string, sent func() string) {
	t.Helper()
	var mu sync.Mutex
	var got bytes.Buffer
	done := make(chan struct{}, 8)
	addr = script(t, func(c net.Conn) {
		b, _ := io.ReadAll(c)
		mu.Lock()
		got.Write(b)
		mu.Unlock()
		done <- struct{}{}
	})
	return addr, func() string {
		select {
		case <-done:
		case <-time.After(limit):
			t.Fatal("the client keeps its connection open")
		}
		mu.Lock()
		defer mu.Unlock()
		return got.String()
	}
}

// content returns the content of b's records of a type, and whether the empty record was sent.
func content(typ fastcgi.Type, b string) (content string, ended bool) {
	for rest := []byte(b); ; {
		rec, n := fastcgi.ConsumeRecord(rest)
		if n <= 0 {
			return content, ended
		}
		if rec.Type == typ {
			content += string(rec.Content)
			ended = ended || len(rec.Content) == 0
		}
		rest = rest[n:]
	}
}

func TestClientBody(t *testing.T) {
	t.Run("a body shorter or longer than ContentLength [079 F2 F33]", func(t *testing.T) {
		for _, length := range []int64{3, 20000} {
			for _, have := range []int{int(length) - 1, int(length) + 1} {
				for name, wrap := range map[string]func(io.Reader) io.Reader{"memory": func(r io.Reader) io.Reader { return r }, "stream": iotest.OneByteReader} {
					excess := atomic.Int64{}
					addr := script(t, func(c net.Conn) {
						_, body, err := readRequest(fastcgi.NewReader(c))
						if int64(len(body)) > length {
							excess.Add(1)
						}
						if err == nil {
							io.WriteString(c, response(1, okHead))
						}
					})
					r := request(t, "POST", "")
					r.Body, r.ContentLength = wrap(strings.NewReader(strings.Repeat("b", have))), length
					c := &fastcgi.Client{Addr: addr, MaxIdleConns: 1}
					o := ask(t, c, r)
					// The application may response when it has its bytes, before one too many is
					// found.
					early := name == "stream" && have > int(length)
					if o.err == nil && !early || excess.Load() > 0 || c.Stats().Idle > 0 {
						t.Errorf("length %d, body %d: %v, idle %d, excess %d", length, have, o.err, c.Stats().Idle, excess.Load())
					}
				}
			}
		}
		_, err := fromBytes(head(1, 1, true, "CONTENT_LENGTH", "5") + stdin(1, "helloBEGIN") + stdin(1, ""))
		if err != nil {
			t.Fatal(err)
		}
	})
	t.Run("bytes that are sent of a body of another length [079 F2 F33]", func(t *testing.T) {
		large := strings.Repeat("b", 40000)
		for _, c := range []struct {
			name, body string
			length     int64
			stream     bool
		}{
			{"short, in memory", "hell", 5, false},
			{"long, in memory", "hello!", 5, false},
			{"short, streamed", "hell", 5, true},
			{"long, streamed", "hello!", 5, true},
			{"large and short, in memory", large, 40001, false},
			{"large and long, in memory", large, 39999, false},
			{"large and short, streamed", large, 40001, true},
			{"large and long, streamed", large, 39999, true},
			{"missing", "", 5, false},
		} {
			t.Run(c.name, func(t *testing.T) {
				addr, sent := recorded(t)
				r := request(t, "POST", "")
				r.ContentLength, r.GetBody = c.length, nil
				switch {
				case c.name == "missing":
					r.Body = nil
				case c.stream:
					r.Body = struct{ io.Reader }{strings.NewReader(c.body)}
				default:
					r.Body = strings.NewReader(c.body)
				}
				o := ask(t, &fastcgi.Client{Addr: addr, Logger: quiet}, r)
				e, ok := errors.AsType[*gateway.Error](o.err)
				if !ok || e.Phase > gateway.PhaseHead || errors.Is(o.err, gateway.ErrNoResponse) {
					t.Errorf("got %v", o.err)
				}
				if short := int64(len(c.body)) < c.length; short != errors.Is(o.err, io.ErrUnexpectedEOF) {
					t.Errorf("got %v", o.err)
				}
				if c.name == "missing" {
					return // nothing was dialed
				}
				got, ended := content(fastcgi.TypeStdin, sent())
				if int64(len(got)) > c.length || ended || !strings.HasPrefix(c.body, got) {
					t.Errorf("%d bytes of STDIN left, its end %v", len(got), ended)
				}
			})
		}
	})
	t.Run("a body of unknown length [080 F33]", func(t *testing.T) {
		r := request(t, "POST", "")
		r.Body, r.ContentLength = strings.NewReader("streamed"), -1
		want(t, ask(t, &fastcgi.Client{Addr: "127.0.0.1:1"}, r).err, gateway.ErrLengthRequired)
		got := sent(t, &fastcgi.Client{UnknownLength: true}, r)
		if strings.Contains(got, "CONTENT_LENGTH") || !strings.Contains(got, "streamed") {
			t.Errorf("sent %q", got)
		}
		r.Body = strings.NewReader("streamed")
		c := &fastcgi.Client{}
		addr := script(t, func(conn net.Conn) {
			req, body, _ := readRequest(fastcgi.NewReader(conn))
			fmt.Fprint(conn, response(1, okHead+req.Params.Get("CONTENT_LENGTH")+string(body)))
		})
		c.Addr = addr
		res := new(gateway.Response)
		if err := (&gateway.Spool{Backend: c}).RoundTrip(t.Context(), r, res); err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if b, err := io.ReadAll(res.Body); err != nil || string(b) != "8streamed" {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("a response before the body is read [082 F34]", func(t *testing.T) {
		const up, down = 8 << 20, 4 << 20
		addr := script(t, func(c net.Conn) {
			r := fastcgi.NewReader(c)
			var req gateway.Request
			if r.ReadRequest(&req) != nil {
				return
			}
			w := fastcgi.NewWriter(c)
			w.WriteRecord(fastcgi.TypeStdout, 1, []byte(okHead))
			w.WriteRecord(fastcgi.TypeStdout, 1, make([]byte, down))
			n, _ := io.Copy(io.Discard, req.Body)
			fmt.Fprint(c, response(1, fmt.Sprint(n)))
		})
		o := ask(t, &fastcgi.Client{Addr: addr}, request(t, "POST", strings.Repeat("u", up)))
		if o.err != nil || len(o.body) != down+len("8388608") {
			t.Errorf("%d bytes, %v", len(o.body), o.err)
		}
	})
	t.Run("a response that ends before the body is sent [083]", func(t *testing.T) {
		var conns atomic.Int64
		over := make(chan struct{})
		defer close(over)
		addr := script(t, func(c net.Conn) {
			conns.Add(1)
			var req gateway.Request
			if fastcgi.NewReader(c).ReadRequest(&req) != nil {
				return
			}
			io.WriteString(c, response(1, "Status: 413 Too Large\r\n\r\nno"))
			<-over // reads no more, so that the body cannot be sent whole
		})
		c := &fastcgi.Client{Addr: addr, MaxIdleConns: 1}
		for range 2 {
			o := ask(t, c, request(t, "POST", strings.Repeat("u", 8<<20)))
			if o.err != nil || o.body != "no" || o.res.Status != 413 {
				t.Errorf("%d %q, %v", o.res.Status, o.body, o.err)
			}
		}
		if s := c.Stats(); s.Idle > 0 || conns.Load() != 2 {
			t.Errorf("the connection was kept: %+v", s)
		}
	})
	t.Run("a response after a write error [084]", func(t *testing.T) {
		addr := script(t, func(c net.Conn) {
			var req gateway.Request
			if fastcgi.NewReader(c).ReadRequest(&req) != nil {
				return
			}
			io.WriteString(c, response(1, "Status: 413 Too Large\r\n\r\nno"))
			c.(*net.TCPConn).CloseWrite()
			time.Sleep(50 * time.Millisecond) // long enough for the response to be there when the reset comes
		})
		r := request(t, "POST", "")
		r.Body, r.ContentLength = iotest.OneByteReader(strings.NewReader(strings.Repeat("u", 1<<20))), 1<<20
		if o := ask(t, &fastcgi.Client{Addr: addr}, r); o.err != nil || o.body != "no" {
			t.Errorf("%q, %v", o.body, o.err)
		}
	})
}

// TestCloseInObserve closes a response whose connection is still held by the reader of the last
// one: that has given it back, and calls Observe, in which the next request is sent over it.
func TestCloseInObserve(t *testing.T) {
	addr := gatewaytest.Start(t, &fastcgi.Server{Logger: quiet, Handler: echo})
	c := &fastcgi.Client{Addr: addr, MaxConns: 1, MaxIdleConns: 1, Logger: quiet}
	nested := false
	c.Observe = func(_ context.Context, x *gateway.Exchange) {
		if nested || x.Err != nil {
			return
		}
		nested = true
		var res gateway.Response
		if err := c.RoundTrip(t.Context(), request(t, "GET", ""), &res); err != nil {
			t.Error(err)
			return
		}
		res.Body.Close()
	}
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		var res gateway.Response
		if err := c.RoundTrip(ctx, request(t, "GET", ""), &res); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(res.Body); err != nil {
			t.Error(err)
		}
	}
	if s := c.Stats(); s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
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
	// The head leaves before the body is whole only if something else makes it: a connection that
	// is kept waiting.
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
