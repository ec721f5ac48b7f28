package gatewayhttp_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
)

// http2Site serves both front ends over HTTP/2 and gives each to f with a client that speaks nothing else.
func http2Site(t *testing.T, app http.Handler, m *gatewayhttp.Mapping, f func(t *testing.T, url string, c *http.Client)) {
	backend := serve(t, app)
	for name, front := range fronts(backend, m) {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(front)
			s.EnableHTTP2 = true
			s.StartTLS()
			t.Cleanup(s.Close)
			f(t, s.URL, s.Client())
		})
	}
}

// TestHTTP2 has HTTP/2 in front: what differs is the protocol's name, that a body needs no length, and that a stream
// alone is cut when a response breaks off.
func TestHTTP2(t *testing.T) {
	body := make([]byte, 1<<20)
	rand.Read(body)
	mux := http.NewServeMux()
	mux.HandleFunc("/params", func(w http.ResponseWriter, r *http.Request) {
		p := gatewayhttp.Params(r)
		fmt.Fprintf(w, "%s %s %s %s", p.Get("SERVER_PROTOCOL"), p.Get("HTTPS"), p.Get("HTTP_COOKIE"), r.Proto)
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Length", fmt.Sprint(r.ContentLength))
		w.Write(b)
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	http2Site(t, mux, nil, func(t *testing.T, url string, c *http.Client) {
		ask := func(method, path string, body io.Reader) (*http.Response, []byte, error) {
			r, err := http.NewRequest(method, url+path, body)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Add("Cookie", "a=1")
			r.Header.Add("Cookie", "b=2")
			res, err := c.Do(r)
			if err != nil {
				return nil, nil, err
			}
			defer res.Body.Close()
			if res.ProtoMajor != 2 {
				t.Fatalf("%s", res.Proto)
			}
			b, err := io.ReadAll(res.Body)
			return res, b, err
		}
		if _, b, err := ask("GET", "/params", nil); err != nil || string(b) != "HTTP/2.0 on a=1; b=2 HTTP/2.0" {
			t.Errorf("%q, %v", b, err)
		}
		res, b, err := ask("POST", "/echo", io.MultiReader(bytes.NewReader(body))) // of no known length
		if err != nil || !bytes.Equal(b, body) || res.Header.Get("X-Length") != fmt.Sprint(len(body)) {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		if _, b, err := ask("GET", "/cut", nil); err == nil || string(b) != "half" {
			t.Errorf("a response that broke off looked whole: %q", b)
		}
	})
}

// TestClientGone: the application learns of a client that gives up, whatever the front end and the version of HTTP.
func TestClientGone(t *testing.T) {
	gone := make(chan error, 1)
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begun")
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			gone <- nil
		case <-time.After(30 * time.Second):
			gone <- errors.New("the application was told of nothing")
		}
	})
	http2Site(t, app, nil, func(t *testing.T, url string, c *http.Client) {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		io.ReadFull(res.Body, make([]byte, 5))
		cancel()
		if err := <-gone; err != nil {
			t.Error(err)
		}
	})
}

// TestTransportOfAClient uses Transport as the transport of an http.Client: its timeout, an early Close, a redirect and a
// body sent again.
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
