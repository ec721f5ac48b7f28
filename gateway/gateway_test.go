package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

func TestParams(t *testing.T) {
	var p gateway.Params
	p.Add("A", "1")
	p.AddBytes([]byte("B"), []byte("2"))
	p.Add("A", "3")
	p.Set("A", "4")
	p.Set("C", "5")
	var copied gateway.Params
	copied.CopyFrom(&p)
	p.Del("B")
	p.Set("A", "changed")
	var got strings.Builder
	for name, value := range copied.All() {
		fmt.Fprintf(&got, "%s=%s ", name, value)
	}
	if got.String() != "A=4 B=2 C=5 " || p.Len() != 2 || p.Get("A") != "changed" || p.Get("B") != "" {
		t.Errorf("%s, %d", got.String(), p.Len())
	}
	if _, ok := p.Lookup("a"); ok {
		t.Error("names match without case")
	}
	p.Reset()
	if p.Len() != 0 {
		t.Error("not empty")
	}
	var none *gateway.Params
	if none.Len() != 0 || none.Get("A") != "" || len(slices.Collect(seqNames(none))) != 0 {
		t.Error("nil is not empty")
	}
	copied.CopyFrom(none)
	if copied.Len() != 0 {
		t.Error("a copy of nil is not empty")
	}
}

func seqNames(p *gateway.Params) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name := range p.All() {
			if !yield(string(name)) {
				return
			}
		}
	}
}

func TestHeader(t *testing.T) {
	var h gateway.Header
	h.Add("Set-Cookie", "a")
	h.AddBytes([]byte("set-cookie"), []byte("b"))
	h.Set("X", "1")
	h.Set("x", "2")
	var cookies []string
	for v := range h.Values("SET-COOKIE") {
		cookies = append(cookies, string(v))
	}
	if !slices.Equal(cookies, []string{"a", "b"}) || h.Get("X") != "2" || h.Len() != 3 {
		t.Errorf("%v %q %d", cookies, h.Get("X"), h.Len())
	}
	h.Set("Set-Cookie", "c")
	h.Del("X")
	var copied gateway.Header
	copied.CopyFrom(&h)
	h.Reset()
	if copied.Len() != 1 || copied.Get("set-cookie") != "c" || h.Len() != 0 {
		t.Error("copy")
	}
	var none *gateway.Header
	if _, ok := none.Lookup("X"); ok || none.Len() != 0 {
		t.Error("nil is not empty")
	}
}

func TestRequestReuse(t *testing.T) {
	r := gatewaytest.NewRequest("POST", "/x", []byte("body"))
	for range 2 {
		body, err := r.GetBody()
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(body); string(b) != "body" {
			t.Errorf("%q", b)
		}
	}
	var copied gateway.Request
	copied.CopyFrom(r)
	r.Reset()
	if copied.Method() != "POST" || copied.ContentLength != 4 || r.Method() != "" || r.Body != nil || r.GetBody != nil || r.ContentLength != 0 {
		t.Errorf("%q %d", copied.Method(), copied.ContentLength)
	}
	if r.Context() != context.Background() {
		t.Error("a context from nowhere")
	}
	body := []byte("again")
	if allocs := testing.AllocsPerRun(100, func() { r.SetBody(body) }); allocs > 0 {
		t.Errorf("SetBody: %v allocations", allocs)
	}
}

