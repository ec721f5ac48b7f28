package bench

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/fcgi"
	"testing"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
)

func request() *gateway.Request {
	r := new(gateway.Request)
	for _, nv := range [][2]string{
		{"QUERY_STRING", "page=2&sort=name"}, {"REQUEST_METHOD", "GET"}, {"SCRIPT_NAME", "/index.php"}, {"REQUEST_URI", "/articles/list?page=2&sort=name"},
		{"DOCUMENT_URI", "/index.php"}, {"DOCUMENT_ROOT", "/srv/www/example"}, {"SERVER_PROTOCOL", "HTTP/1.1"}, {"REQUEST_SCHEME", "https"}, {"HTTPS", "on"},
		{"GATEWAY_INTERFACE", "CGI/1.1"}, {"SERVER_SOFTWARE", "nginx/1.22.1"}, {"REMOTE_ADDR", "203.0.113.77"}, {"REMOTE_PORT", "51234"},
		{"SERVER_ADDR", "192.0.2.10"}, {"SERVER_PORT", "443"}, {"SERVER_NAME", "www.example.com"}, {"SCRIPT_FILENAME", "/srv/www/example/index.php"},
		{"HTTP_HOST", "www.example.com"}, {"HTTP_USER_AGENT", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"},
		{"HTTP_ACCEPT", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, {"HTTP_ACCEPT_LANGUAGE", "en-US,en;q=0.5"},
		{"HTTP_ACCEPT_ENCODING", "gzip, deflate, br"}, {"HTTP_COOKIE", "session=0123456789abcdef0123456789abcdef"},
		{"HTTP_REFERER", "https://www.example.com/articles"}, {"CONTENT_LENGTH", "0"},
	} {
		r.Params.Add(nv[0], nv[1])
	}
	return r
}

// echo responds with the body of the request, and with one line if there is none.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	if r.ContentLength == 0 {
		io.WriteString(w, "hello, world\n")
		return
	}
	body, err := io.ReadAll(r.Body) // all of it first: the client of net/http/fcgi's kind may not read yet
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Write(body)
})

// servers are the same application behind each library.
var servers = []struct {
	name  string
	serve func(net.Listener)
}{
	{"lib=gatehouse", func(l net.Listener) {
		(&fastcgi.Server{Handler: gatewayhttp.Handler(echo), Logger: quiet}).Serve(l)
	}},
	{"lib=gatehouse-gateway", func(l net.Listener) {
		(&fastcgi.Server{Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			w.Header().Set("Content-Type", "text/plain")
			if r.Body != nil {
				_, err := io.Copy(w, r.Body)
				return err
			}
			_, err := io.WriteString(w, "hello, world\n")
			return err
		})}).Serve(l)
	}},
	{"lib=std", func(l net.Listener) { fcgi.Serve(l, echo) }},
}

var quiet = slog.New(slog.DiscardHandler)

// BenchmarkServer is an exchange on a kept connection over a Unix socket: our client, and one
// server or the other, with a body of size bytes that comes back. What it allocates is the
// server's: the client allocates nothing.
func BenchmarkServer(b *testing.B) {
	for _, size := range []int{0, 64 << 10, 1 << 20} {
		for _, s := range servers {
			b.Run(fmt.Sprintf("size=%d/%s", size, s.name), func(b *testing.B) { exchange(b, s.serve, make([]byte, size)) })
		}
	}
}

func exchange(b *testing.B, serve func(net.Listener), body []byte) {
	l, err := net.Listen("unix", b.TempDir()+"/s")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go serve(l)
	c := &fastcgi.Client{Addr: "unix:" + l.Addr().String(), MaxIdleConns: 1}
	defer c.Close()
	req := request()
	var res gateway.Response
	buf := make([]byte, 64<<10)
	b.ReportAllocs()
	b.SetBytes(int64(2 * len(body)))
	for b.Loop() {
		if len(body) > 0 {
			req.SetBody(body)
		}
		if err := c.RoundTrip(context.Background(), req, &res); err != nil {
			b.Fatal(err)
		}
		got := 0
		for {
			n, err := res.Body.Read(buf)
			got += n
			if err == io.EOF {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		res.Body.Close()
		if len(body) > 0 && got != len(body) {
			b.Fatalf("%d bytes", got)
		}
	}
}
