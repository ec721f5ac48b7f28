package gatewayhttp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

// serve starts h behind a FastCGI server and returns a client of it.
func serve(t testing.TB, h http.Handler) *fastcgi.Client {
	t.Helper()
	c := &fastcgi.Client{Addr: gatewaytest.Start(t, &fastcgi.Server{Handler: gatewayhttp.Handler(h), Logger: quiet, SendInterim: true}), MaxIdleConns: 2, Logger: quiet}
	t.Cleanup(func() { c.Close() })
	return c
}

// response returns the response of h to r over FastCGI.
func response(t *testing.T, h http.HandlerFunc, r *gateway.Request) (status int, header map[string]string, body string, err error) {
	t.Helper()
	var res gateway.Response
	if err := serve(t, h).RoundTrip(t.Context(), r, &res); err != nil {
		return 0, nil, "", err
	}
	defer res.Body.Close()
	header = make(map[string]string)
	for name, value := range res.Header.All() {
		header[string(name)] += string(value) + ";"
	}
	b, err := io.ReadAll(res.Body)
	return res.Status, header, string(b), err
}

func TestHandler(t *testing.T) {
	req := func(method string) *gateway.Request { return gatewaytest.NewRequest(method, "/", nil) }
	t.Run("fields that are not sent [264 F18 F28 266 274]", func(t *testing.T) {
		status, header, _, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			for _, name := range []string{"Status", "Transfer-Encoding", "Connection", "Keep-Alive", "Upgrade", "Trailer", "X-Accel-Redirect", "X-Sendfile", "X-LIGHTTPD-send-file", "Te"} {
				w.Header().Set(name, "201 forged")
			}
			w.Header().Set("X-Accel-Buffering", "no")
			w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
			w.WriteHeader(202)
		}, req("GET"))
		if diff := cmp.Diff(map[string]string{"X-Accel-Buffering": "no;"}, header); err != nil || status != 202 || diff != "" {
			t.Errorf("%d, %v %s", status, err, diff)
		}
		status, header, _, err = response(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X", "a\r\nInjected: 1")
		}, req("GET"))
		if err != nil || status != 500 || len(header) > 1 {
			t.Errorf("%d %v, %v", status, header, err)
		}
	})
	t.Run("the type of the body [267 F25]", func(t *testing.T) {
		for body, expect := range map[string]string{"plain": "text/plain; charset=utf-8;", "\x00\x01": "application/octet-stream;", "": ""} {
			_, header, got, err := response(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) }, req("GET"))
			if err != nil || header["Content-Type"] != expect || got != body {
				t.Errorf("%q: %v, %v", body, header, err)
			}
		}
		for _, status := range []int{204, 304} {
			_, header, got, err := response(t, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(status)
				if _, err := io.WriteString(w, "body"); !errors.Is(err, http.ErrBodyNotAllowed) {
					t.Errorf("%v", err)
				}
			}, req("GET"))
			if err != nil || len(header) > 0 || got != "" {
				t.Errorf("%d: %v %q, %v", status, header, got, err)
			}
		}
		_, header, _, _ := response(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, "x")
		}, req("GET"))
		if header["Content-Type"] != "" {
			t.Errorf("%v", header)
		}
	})
	t.Run("Content-Length [268]", func(t *testing.T) {
		for _, bad := range []string{"", "abc", " 5", "-1"} {
			status, header, body, err := response(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", bad)
				io.WriteString(w, "body")
			}, req("GET"))
			if err != nil || status != 200 || body != "body" || header["Content-Length"] != "" {
				t.Errorf("%q: %d %q %v, %v", bad, status, body, header, err)
			}
		}
		_, header, body, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "3")
			if _, err := io.WriteString(w, "abcd"); !errors.Is(err, http.ErrContentLength) {
				t.Errorf("%v", err)
			}
			io.WriteString(w, "abc")
		}, req("GET"))
		if err != nil || body != "abc" || header["Content-Length"] != "3;" {
			t.Errorf("%q %v, %v", body, header, err)
		}
		_, _, _, err = response(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "3")
			io.WriteString(w, "ab")
			w.(http.Flusher).Flush()
		}, req("GET"))
		if !errors.Is(err, gateway.ErrTruncated) {
			t.Errorf("a short body looks whole: %v", err)
		}
	})
	t.Run("interim responses [269 F30]", func(t *testing.T) {
		r := req("GET")
		var interim []int
		r.Interim = func(status int, h *gateway.Header) error {
			interim = append(interim, status)
			return nil
		}
		status, _, body, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			for _, status := range []int{100, 101, 103} {
				w.WriteHeader(status)
			}
			io.WriteString(w, "x")
		}, r)
		if err != nil || status != 200 || body != "x" || !slices.Equal(interim, []int{103}) {
			t.Errorf("%d %q %v, %v", status, body, interim, err)
		}
	})
	t.Run("WriteHeader [270]", func(t *testing.T) {
		status, header, _, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(404)
			w.Header().Set("X-Late", "1")
			w.WriteHeader(200)
		}, req("GET"))
		if err != nil || status != 404 || header["X-Late"] != "" {
			t.Errorf("%d %v, %v", status, header, err)
		}
		if status, _, _, err := response(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(42) }, req("GET")); err != nil || status != 500 {
			t.Errorf("%d, %v", status, err)
		}
	})
	t.Run("HEAD [271 261]", func(t *testing.T) {
		status, header, body, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "5")
			n, err := io.WriteString(w, "hello")
			if n != 5 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
			io.Copy(w, strings.NewReader(""))
		}, req("HEAD"))
		if err != nil || status != 200 || body != "" || header["Content-Length"] != "5;" || header["Content-Type"] == "" {
			t.Errorf("%d %v %q, %v", status, header, body, err)
		}
	})
	t.Run("cookies [272]", func(t *testing.T) {
		_, header, _, _ := response(t, func(w http.ResponseWriter, r *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "a", Value: "1"})
			http.SetCookie(w, &http.Cookie{Name: "b", Value: "2"})
		}, req("GET"))
		if header["Set-Cookie"] != "a=1;b=2;" {
			t.Errorf("%v", header)
		}
	})
	t.Run("Flush and deadlines [275 142]", func(t *testing.T) {
		step := make(chan bool)
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rc := http.NewResponseController(w)
			for _, err := range []error{rc.SetReadDeadline(time.Now().Add(time.Minute)), rc.SetWriteDeadline(time.Now().Add(time.Minute)), rc.EnableFullDuplex(), rc.Flush()} {
				if err != nil {
					t.Error(err)
				}
			}
			if _, _, err := rc.Hijack(); !errors.Is(err, http.ErrNotSupported) {
				t.Error(err)
			}
			<-step
			io.WriteString(w, "one")
			rc.Flush()
			<-step
			io.WriteString(w, "two")
		}))
		var res gateway.Response
		if err := c.RoundTrip(t.Context(), req("GET"), &res); err != nil { // the head alone has come
			t.Fatal(err)
		}
		defer res.Body.Close()
		step <- true
		b := make([]byte, 100)
		if n, err := res.Body.Read(b); string(b[:n]) != "one" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
		step <- true
		if rest, err := io.ReadAll(res.Body); string(rest) != "two" || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
	})
	t.Run("a handler that aborts [276]", func(t *testing.T) {
		_, _, body, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "part")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, req("GET"))
		if !errors.Is(err, gateway.ErrTruncated) || body != "part" {
			t.Errorf("%q, %v", body, err)
		}
	})
	t.Run("the request's context, body and params", func(t *testing.T) {
		var kept *http.Request
		r := gatewaytest.NewRequest("POST", "/x", []byte("body"))
		_, _, body, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			kept = r
			b, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %v %s %v", b, err, gatewayhttp.Params(r).Get("PATH_INFO"), r.Context().Err())
		}, r)
		if err != nil || body != "body <nil> /x <nil>" {
			t.Errorf("%q, %v", body, err)
		}
		<-kept.Context().Done()
		if gatewayhttp.Params(kept).Get("PATH_INFO") != "/x" {
			t.Error("the params that were asked for are gone")
		}
	})
	t.Run("a request that is kept does not show the next", func(t *testing.T) {
		var kept []*http.Request
		c := &fastcgi.Client{MaxIdleConns: 1, Addr: gatewaytest.Start(t, &fastcgi.Server{Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			hr, err := gatewayhttp.NewRequest(r.Context(), r)
			kept = append(kept, hr)
			return err
		})})}
		defer c.Close()
		unasked := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { kept = append(kept, r) }))
		for _, client := range []*fastcgi.Client{c, unasked} {
			kept = nil
			for _, path := range []string{"/alice", "/bob"} {
				var res gateway.Response
				if err := client.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", path, nil), &res); err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			if got := gatewayhttp.Params(kept[0]).Get("PATH_INFO"); got != "/alice" && got != "" {
				t.Errorf("alice's request says %q", got)
			}
		}
	})
	t.Run("nil is the default mux", func(t *testing.T) {
		var w gatewaytest.Recorder
		if err := gatewayhttp.Handler(nil).ServeGateway(&w, req("GET")); err != nil || w.Status != 404 {
			t.Errorf("%d, %v", w.Status, err)
		}
	})
}