func TestErrors(t *testing.T) {
	for err, status := range map[error]int{
		gateway.ErrParam: 400, gateway.ErrLengthRequired: 411, gateway.ErrBodyTooLarge: 413, gateway.ErrTooLarge: 431,
		gateway.ErrMalformed: 502, gateway.ErrNoResponse: 502, gateway.ErrTruncated: 502, gateway.ErrRefused: 503, io.EOF: 500,
		&gateway.Error{Phase: gateway.PhaseHead, Err: gateway.ErrTooLarge}:      502,
		&gateway.Error{Phase: gateway.PhaseRequest, Err: gateway.ErrTooLarge}:   431,
		&gateway.Error{Phase: gateway.PhaseHead, Err: os.ErrDeadlineExceeded}:   504,
		&gateway.Error{Phase: gateway.PhaseDial, Err: context.DeadlineExceeded}: 504,
		&gateway.Error{Phase: gateway.PhaseWait, Err: context.DeadlineExceeded}: 503,
		&gateway.Error{Phase: gateway.PhaseDial, Err: fs.ErrNotExist}:           502,
		fmt.Errorf("wrapped: %w", &gateway.Error{Err: gateway.ErrParam}):        400,
	} {
		t.Run(err.Error()+" [294]", func(t *testing.T) {
			if got := gateway.ErrorStatus(err); got != status {
				t.Errorf("%d, want %d", got, status)
			}
		})
	}
	for _, c := range []struct {
		err   error
		retry bool
	}{
		{io.EOF, false},
		{&gateway.Error{Phase: gateway.PhaseRequest, Err: io.EOF}, false},
		{&gateway.Error{Phase: gateway.PhaseDial, Err: io.EOF}, true},
		{&gateway.Error{Phase: gateway.PhaseWait, Err: io.EOF}, true},
		{&gateway.Error{Phase: gateway.PhaseSend, Err: io.EOF}, true},
		{&gateway.Error{Phase: gateway.PhaseSend, Sent: true, Err: io.EOF}, false},
		{&gateway.Error{Phase: gateway.PhaseHead, Sent: true, Err: gateway.ErrRefused}, true},
		{&gateway.Error{Phase: gateway.PhaseBody, Sent: true, Err: gateway.ErrRefused}, false},
	} {
		if got := gateway.Retryable(c.err); got != c.retry {
			t.Errorf("%v: %v", c.err, got)
		}
	}
	e := &gateway.Error{Phase: gateway.PhaseHead, Addr: "unix:/x", Reused: true, Err: gateway.ErrTruncated}
	if e.Error() != "gateway: head unix:/x (kept connection): response truncated" || !errors.Is(e, io.ErrUnexpectedEOF) || e.Timeout() {
		t.Error(e)
	}
	if gateway.Phase(99).String() != "unknown phase" || gateway.Role(9).String() != "Role(9)" || gateway.Role(0).String() != "Responder" {
		t.Error("names")
	}
}

func TestReasons(t *testing.T) {
	for status := 200; status < 600; status++ {
		b, err := gateway.AppendResponse(nil, &gateway.Response{Status: status, ContentLength: -1})
		if err != nil {
			t.Fatal(err)
		}
		if text := http.StatusText(status); text != "" && string(b) != fmt.Sprintf("Status: %d %s\r\n\r\n", status, text) {
			t.Errorf("%q, net/http says %q", b, text)
		}
	}
}

func TestTokens(t *testing.T) {
	for c := range 256 {
		r := &gateway.Response{Status: 200}
		r.Header.Add("X"+string([]byte{byte(c)}), "v")
		_, err := gateway.AppendResponse(nil, r)
		if ok := httpguts.ValidHeaderFieldName("X" + string([]byte{byte(c)})); ok != (err == nil) {
			t.Errorf("name byte %#x: %v", c, err)
		}
		r = &gateway.Response{Status: 200}
		r.Header.Add("X", string([]byte{byte(c)}))
		_, err = gateway.AppendResponse(nil, r)
		if ok := httpguts.ValidHeaderFieldValue(string([]byte{byte(c)})); ok != (err == nil) {
			t.Errorf("value byte %#x: %v", c, err)
		}
	}
}

// echoing responds with the length it was told and the body.
var echoing = gateway.InProcess(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%d %s", r.ContentLength, b)
	return nil
}))

func TestSpool(t *testing.T) {
	for _, n := range []int{0, 9, 10, 11, 100, 101} {
		dir := t.TempDir()
		s := &gateway.Spool{Backend: echoing, MaxMemory: 10, MaxBytes: 100, Dir: dir}
		r := gatewaytest.NewRequest("POST", "/", nil)
		r.Body, r.ContentLength = iotest.HalfReader(strings.NewReader(strings.Repeat("b", n))), -1
		var res gateway.Response
		err := s.RoundTrip(t.Context(), r, &res)
		if n > 100 {
			wantError(t, err, gateway.ErrBodyTooLarge)
		} else if err != nil {
			t.Fatal(err)
		} else {
			b, err := io.ReadAll(res.Body)
			if want := fmt.Sprintf("%d %s", n, strings.Repeat("b", n)); err != nil || string(b) != want {
				t.Errorf("%d: %q, %v", n, b, err)
			}
			res.Body.Close()
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%d: %v is left", n, left)
		}
	}
	// A body that fails, a backend that fails, a context that ends: no file is left.
	dir := t.TempDir()
	failing := gateway.RoundTripperFunc(func(context.Context, *gateway.Request, *gateway.Response) error {
		return &gateway.Error{Phase: gateway.PhaseDial, Err: io.EOF}
	})
	s := &gateway.Spool{Backend: failing, MaxMemory: 1, Dir: dir}
	for _, body := range []io.Reader{strings.NewReader("long enough"), io.MultiReader(strings.NewReader("long"), iotest.ErrReader(io.ErrClosedPipe))} {
		r := gatewaytest.NewRequest("POST", "/", nil)
		r.Body, r.ContentLength = body, -1
		var res gateway.Response
		if err := s.RoundTrip(t.Context(), r, &res); err == nil {
			t.Error("no error")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := gatewaytest.NewRequest("POST", "/", nil)
	r.Body, r.ContentLength = strings.NewReader("x"), -1
	wantError(t, s.RoundTrip(ctx, r, new(gateway.Response)), context.Canceled)
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

func TestDirect(t *testing.T) {
	handler := gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		switch r.PathInfo() {
		case "/early":
			return gateway.ErrBodyTooLarge
		case "/late":
			io.WriteString(w, "part")
			return gateway.ErrTruncated
		case "/panic":
			panic("x")
		case "/wait":
			w.Flush()
			<-r.Context().Done()
			return r.Context().Err()
		case "/forever":
			<-r.Context().Done()
			return r.Context().Err()
		}
		return nil
	})
	d := gateway.InProcess(handler)
	var res gateway.Response
	wantError(t, d.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/early", nil), &res), gateway.ErrBodyTooLarge)
	if err := d.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/panic", nil), &res); err == nil {
		t.Error("a panic is no response")
	}
	if err := d.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/late", nil), &res); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if wantError(t, err, gateway.ErrTruncated); string(b) != "part" {
		t.Errorf("%q", b)
	}
	if err := d.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/wait", nil), &res); err != nil {
		t.Fatal(err)
	}
	res.Body.Close() // ends the handler's context
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, d.RoundTrip(ctx, gatewaytest.NewRequest("GET", "/forever", nil), &res), context.Canceled)
	bad := gatewaytest.NewRequest("GET", "/", nil)
	bad.Params.Add("A\x00", "")
	wantError(t, d.RoundTrip(t.Context(), bad, &res), gateway.ErrParam)
	if err := d.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/", nil), &res); err != nil || res.Status != 200 {
		t.Errorf("%d, %v", res.Status, err)
	}
	res.Body.Close()
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

