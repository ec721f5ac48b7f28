//go:build unix

package conformance_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	nethttpcgi "net/http/cgi"
	"net/http/fcgi"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// The benchmarks here are whole exchanges. Names have proto=, size= (bytes of a body that comes
// back; 0 is a GET) and lib=: gateway (a gateway.Handler), gatehouse (an http.Handler, or a
// program's client) and std, the standard library.

var benchSizes = []int{0, 64 << 10}

// hello responds with the body, or with a line.
var hello = gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
	w.Header().Set("Content-Type", "text/plain")
	if r.Body != nil {
		_, err := io.Copy(w, r.Body)
		return err
	}
	_, err := io.WriteString(w, "hello, world\n")
	return err
})

// helloHTTP is the same in net/http. It reads all of the body first: net/http/fcgi's responses are
// better not begun before.
var helloHTTP = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	if r.ContentLength == 0 {
		io.WriteString(w, "hello, world\n")
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Write(body)
})

// libraries are the servers to compare: ours, and those of the standard library for CGI and
// FastCGI.
var libraries = map[string]gateway.Handler{"gateway": hello, "gatehouse": gatewayhttp.Handler(helloHTTP), "std": nil}

// script responds one request by a library, as a CGI script.
func script(lib string) error {
	if lib == "std" {
		return nethttpcgi.Serve(helloHTTP)
	}
	return (&cgi.Server{Handler: libraries[lib], Logger: quiet}).Serve(context.Background())
}

// BenchmarkServer is an exchange with each server, and a client of ours: FastCGI on a kept
// connection, SCGI and uwsgi on one for each request, CGI in a process for each. What FastCGI's
// allocates is the server's alone.
func BenchmarkServer(b *testing.B) {
	for _, protocol := range protocols {
		for _, size := range benchSizes {
			for _, lib := range []string{"gateway", "gatehouse", "std"} {
				if lib == "std" && (protocol == "scgi" || protocol == "uwsgi") {
					continue // it has none
				}
				b.Run(fmt.Sprintf("proto=%s/size=%d/lib=%s", protocol, size, lib), func(b *testing.B) {
					exchanges(b, benchClient(b, protocol, lib, nil), size)
				})
			}
		}
	}
}

// exchanges sends the typical request again and again.
func exchanges(b *testing.B, c gateway.RoundTripper, size int) {
	body := make([]byte, size)
	req := conformance.Typical(body)
	var res gateway.Response
	scrap := make([]byte, 64<<10)
	b.ReportAllocs()
	b.SetBytes(int64(2 * size))
	for b.Loop() {
		req.SetBody(body)
		if err := c.RoundTrip(context.Background(), req, &res); err != nil { // one that can end takes an object to watch
			b.Fatal(err)
		}
		got, err := drain(res.Body, scrap)
		if err != nil || got < size {
			b.Fatalf("%d bytes, %v", got, err)
		}
		res.Body.Close()
	}
}

