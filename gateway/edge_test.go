package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
)

// The tests here hold single lines: each was written because the line could be taken out and nothing failed.

// spooled are the temporary files that this process has open, with a name or without.
func spooled(t *testing.T) (n int) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc/self/fd")
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if name, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name())); err == nil && strings.Contains(name, "gatehouse-body-") {
			n++
		}
	}
	return n
}

// closer is a body that tells when it is closed.
type closer struct {
	io.Reader
	closed int
}

func (c *closer) Close() error { c.closed++; return nil }

// backend responds with res and body, whatever it is asked.
func backend(status int, body io.ReadCloser, fields ...string) gateway.RoundTripper {
	return gateway.RoundTripperFunc(func(_ context.Context, _ *gateway.Request, res *gateway.Response) error {
		res.Reset()
		res.Status, res.ContentLength, res.Body = status, -1, body
		for i := 0; i < len(fields); i += 2 {
			res.Header.Add(fields[i], fields[i+1])
		}
		return nil
	})
}

func TestSpoolLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	open := func(s *gateway.Spool, body io.Reader) error {
		s.Dir, s.MaxMemory = dir, 4
		r := gatewaytest.NewRequest("POST", "/", nil)
		r.Body, r.ContentLength = body, -1
		return s.RoundTrip(t.Context(), r, new(gateway.Response))
	}
	long := func() io.Reader { return strings.NewReader("longer than memory") }
	fails := gateway.RoundTripperFunc(func(context.Context, *gateway.Request, *gateway.Response) error { return io.ErrClosedPipe })
	for name, f := range map[string]func() error{
		"a backend that fails": func() error { return open(&gateway.Spool{Backend: fails}, long()) },
		"a body that fails": func() error {
			return open(&gateway.Spool{Backend: fails}, io.MultiReader(long(), iotest.ErrReader(io.ErrNoProgress)))
		},
		"a body too large": func() error { return open(&gateway.Spool{Backend: fails, MaxBytes: 10}, long()) },
	} {
		if err := f(); err == nil || spooled(t) > 0 {
			t.Errorf("%s: %v, %d files open", name, err, spooled(t))
		}
	}
	body := &closer{Reader: strings.NewReader("response")}
	named := 0
	b := gateway.RoundTripperFunc(func(_ context.Context, r *gateway.Request, res *gateway.Response) error {
		files, _ := os.ReadDir(dir)
		named = len(files)
		res.Status, res.Body = 200, body
		for range 2 {
			if b, err := io.ReadAll(r.Body); string(b) != "longer than memory" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
			r.Body, _ = r.GetBody()
		}
		return nil
	})
	var res gateway.Response
	s := &gateway.Spool{Backend: b, Dir: dir, MaxMemory: 4}
	r := gatewaytest.NewRequest("POST", "/", nil)
	r.Body, r.ContentLength = long(), -1
	if err := s.RoundTrip(t.Context(), r, &res); err != nil {
		t.Fatal(err)
	}
	if named > 0 || spooled(t) != 1 {
		t.Errorf("%d files with a name, %d open", named, spooled(t))
	}
	if res.Body.Close(); spooled(t) > 0 || body.closed != 1 {
		t.Errorf("%d files open, the response's body closed %d times", spooled(t), body.closed)
	}
}

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

func (ready) Ready() bool  { return true }
func (ready) Close() error { return nil }