func TestHandlerHeads(t *testing.T) {
	get := func(method string) *gateway.Request { return gatewaytest.NewRequest(method, "/", nil) }
	t.Run("names that are not canonical [266 F28]", func(t *testing.T) {
		_, header, _, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			for _, name := range []string{"x-accel-redirect", "X-sendfile", "X-Sendfile2", "x-reproxy-url", "status", "transfer-encoding"} {
				w.Header()[name] = []string{"v"}
			}
			w.Header().Set("Proxy-Authenticate", "Basic")
		}, get("GET"))
		for name := range header {
			if strings.ContainsAny(strings.ToLower(name[:1]), "xst") {
				t.Errorf("%s is sent", name)
			}
		}
		if err != nil || header["Proxy-Authenticate"] != "Basic;" {
			t.Errorf("%v, %v", header, err)
		}
	})
	t.Run("a Content-Type that the handler sets [267 F25]", func(t *testing.T) {
		_, header, _, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/x-own")
			io.WriteString(w, "<html>")
		}, get("GET"))
		if err != nil || header["Content-Type"] != "text/x-own;" {
			t.Errorf("%v, %v", header, err)
		}
	})
	t.Run("lengths of bodies that are not sent [268 271]", func(t *testing.T) {
		for _, c := range []struct {
			method string
			status int
		}{{"HEAD", 200}, {"GET", 304}} {
			status, header, body, err := response(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "10")
				w.WriteHeader(c.status)
			}, get(c.method))
			if err != nil || status != c.status || header["Content-Length"] != "10;" || body != "" {
				t.Errorf("%s: %d %v %q, %v", c.method, status, header, body, err)
			}
		}
		_, _, body, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "one")
			io.WriteString(w, "two")
		}, get("HEAD"))
		if err != nil || body != "" {
			t.Errorf("%q, %v", body, err)
		}
		var w gatewaytest.Recorder
		h := gatewayhttp.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "short")
		}))
		if err := h.ServeGateway(&w, get("GET")); err == nil {
			t.Error("a short body causes no error")
		}
	})
	t.Run("a status, then Flush [275]", func(t *testing.T) {
		status, _, _, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(404)
			w.(http.Flusher).Flush()
		}, get("GET"))
		if err != nil || status != 404 {
			t.Errorf("%d, %v", status, err)
		}
	})
	t.Run("a handler that panics [270 276]", func(t *testing.T) {
		for name, h := range map[string]http.HandlerFunc{
			"1000": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(1000) },
			"x":    func(w http.ResponseWriter, r *http.Request) { panic("x") },
		} {
			var log bytes.Buffer
			srv := &fastcgi.Server{Handler: gatewayhttp.Handler(h), Logger: slog.New(slog.NewTextHandler(&log, nil))}
			c := &fastcgi.Client{Addr: gatewaytest.Start(t, srv), Logger: quiet}
			var res gateway.Response
			r := get("GET")
			var errs bytes.Buffer
			r.Stderr = &errs
			if err := c.RoundTrip(t.Context(), r, &res); err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.Status != 500 || errs.Len() == 0 || !strings.Contains(log.String(), "panicked") {
				t.Errorf("%s: %d, STDERR %q, log %q", name, res.Status, errs.String(), log.String())
			}
		}
	})
	t.Run("context.AfterFunc", func(t *testing.T) {
		fired := make(chan struct{})
		if _, _, _, err := response(t, func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithCancel(r.Context())
			context.AfterFunc(ctx, func() { close(fired) })
			_ = cancel // the request's end is what fires
		}, get("GET")); err != nil {
			t.Fatal(err)
		}
		select {
		case <-fired:
		case <-time.After(30 * time.Second):
			t.Error("nothing fired at the end of the request")
		}
	})
	t.Run("nil is the default mux, also for Handle", func(t *testing.T) {
		onDefaultMux()
		var w gatewaytest.Recorder
		if err := gatewayhttp.Handler(nil).ServeGateway(&w, gatewaytest.NewRequest("GET", "/edge-of-the-default-mux", nil)); err != nil || w.Body.String() != "default" {
			t.Errorf("%q, %v", w.Body.String(), err)
		}
	})
}

var onDefaultMux = sync.OnceFunc(func() {
	http.HandleFunc("/edge-of-the-default-mux", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "default") })
})

// What a handler sets after WriteHeader is not sent, and does not keep the type from being found.
func TestTypeAfterWriteHeader(t *testing.T) {
	h := gatewayhttp.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.Header().Set("Content-Type", "text/late")
		io.WriteString(w, "<html>")
	}))
	var w gatewaytest.Recorder
	if err := h.ServeGateway(&w, gatewaytest.NewRequest("GET", "/", nil)); err != nil {
		t.Fatal(err)
	}
	if got := w.Header().Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("267: %q", got)
	}
}
