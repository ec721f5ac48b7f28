package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
)

// front is a ResponseWriter that counts, and can fail.
type front struct {
	gatewaytest.Recorder
	flushes int
	fail    error // of Write
	interim []int
	refuse  error // of WriteInterim
}

func (f *front) Flush() error { f.flushes++; return nil }

func (f *front) Write(p []byte) (int, error) {
	if f.fail != nil {
		return 0, f.fail
	}
	return f.Recorder.Write(p)
}

func (f *front) WriteInterim(status int, h *gateway.Header) error {
	if f.refuse != nil {
		return f.refuse
	}
	f.interim = append(f.interim, status)
	return nil
}

// ready is a body whose bytes are all there.
type ready struct{ io.Reader }

func (ready) Ready() bool { return true }

func (ready) Close() error { return nil }

func TestProxyResponses(t *testing.T) {
	get := func() *gateway.Request { return gatewaytest.NewRequest("GET", "/", nil) }
	t.Run("a truncated response [087 252]", func(t *testing.T) {
		body := &closer{Reader: io.MultiReader(strings.NewReader("part"), iotest.ErrReader(gateway.ErrTruncated))}
		w := new(front)
		wantError(t, (&gateway.Proxy{Backend: backend(200, body)}).ServeGateway(w, get()), gateway.ErrTruncated)
		if w.Body.String() != "part" || body.closed != 1 {
			t.Errorf("%q, closed %d times", w.Body.String(), body.closed)
		}
	})
	t.Run("a peer that stops reading", func(t *testing.T) {
		body := &closer{Reader: strings.NewReader("response")}
		w := &front{fail: io.ErrClosedPipe}
		wantError(t, (&gateway.Proxy{Backend: backend(200, body)}).ServeGateway(w, get()), io.ErrClosedPipe)
		if body.closed != 1 {
			t.Errorf("closed %d times", body.closed)
		}
	})
	t.Run("when the proxy flushes", func(t *testing.T) {
		for name, c := range map[string]struct {
			body    io.ReadCloser
			flushes int
		}{
			"ready":            {ready{iotest.DataErrReader(strings.NewReader("all"))}, 0},
			"not known":        {&closer{Reader: iotest.DataErrReader(strings.NewReader("all"))}, 1},
			"piece for piece":  {ready{iotest.OneByteReader(strings.NewReader("abc"))}, 3},
			"the head at once": {&closer{Reader: strings.NewReader("")}, 1},
		} {
			w := new(front)
			if err := (&gateway.Proxy{Backend: backend(200, c.body)}).ServeGateway(w, get()); err != nil || w.flushes != c.flushes {
				t.Errorf("%s: %d flushes, %v", name, w.flushes, err)
			}
		}
	})
	t.Run("interim responses [249]", func(t *testing.T) {
		b := gateway.RoundTripperFunc(func(_ context.Context, r *gateway.Request, res *gateway.Response) error {
			if err := r.Interim(103, &res.Header); err != nil {
				return err
			}
			res.Status, res.Body = 200, ready{strings.NewReader("")}
			return nil
		})
		w := new(front)
		if err := (&gateway.Proxy{Backend: b}).ServeGateway(w, get()); err != nil || fmt.Sprint(w.interim) != "[103]" {
			t.Errorf("%v, %v", w.interim, err)
		}
		if err := (&gateway.Proxy{Backend: b}).ServeGateway(&front{refuse: errors.ErrUnsupported}, get()); err != nil {
			t.Error(err)
		}
		wantError(t, (&gateway.Proxy{Backend: b}).ServeGateway(&front{refuse: io.ErrClosedPipe}, get()), io.ErrClosedPipe)
	})
	t.Run("fields that are not passed [016 F1]", func(t *testing.T) {
		var got map[string]string
		b := gateway.RoundTripperFunc(func(_ context.Context, r *gateway.Request, res *gateway.Response) error {
			got = make(map[string]string)
			for name, value := range r.Params.All() {
				got[string(name)] = string(value)
			}
			res.Status, res.Body = 200, ready{strings.NewReader("")}
			return nil
		})
		r := get()
		for _, name := range []string{"HTTP_PROXY", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_TE",
			"HTTP_TRAILER", "HTTP_KEEP_ALIVE", "HTTP_CONNECTION", "HTTP_UPGRADE", "SCGI", "HTTP_X"} {
			r.Params.Set(name, "v")
		}
		for sent, passed := range map[string]string{"HTTP/2": "HTTP/2.0", "HTTP/3": "HTTP/3.0", "HTTP/1.0": "HTTP/1.0"} {
			r.Params.Set("SERVER_PROTOCOL", sent)
			if err := (&gateway.Proxy{Backend: b}).ServeGateway(new(front), r); err != nil {
				t.Fatal(err)
			}
			if len(got) != 12 || got["HTTP_X"] != "v" || got["SERVER_PROTOCOL"] != passed {
				t.Errorf("%v", got)
			}
		}
	})
	t.Run("ModifyResponse and lengths", func(t *testing.T) {
		for _, c := range []struct {
			status int
			length int64
			want   []string
		}{{200, -1, nil}, {200, 3, []string{"3"}}, {204, 3, []string{"99"}}} {
			p := &gateway.Proxy{Backend: backend(c.status, ready{strings.NewReader("abc")}, "Content-Length", "99"), ModifyResponse: func(res *gateway.Response) error {
				res.ContentLength = c.length
				return nil
			}}
			w := new(front)
			p.ServeGateway(w, get())
			var got []string
			for v := range w.Header().Values("Content-Length") {
				got = append(got, string(v))
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%d, %d: Content-Length %v", c.status, c.length, got)
			}
		}
		stop := errors.New("stop")
		body := &closer{Reader: strings.NewReader("")}
		p := &gateway.Proxy{Backend: backend(200, body), ModifyResponse: func(*gateway.Response) error { return stop }}
		wantError(t, p.ServeGateway(new(front), get()), stop)
		if body.closed != 1 {
			t.Errorf("closed %d times", body.closed)
		}
	})
	t.Run("large buffers are not pooled", func(t *testing.T) {
		large := 0
		b := gateway.RoundTripperFunc(func(_ context.Context, r *gateway.Request, res *gateway.Response) error {
			if (*pairs.List)(&r.Params).Cap() > 128<<10 || (*pairs.List)(&res.Header).Cap() > 128<<10 {
				large++
			}
			if r.Method() == "POST" {
				res.Header.Add("X", strings.Repeat("v", 1<<20))
			}
			res.Status, res.Body = 200, ready{strings.NewReader("")}
			return nil
		})
		for range 50 {
			p := &gateway.Proxy{Backend: b}
			r := gatewaytest.NewRequest("POST", "/", nil)
			p.ServeGateway(new(front), r)
			p.ServeGateway(new(front), get())
			r = get()
			r.Params.Add("HTTP_X", strings.Repeat("v", 1<<20))
			large--
			p.ServeGateway(new(front), r)
			p.ServeGateway(new(front), get())
		}
		if large != 0 {
			t.Errorf("large memory was used again %d times", large)
		}
	})
}