func TestWriterBase(t *testing.T) {
	var w struct{ gateway.WriterBase }
	var rw gateway.ResponseWriter = &w
	rw.Header().Set("A", "1")
	rw.WriteHeader(200)
	rw.SetAppStatus(1)
	_, werr := rw.Write(nil)
	_, herr := rw.Hijack()
	for _, err := range []error{werr, herr, rw.Flush(), rw.WriteInterim(103, nil), rw.SetReadDeadline(timeZero), rw.SetWriteDeadline(timeZero)} {
		wantError(t, err, errors.ErrUnsupported)
	}
	if rw.Header().Get("A") != "1" {
		t.Error("the header is not kept")
	}
	if _, err := rw.Stderr().Write([]byte("x")); err != nil {
		t.Error(err)
	}
}

// TestLayers holds the arrows of the house.
func TestLayers(t *testing.T) {
	deps := func(pkg string) []string {
		out, err := exec.Command("go", "list", "-deps", pkg).Output()
		if err != nil {
			t.Skipf("go list: %v", err)
		}
		return strings.Fields(string(out))
	}
	const module = "github.com/gatehouse-go/gatehouse/"
	siblings := []string{module + "fastcgi", module + "scgi", module + "uwsgi", module + "cgi"}
	for _, pkg := range append(siblings, module+"gateway") {
		if _, err := os.Stat("../" + strings.TrimPrefix(pkg, module)); err != nil {
			continue
		}
		for _, dep := range deps(pkg) {
			if dep == "net/http" || dep != pkg && slices.Contains(siblings, dep) || dep == "net" && pkg == module+"gateway" {
				t.Errorf("%s depends on %s", pkg, dep)
			}
		}
	}
}

// TestLinearJoin: what strangers repeat costs by its bytes, not by their square.
func TestLinearJoin(t *testing.T) {
	var b []byte
	for i := range 998 {
		b, _ = appendParam(b, fmt.Sprintf("HTTP_X%d", i%20), strings.Repeat("v", 1000))
	}
	var in []byte
	in = append(in, "\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00"...)
	for len(b) > 0 {
		n := min(len(b), 60000)
		in = append(in, 1, 4, 0, 1, byte(n>>8), byte(n), 0, 0)
		in = append(in, b[:n]...)
		b = b[n:]
	}
	in = append(in, 1, 4, 0, 1, 0, 0, 0, 0)
	result := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			r, err := readRequest(bytes.NewReader(in))
			if err != nil || len(r.Params.Get("HTTP_X0")) < 49000 {
				b.Fatal(err)
			}
		}
	})
	if got := result.AllocedBytesPerOp(); got > 16<<20 {
		t.Errorf("%d bytes allocated for %d", got, len(in))
	}
}

var timeZero time.Time

func appendParam(dst []byte, name, value string) ([]byte, error) {
	return fastcgi.AppendParam(dst, name, value)
}

func readRequest(src io.Reader) (*gateway.Request, error) {
	r := new(gateway.Request)
	return r, fastcgi.NewReader(src).ReadRequest(r)
}
