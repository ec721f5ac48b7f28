package gatewayhttp_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
)

func TestTransport(t *testing.T) {
	t.Run("Transport closes bodies and sends them again", func(t *testing.T) {
		dead := &gatewayhttp.Transport{Backend: &fastcgi.Client{Addr: "unix:/nowhere/at/all"}}
		live := &gatewayhttp.Transport{Backend: serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))}
		for _, tr := range []*gatewayhttp.Transport{dead, live} {
			for _, method := range []string{"POST", "HEAD"} {
				body := &closing{Reader: strings.NewReader("body")}
				req, _ := http.NewRequest(method, "http://h/", body)
				req.ContentLength = 4
				if res, err := tr.RoundTrip(req); err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				if !body.closed {
					t.Errorf("%s: the body is not closed", method)
				}
			}
		}
		// A kept connection that dies under a GET with a body: GetBody gives it once more.
		var conns atomic.Int64
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				first := conns.Add(1) == 1
				go func() {
					defer c.Close()
					r := fastcgi.NewReader(c)
					var req gateway.Request
					for n := 1; r.ReadRequest(&req) == nil; n++ {
						var body []byte
						if req.Body != nil {
							body, _ = io.ReadAll(req.Body)
						}
						if first && n == 2 {
							return
						}
						w := fastcgi.NewWriter(c)
						w.ID, _ = r.Begin()
						w.WriteResponse(&gateway.Response{Status: 200, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(string(body)))})
					}
				}()
			}
		}()
		backend := &fastcgi.Client{Addr: l.Addr().String(), MaxIdleConns: 1}
		defer backend.Close()
		client := &http.Client{Transport: &gatewayhttp.Transport{Backend: backend}}
		for range 2 {
			req, _ := http.NewRequest("GET", "http://h/", strings.NewReader("again"))
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			res.Body.Close()
			if string(b) != "again" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
		}
		if conns.Load() != 2 {
			t.Errorf("%d connections", conns.Load())
		}
	})
	t.Run("queries and streams", func(t *testing.T) {
		step := make(chan bool)
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.URL.RawQuery+"\n")
			w.(http.Flusher).Flush()
			<-step
			io.WriteString(w, "end\n")
		}))
		for name, h := range fronts(c, nil) {
			s := httptest.NewServer(h)
			res, err := http.Get(s.URL + "/?a;b=1")
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(res.Body)
			first, err := lines.ReadString('\n')
			step <- true
			last, _ := lines.ReadString('\n')
			if err != nil || first != "a;b=1\n" || last != "end\n" {
				t.Errorf("%s: %q %q, %v", name, first, last, err)
			}
			res.Body.Close()
			s.Close()
		}
	})
}

// closing is a body that knows whether it was closed.
type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error {
	c.closed = true
	return nil
}

// TestTransportOfAClient uses Transport as the transport of an http.Client: its timeout, an early
// Close, a redirect and a body sent again.
func TestTransportOfAClient(t *testing.T) {
	gone := make(chan struct{}, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/wait", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begun")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		gone <- struct{}{}
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/echo", http.StatusPermanentRedirect)
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	c := &http.Client{Transport: &gatewayhttp.Transport{Backend: serve(t, mux)}}
	t.Run("early Close", func(t *testing.T) {
		res, err := c.Get("http://app/wait")
		if err != nil {
			t.Fatal(err)
		}
		io.ReadFull(res.Body, make([]byte, 5))
		res.Body.Close()
		<-gone
	})
	t.Run("timeout", func(t *testing.T) {
		impatient := *c
		impatient.Timeout = 50 * time.Millisecond
		res, err := impatient.Get("http://app/wait")
		if err == nil {
			_, err = io.ReadAll(res.Body)
			res.Body.Close()
		}
		if timeout, ok := errors.AsType[interface {
			error
			Timeout() bool
		}](err); !ok || !timeout.Timeout() {
			t.Errorf("got %v", err)
		}
		<-gone
	})
	t.Run("a body sent again", func(t *testing.T) {
		res, err := c.Post("http://app/moved", "text/plain", strings.NewReader("again"))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if b, err := io.ReadAll(res.Body); string(b) != "again" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
}