func TestProxyEdges(t *testing.T) {
	get := func() *gateway.Request { return gatewaytest.NewRequest("GET", "/", nil) }
	t.Run("a response that is cut [087 252]", func(t *testing.T) {
		body := &closer{Reader: io.MultiReader(strings.NewReader("part"), iotest.ErrReader(gateway.ErrTruncated))}
		w := new(front)
		wantError(t, (&gateway.Proxy{Backend: backend(200, body)}).ServeGateway(w, get()), gateway.ErrTruncated)
		if w.Body.String() != "part" || body.closed != 1 {
			t.Errorf("%q, closed %d times", w.Body.String(), body.closed)
		}
	})
	t.Run("a peer that takes no more", func(t *testing.T) {
		body := &closer{Reader: strings.NewReader("response")}
		w := &front{fail: io.ErrClosedPipe}
		wantError(t, (&gateway.Proxy{Backend: backend(200, body)}).ServeGateway(w, get()), io.ErrClosedPipe)
		if body.closed != 1 {
			t.Errorf("closed %d times", body.closed)
		}
	})
	t.Run("what flushes", func(t *testing.T) {
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
	t.Run("what is not passed [016 F1]", func(t *testing.T) {
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
	t.Run("no pool holds what one large request needed", func(t *testing.T) {
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

func TestDirectEdges(t *testing.T) {
	type result struct {
		body string
		err  error
	}
	ask := func(t *testing.T, r *gateway.Request, h gateway.HandlerFunc) (out result) {
		t.Helper()
		var res gateway.Response
		if out.err = gateway.InProcess(h).RoundTrip(t.Context(), r, &res); out.err == nil {
			b, err := io.ReadAll(res.Body)
			res.Body.Close()
			out = result{string(b), err}
		}
		return out
	}
	t.Run("a request's body of another length [079 146]", func(t *testing.T) {
		for _, c := range []struct {
			body   string
			length int64
			want   string
		}{{"hello!", 5, "hello <nil>"}, {"hell", 5, "hell unexpected EOF"}, {"hello", -1, "hello <nil>"}} {
			r := gatewaytest.NewRequest("POST", "/", nil)
			r.Body, r.ContentLength = iotest.OneByteReader(strings.NewReader(c.body)), c.length
			out := ask(t, r, func(w gateway.ResponseWriter, r *gateway.Request) error {
				b, err := io.ReadAll(r.Body)
				fmt.Fprintf(w, "%s %v", b, err)
				return nil
			})
			if out.body != c.want || out.err != nil {
				t.Errorf("%+v", out)
			}
		}
	})
	t.Run("a Filter's data", func(t *testing.T) {
		r := gatewaytest.NewRequest("POST", "/", []byte("body"))
		r.Role, r.Data = 3, strings.NewReader("data")
		out := ask(t, r, func(w gateway.ResponseWriter, r *gateway.Request) error {
			b, err := io.ReadAll(r.Data)
			fmt.Fprintf(w, "%v %s %v", r.Role, b, err)
			return nil
		})
		if out.body != "Filter data <nil>" || out.err != nil {
			t.Errorf("%+v", out)
		}
	})
	t.Run("a param that stands twice", func(t *testing.T) {
		r := gatewaytest.NewRequest("GET", "/", nil)
		r.Params.Add("REQUEST_METHOD", "POST")
		if out := ask(t, r, func(gateway.ResponseWriter, *gateway.Request) error { return nil }); !errors.Is(out.err, gateway.ErrParam) {
			t.Errorf("%+v", out)
		}
	})
	t.Run("a context that ends in mid-response", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		var res gateway.Response
		seen := make(chan error, 1)
		err := gateway.InProcess(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			io.WriteString(w, "part")
			_, err := io.WriteString(w, "what is not read")
			seen <- err
			return err
		})).RoundTrip(ctx, gatewaytest.NewRequest("GET", "/", nil), &res)
		if err != nil {
			t.Fatal(err)
		}
		io.ReadFull(res.Body, make([]byte, 4))
		why := errors.New("enough")
		cancel(why)
		if err := <-seen; !errors.Is(err, gateway.ErrAborted) {
			t.Errorf("the handler saw %v", err)
		}
		_, err = io.ReadAll(res.Body)
		if typed, ok := errors.AsType[*gateway.Error](err); !ok || typed.Phase != gateway.PhaseBody || !errors.Is(err, why) {
			t.Errorf("the reader saw %v", err)
		}
	})
	t.Run("a response of another length [268]", func(t *testing.T) {
		for _, c := range []struct {
			method, length, body string
			status               int
			want                 string
			err                  error
		}{
			{"GET", "3", "abcd", 200, "abc", nil},
			{"GET", "5", "abc", 200, "abc", gateway.ErrTruncated},
			{"HEAD", "5", "", 200, "", nil},
			{"GET", "5", "", 304, "", nil},
		} {
			out := ask(t, gatewaytest.NewRequest(c.method, "/", nil), func(w gateway.ResponseWriter, r *gateway.Request) error {
				w.Header().Set("Content-Length", c.length)
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
				return nil
			})
			if out.body != c.want || !errors.Is(out.err, c.err) {
				t.Errorf("%+v: %+v", c, out)
			}
		}
	})
	t.Run("heads that are none [249 264]", func(t *testing.T) {
		for name, h := range map[string]gateway.HandlerFunc{
			"length": func(w gateway.ResponseWriter, r *gateway.Request) error {
				w.Header().Set("Content-Length", "abc")
				return w.Flush()
			},
			"interim": func(w gateway.ResponseWriter, r *gateway.Request) error {
				w.WriteHeader(103)
				return nil
			},
			"goexit": func(w gateway.ResponseWriter, r *gateway.Request) error {
				runtime.Goexit()
				return nil
			},
		} {
			if out := ask(t, gatewaytest.NewRequest("GET", "/", nil), h); out.err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	})
	t.Run("after Close [136 F36]", func(t *testing.T) {
		ended := make(chan error, 1)
		r := gatewaytest.NewRequest("POST", "/", nil)
		var errs bytes.Buffer
		r.Stderr = &errs
		r.Body, r.ContentLength = strings.NewReader("hello"), 5
		var res gateway.Response
		err := gateway.InProcess(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			io.WriteString(w.Stderr(), "before")
			w.Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(30 * time.Second):
				ended <- errors.New("the context is not done")
				return nil
			}
			io.WriteString(w.Stderr(), "after")
			if n, err := r.Body.Read(make([]byte, 5)); n > 0 || err == nil {
				ended <- fmt.Errorf("read %d bytes, %v", n, err)
				return nil
			}
			if _, err := io.WriteString(w, strings.Repeat("x", 1000)); err == nil {
				ended <- errors.New("wrote to a closed pipe")
				return nil
			}
			ended <- nil
			return nil
		})).RoundTrip(t.Context(), r, &res)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if err := <-ended; err != nil || errs.String() != "before" {
			t.Errorf("%v, STDERR %q", err, errs.String())
		}
	})
	t.Run("no STDERR", func(t *testing.T) {
		out := ask(t, gatewaytest.NewRequest("GET", "/", nil), func(w gateway.ResponseWriter, r *gateway.Request) error {
			_, err := io.WriteString(w.Stderr(), "late")
			return err
		})
		if out.err != nil {
			t.Error(out.err)
		}
	})
}

func TestRuleEdges(t *testing.T) {
	t.Run("CR and LF in names [003 F18]", func(t *testing.T) {
		for _, name := range []string{"A\rB", "A\nB", "A\x00B"} {
			_, err := receive(t, name, "v")
			wantError(t, err, gateway.ErrParam)
			_, err = send(t, name, "v")
			wantError(t, err, gateway.ErrParam)
		}
	})
	t.Run("caps of what is received [043 F35]", func(t *testing.T) {
		whole := func(n int) error {
			l := make([]byte, 0, n+100)
			l = append(l, 6, byte(1<<7|n>>24), byte(n>>16), byte(n>>8), byte(n))
			l = append(l, "HTTP_X"...)
			l = append(l, strings.Repeat("v", n)...)
			b, _ := fastcgi.AppendBegin(nil, 1, fastcgi.Begin{Role: gateway.RoleResponder})
			b, _ = fastcgi.AppendRecord(b, fastcgi.TypeParams, 1, l)
			b, _ = fastcgi.AppendRecord(b, fastcgi.TypeParams, 1, nil)
			return fastcgi.NewReader(bytes.NewReader(b)).ReadRequest(new(gateway.Request))
		}
		if err := whole(64 << 10); err != nil {
			t.Error(err)
		}
		wantError(t, whole(64<<10+1), gateway.ErrTooLarge)
		var nv []string
		for i := range gateway.MaxPairs {
			nv = append(nv, fmt.Sprintf("N%d", i), "")
		}
		b, _ := fastcgi.AppendBegin(nil, 1, fastcgi.Begin{Role: gateway.RoleResponder})
		var content []byte
		for i := 0; i < len(nv); i += 2 {
			content, _ = fastcgi.AppendParam(content, nv[i], nv[i+1])
		}
		b, _ = fastcgi.AppendRecord(b, fastcgi.TypeParams, 1, content)
		b, _ = fastcgi.AppendRecord(b, fastcgi.TypeParams, 1, nil)
		r := new(gateway.Request)
		if err := fastcgi.NewReader(bytes.NewReader(b)).ReadRequest(r); err != nil || r.Params.Len() != gateway.MaxPairs {
			t.Errorf("%d params, %v", r.Params.Len(), err)
		}
	})
	t.Run("SERVER_PROTOCOL [023]", func(t *testing.T) {
		for _, v := range []string{"HTTP/1x1", "HTTP/1.x", "HTTP/11", "HTTP/1.1.", "HTTP/"} {
			r := new(gateway.Request)
			r.Params.Add("SERVER_PROTOCOL", v)
			if _, _, ok := r.Protocol(); ok {
				t.Errorf("%q is a protocol", v)
			}
		}
	})
	t.Run("paths and hosts [026 028 033 036]", func(t *testing.T) {
		request := func(nv ...string) *gateway.Request {
			r := new(gateway.Request)
			for i := 0; i < len(nv); i += 2 {
				r.Params.Add(nv[i], nv[i+1])
			}
			return r
		}
		if got := request("REQUEST_URI", "http://h?q=/x").Path(); got != "/" {
			t.Errorf("path %q", got)
		}
		if got := request("SERVER_NAME", "name").Host(); got != "name" {
			t.Errorf("host %q", got)
		}
		if request("REQUEST_URI", "/%zz", "PATH_INFO", "/%zz").PathAgrees() {
			t.Error("a URI that cannot be decoded agrees")
		}
		if request("REQUEST_URI", "a/b://h/x", "PATH_INFO", "/x").PathAgrees() || request("REQUEST_URI", "a?b://h/x", "PATH_INFO", "/x").PathAgrees() {
			t.Error("a scheme with a slash agrees")
		}
		wantError(t, new(gateway.Request).SetTarget("GET", "/\x7f"), gateway.ErrParam)
	})
	t.Run("a copy has no context", func(t *testing.T) {
		var res gateway.Response
		gateway.InProcess(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			var copied gateway.Request
			copied.CopyFrom(r)
			if copied.Context() != context.Background() || r.Context() == context.Background() {
				t.Error("the copy has the context of what it was copied from")
			}
			return nil
		})).RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/", nil), &res)
		res.Body.Close()
	})
}