// TestProxyPasses lists all that a Proxy changes, hop-by-hop fields (F29) among it.
func TestProxyPasses(t *testing.T) {
	var got []string
	var length int64
	backend := gateway.InProcess(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		for name, value := range r.Params.All() {
			got = append(got, string(name)+"="+string(value))
		}
		length = r.ContentLength
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		w.Header().Add("X-B", "1")
		w.Header().Add("Set-Cookie", "a")
		w.Header().Add("Set-Cookie", "b")
		w.WriteHeader(207)
		w.SetAppStatus(5)
		io.WriteString(w.Stderr(), "err")
		_, err = w.Write(body)
		return err
	}))
	in := new(gateway.Request)
	for _, nv := range [][2]string{
		{"Z", "1"}, {"HTTP_PROXY", "x"}, {"HTTP_CONTENT_TYPE", "x"}, {"HTTP_CONTENT_LENGTH", "x"}, {"HTTP_TRANSFER_ENCODING", "chunked"},
		{"HTTP_TE", "x"}, {"HTTP_TRAILER", "x"}, {"HTTP_KEEP_ALIVE", "x"}, {"HTTP_CONNECTION", "x"}, {"HTTP_UPGRADE", "x"}, {"SCGI", "1"},
		{"SERVER_PROTOCOL", "HTTP/2"}, {"lower-case", "kept"}, {"HTTP_X", "b"}, {"UWSGI_ROUTER", "http"}, {"HTTP_X", "a"}, {"PATH_INFO", "/\xff\n"}, {"A", ""},
	} {
		in.Params.Add(nv[0], nv[1])
	}
	in.SetBody([]byte("body"))
	var w gatewaytest.Recorder
	if err := (&gateway.Proxy{Backend: backend}).ServeGateway(&w, in); err != nil {
		t.Fatal(err)
	}
	expect := []string{"Z=1", "SERVER_PROTOCOL=HTTP/2.0", "lower-case=kept", "HTTP_X=b, a", "UWSGI_ROUTER=http", "PATH_INFO=/\xff\n", "A="}
	if diff := cmp.Diff(expect, got); diff != "" {
		t.Error(diff)
	}
	if w.Body.String() != "body" || length != 4 || w.Status != 207 || w.AppStatus != 5 || w.Errors.String() != "err" {
		t.Errorf("%q %d %d %d %q", w.Body.String(), length, w.Status, w.AppStatus, w.Errors.String())
	}
	if diff := cmp.Diff([]string{"X-B: 1", "Set-Cookie: a", "Set-Cookie: b"}, fields(w.Header())); diff != "" {
		t.Error(diff)
	}
}

