package conformance

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/vectors"
)

// Dial connects to a server that a test sends bytes to.
func Dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(Limit))
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// Script starts an application that passes each connection to f.
func Script(t testing.TB, f func(c net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(Limit))
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	return l.Addr().String()
}

// Responding returns an application that reads a request with the protocol's Reader and responds
// with those bytes.
func (c Codec) Responding(response string) func(conn net.Conn) {
	return func(conn net.Conn) {
		var r gateway.Request
		if c.Reader(conn).ReadRequest(&r) != nil {
			return
		}
		if r.Body != nil {
			io.Copy(io.Discard, r.Body)
		}
		io.WriteString(conn, response)
	}
}

// FuzzServer sends bytes to a server: it responds or closes, and leaves nothing behind.
func FuzzServer(f *testing.F, proto string, serve func(ctx context.Context, c net.Conn) error) {
	seed(f, proto, "request")
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, theirs := net.Pipe()
		over := make(chan struct{})
		go func() {
			defer close(over)
			serve(t.Context(), theirs)
		}()
		ours.SetDeadline(time.Now().Add(Limit))
		go func() {
			ours.Write(b)
			time.Sleep(time.Millisecond)
			ours.Close()
		}()
		io.Copy(io.Discard, ours)
		select {
		case <-over:
		case <-time.After(Limit):
			t.Fatal("the server does not end the connection")
		}
	})
}

// FuzzClient responds to a client with bytes: the client returns, and accepts a response only if a
// Reader does.
func FuzzClient(f *testing.F, c Codec, client func(dial func(context.Context) (net.Conn, error)) gateway.RoundTripper) {
	seed(f, c.Proto, "response")
	f.Fuzz(func(t *testing.T, b []byte) {
		rt := client(func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			theirs.SetDeadline(time.Now().Add(Limit))
			go func() {
				defer theirs.Close()
				c.Responding(string(b))(theirs)
			}()
			return ours, nil
		})
		o := Ask(t, rt, get("/"))
		var res gateway.Response
		err := c.Reader(&once{b: b}).ReadResponse(&res)
		if o.Err == nil && (err != nil || res.Status != o.Res.Status) {
			t.Fatalf("the client took what the reader did not: %v", err)
		}
		if s, ok := rt.(interface{ Stats() gateway.Stats }); ok && s.Stats().InFlight != 0 {
			t.Fatalf("%+v", s.Stats())
		}
	})
}

// A once returns its bytes and the end.
type once struct{ b []byte }

func (o *once) Read(p []byte) (int, error) {
	if len(o.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, o.b)
	o.b = o.b[n:]
	return n, nil
}

// seed adds the vectors of one side to a fuzz target.
func seed(f *testing.F, proto, side string) {
	all, err := vectors.All(proto)
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range all {
		if v.Side == side {
			f.Add(v.Bytes)
		}
	}
}

// BodyAfterClose closes a response without a body that has arrived before the whole request was
// sent, from an application that goes on reading. The request's body is the caller's again then.
// newClient returns a client over that connection; respond writes the response, a 204.
func BodyAfterClose(t *testing.T, newClient func(dial func(context.Context) (net.Conn, error)) gateway.RoundTripper, respond string) {
	c := newClient(func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			theirs.Read(make([]byte, 1))
			go io.Copy(io.Discard, theirs)
			io.WriteString(theirs, respond)
		}()
		return ours, nil
	})
	var reads atomic.Int64
	r := request("POST", "/", "")
	r.GetBody, r.ContentLength = nil, 1<<30
	r.Body = readerFunc(func(p []byte) (int, error) {
		reads.Add(1)
		time.Sleep(time.Millisecond)
		return min(len(p), 100), nil
	})
	var res gateway.Response
	if err := c.RoundTrip(t.Context(), r, &res); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	time.Sleep(20 * time.Millisecond) // one may be in progress
	before := reads.Load()
	time.Sleep(50 * time.Millisecond)
	if after := reads.Load(); after != before {
		t.Errorf("%d reads after Close", after-before)
	}
	noneInFlight(t, c)
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// LateWrite has servers write responses without a length to peers that read late, of which the last
// write may run into its deadline. A response that is not whole must not end like one that is: the
// connection is reset.
func LateWrite(t *testing.T, newServer func(h gateway.Handler) Server, request string) {
	const last = 15_000
	var asked sync.WaitGroup
	for kilobytes := range 100 {
		asked.Go(func() {
			s := newServer(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
				w.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
				w.Write(make([]byte, kilobytes<<10))
				w.Flush()
				_, err := w.Write(make([]byte, last))
				return err
			}))
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Error(err)
				return
			}
			defer l.Close()
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			c.(*net.TCPConn).SetReadBuffer(4 << 10)
			accepted, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			accepted.(*net.TCPConn).SetWriteBuffer(8 << 10)
			served := make(chan struct{})
			go func() {
				defer close(served)
				s.ServeConn(context.Background(), accepted)
			}()
			io.WriteString(c, request)
			time.Sleep(200 * time.Millisecond)
			c.SetDeadline(time.Now().Add(Limit))
			if b, err := io.ReadAll(c); err == nil && len(b) < kilobytes<<10+last {
				t.Errorf("%d KiB: %d bytes and the end", kilobytes, len(b))
			}
			<-served
		})
	}
	asked.Wait()
}