func TestHeadEdges(t *testing.T) {
	consume := func(head string) error {
		_, err := gateway.ConsumeResponse([]byte(head), new(gateway.Response))
		return err
	}
	t.Run("control bytes in a reason [245 F18]", func(t *testing.T) {
		for _, head := range []string{"HTTP/1.1 200 O\rK\r\n\r\n", "HTTP/1.1 200 \x01\r\n\r\n", "Status: 200 O\rK\r\n\r\n"} {
			wantError(t, consume(head), gateway.ErrMalformed)
		}
	})
	t.Run("a name over the cap [257]", func(t *testing.T) {
		wantError(t, consume(strings.Repeat("N", 8193)+": v\r\n\r\n"), gateway.ErrTooLarge)
		if err := consume(strings.Repeat("N", 8192) + ": v\r\n\r\n"); err != nil {
			t.Error(err)
		}
	})
	t.Run("white space around a status [244]", func(t *testing.T) {
		var res gateway.Response
		if _, err := gateway.ConsumeResponse([]byte("Status:\t404\t\r\n\r\n"), &res); err != nil || res.Status != 404 {
			t.Errorf("%d, %v", res.Status, err)
		}
	})
	t.Run("one Content-Length [268 F19]", func(t *testing.T) {
		for _, c := range []struct {
			status int
			length int64
			want   string
		}{
			{200, 3, "Status: 200 OK\r\nContent-Length: 3\r\n\r\n"},
			{200, -1, "Status: 200 OK\r\n\r\n"},
			{204, 3, "Status: 204 No Content\r\n\r\n"},
			{103, 0, "Status: 103 Early Hints\r\n\r\n"},
		} {
			res := gateway.Response{Status: c.status, ContentLength: c.length}
			res.Header.Add("Content-Length", "99")
			if b, err := gateway.AppendResponse(nil, &res); string(b) != c.want || err != nil {
				t.Errorf("%q, %v", b, err)
			}
		}
	})
}

// A panic in ModifyResponse once left the response open, and a limit on bodies that has no next once let none through.
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