func TestProxyHooks(t *testing.T) {
	p := &gateway.Proxy{
		Backend: echoing,
		Rewrite: func(r *gateway.Request) error {
			if r.Method() == "DELETE" {
				return gateway.ErrParam
			}
			return nil
		},
		ModifyResponse: func(res *gateway.Response) error {
			res.Header.Set("X-Modified", "1")
			if res.Status == 200 && res.Header.Get("Stop") != "" {
				return io.EOF
			}
			return nil
		},
	}
	var w gatewaytest.Recorder
	if err := p.ServeGateway(&w, gatewaytest.NewRequest("POST", "/", []byte("b"))); err != nil || w.Body.String() != "1 b" || w.Header().Get("X-Modified") != "1" {
		t.Errorf("%q, %v", &w.Body, err)
	}
	wantError(t, p.ServeGateway(new(gatewaytest.Recorder), gatewaytest.NewRequest("DELETE", "/", nil)), gateway.ErrParam)
	p.ErrorHandler = func(w gateway.ResponseWriter, r *gateway.Request, err error) error {
		w.WriteHeader(418)
		return nil
	}
	w = gatewaytest.Recorder{}
	if err := p.ServeGateway(&w, gatewaytest.NewRequest("DELETE", "/", nil)); err != nil || w.Status != 418 {
		t.Errorf("%d, %v", w.Status, err)
	}
}

// A panic in ModifyResponse once left the response open, and a limit of math.MaxInt64 once let no
// body pass.
func TestPanicsAndLimits(t *testing.T) {
	body := &closer{Reader: strings.NewReader("")}
	func() {
		defer func() { recover() }()
		p := &gateway.Proxy{Backend: backend(200, body), ModifyResponse: func(*gateway.Response) error { panic("on purpose") }}
		p.ServeGateway(new(front), gatewaytest.NewRequest("GET", "/", nil))
	}()
	if body.closed != 1 {
		t.Errorf("closed %d times", body.closed)
	}
	r := gatewaytest.NewRequest("POST", "/", nil)
	r.Body, r.ContentLength = strings.NewReader(strings.Repeat("b", 100000)), -1
	length := int64(0)
	b := gateway.RoundTripperFunc(func(_ context.Context, r *gateway.Request, res *gateway.Response) error {
		length = r.ContentLength
		res.Status, res.Body = 200, ready{strings.NewReader("")}
		return nil
	})
	var res gateway.Response
	if err := (&gateway.Spool{Backend: b, MaxBytes: math.MaxInt64}).RoundTrip(t.Context(), r, &res); err != nil || length != 100000 {
		t.Errorf("%d, %v", length, err)
	}
	res.Body.Close()
}