func drain(r io.Reader, scrap []byte) (total int, err error) {
	for {
		n, err := r.Read(scrap)
		total += n
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// benchClient is a client of ours before a server of a library, whose connections are counted if
// there is a tally.
func benchClient(b *testing.B, protocol, lib string, tally *tally) gateway.RoundTripper {
	b.Helper()
	if protocol == "cgi" {
		path, err := os.Executable()
		if err != nil {
			b.Fatal(err)
		}
		return &cgi.Client{Path: path, Env: []string{isBench + "=" + lib}, Logger: quiet}
	}
	l, err := net.Listen("unix", b.TempDir()+"/s")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	addr := l.Addr().String()
	if lib == "std" {
		go fcgi.Serve(tally.listener(l), helloHTTP)
	} else {
		go server(protocol, libraries[lib]).Serve(tally.listener(l))
	}
	dial := tally.dial(addr)
	switch protocol {
	case "fastcgi":
		c := &fastcgi.Client{Dial: dial, MaxIdleConns: 1, Logger: quiet}
		b.Cleanup(func() { c.Close() })
		return c
	case "scgi":
		return &scgi.Client{Dial: dial}
	}
	return &uwsgi.Client{Dial: dial}
}

// BenchmarkCalls counts the reads and writes of a GET on each side. What counts stands between, so
// that several slices are not written at once, and times are not those of BenchmarkServer.
func BenchmarkCalls(b *testing.B) {
	for _, protocol := range protocols[1:] {
		for _, lib := range []string{"gateway", "gatehouse", "std"} {
			if lib == "std" && protocol != "fastcgi" {
				continue
			}
			b.Run(fmt.Sprintf("proto=%s/lib=%s", protocol, lib), func(b *testing.B) {
				t := new(tally)
				exchanges(b, benchClient(b, protocol, lib, t), 0)
				for name, n := range map[string]*atomic.Int64{"client-reads": &t.client.reads, "client-writes": &t.client.writes, "server-reads": &t.server.reads, "server-writes": &t.server.writes} {
					b.ReportMetric(float64(n.Load())/float64(b.N), name+"/op")
				}
			})
		}
	}
}

// tally is how often both sides read and wrote; nil counts nothing.
type tally struct {
	client, server struct{ reads, writes atomic.Int64 }
}

func (t *tally) dial(addr string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", addr)
		if t == nil || err != nil {
			return c, err
		}
		return &counted{c, &t.client.reads, &t.client.writes}, nil
	}
}

func (t *tally) listener(l net.Listener) net.Listener {
	if t == nil {
		return l
	}
	return &countedListener{l, t}
}

type countedListener struct {
	net.Listener
	t *tally
}

func (l *countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &counted{c, &l.t.server.reads, &l.t.server.writes}, nil
}

type counted struct {
	net.Conn
	reads, writes *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	c.reads.Add(1)
	return c.Conn.Read(p)
}

func (c *counted) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// CloseWrite ends one direction: servers hang up so.
func (c *counted) CloseWrite() error { return c.Conn.(*net.UnixConn).CloseWrite() }

// BenchmarkClient is an http.Handler before an application of ours: gatewayhttp.Proxy with each
// client, and the handler that net/http/cgi runs scripts with.
func BenchmarkClient(b *testing.B) {
	path, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	for _, protocol := range protocols {
		for _, size := range benchSizes {
			b.Run(fmt.Sprintf("proto=%s/size=%d/lib=gatehouse", protocol, size), func(b *testing.B) {
				requests(b, &gatewayhttp.Proxy{Backend: benchClient(b, protocol, "gateway", nil), Logger: quiet}, size)
			})
			if protocol == "cgi" {
				b.Run(fmt.Sprintf("proto=cgi/size=%d/lib=std", size), func(b *testing.B) {
					requests(b, &nethttpcgi.Handler{Path: path, Root: "/", Env: []string{isBench + "=gateway"}}, size)
				})
			}
		}
	}
}

// requests serves the same http.Request again and again.
func requests(b *testing.B, h http.Handler, size int) {
	body := make([]byte, size)
	b.ReportAllocs()
	b.SetBytes(int64(2 * size))
	for b.Loop() {
		r := httptest.NewRequest("POST", "/articles/list?page=2&sort=name", newReader(body))
		r.ContentLength = int64(size)
		w := discard{make(http.Header), 0}
		h.ServeHTTP(&w, r)
		if w.n < size {
			b.Fatalf("%d bytes", w.n)
		}
	}
}

func newReader(b []byte) io.Reader {
	if len(b) == 0 {
		return http.NoBody
	}
	return &slice{b}
}

type slice struct{ b []byte }

func (s *slice) Read(p []byte) (int, error) {
	n := copy(p, s.b)
	if s.b = s.b[n:]; len(s.b) == 0 {
		return n, io.EOF
	}
	return n, nil
}

// discard is a ResponseWriter that counts.
type discard struct {
	header http.Header
	n      int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Flush()                      {}
func (d *discard) Write(p []byte) (int, error) { d.n += len(p); return len(p), nil }

// BenchmarkProxy is each protocol before FastCGI: our client, a server with gateway.Proxy, and an
// application.
func BenchmarkProxy(b *testing.B) {
	for _, front := range protocols[1:] {
		for _, size := range benchSizes {
			b.Run(fmt.Sprintf("proto=%s/back=fastcgi/size=%d", front, size), func(b *testing.B) {
				libraries["proxy"] = &gateway.Proxy{Backend: benchClient(b, "fastcgi", "gateway", nil)}
				defer delete(libraries, "proxy")
				exchanges(b, benchClient(b, front, "proxy", nil), size)
			})
		}
	}
}
