package uwsgi_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

func TestAppend(t *testing.T) {
	t.Run("the header is little-endian [161]", func(t *testing.T) {
		for _, h := range []uwsgi.PacketHeader{{}, {Modifier1: 30, Size: 0x1234, Modifier2: 7}, {Modifier1: 255, Size: 65535, Modifier2: 255}} {
			b := uwsgi.AppendHeader(nil, h)
			if got, n := uwsgi.ConsumeHeader(b); got != h || n != 4 {
				t.Errorf("%+v: %+v, %d", h, got, n)
			}
			if b[1] != byte(h.Size) || b[2] != byte(h.Size>>8) {
				t.Errorf("% x", b)
			}
			if _, n := uwsgi.ConsumeHeader(b[:3]); n != 0 {
				t.Errorf("three bytes: %d", n)
			}
		}
	})
	t.Run("vars of 65535 bytes, and one more [162 F16]", func(t *testing.T) {
		fixed := "\x0e\x00CONTENT_LENGTH\x01\x000"
		for extra, want := range map[int]error{0: nil, 1: gateway.ErrTooLarge} {
			r := new(gateway.Request)
			room := 65535 - len(fixed) - 2*(4+len("HTTP_X")) + extra
			r.Params.Add("HTTP_X", strings.Repeat("v", room/2))
			r.Params.Add("HTTP_Y", strings.Repeat("v", room-room/2))
			b, err := uwsgi.AppendRequest([]byte("dst"), r)
			if !errors.Is(err, want) || want != nil && string(b) != "dst" {
				t.Errorf("%d more: %d bytes, %v", extra, len(b), err)
			}
			if want == nil && (len(b) != 3+4+65535 || b[4] != 0xff || b[5] != 0xff) {
				t.Errorf("%d bytes, % x", len(b), b[:8])
			}
			var w bytes.Buffer
			if err := uwsgi.NewWriter(&w).WriteRequest(r); want != nil && (err == nil || w.Len() > 0) {
				t.Errorf("%d bytes were written", w.Len())
			}
		}
	})
	t.Run("names and values that exceed a packet [163]", func(t *testing.T) {
		long := strings.Repeat("x", 65536)
		for _, c := range []struct {
			name, value string
			err         error
		}{{"", "v", gateway.ErrParam}, {long, "v", gateway.ErrTooLarge}, {"A", long, gateway.ErrTooLarge}, {"A\x00", "v", gateway.ErrParam}, {"A", "\x00", gateway.ErrParam}} {
			if b, err := uwsgi.AppendParam([]byte("dst"), c.name, c.value); !errors.Is(err, c.err) || string(b) != "dst" {
				t.Errorf("%d, %d: %v", len(c.name), len(c.value), err)
			}
		}
		if b, err := uwsgi.AppendParam(nil, strings.Repeat("n", 300), "v"); err != nil || b[0] != 300%256 || b[1] != 1 {
			t.Errorf("%v", err) // nginx once wrote such a length in one byte
		}
	})
	t.Run("modifiers [165]", func(t *testing.T) {
		r := gatewaytest.NewRequest("GET", "/", nil)
		b, err := uwsgi.AppendRequest(nil, r)
		if err != nil || b[0] != 0 || b[3] != 0 {
			t.Errorf("% x, %v", b[:4], err)
		}
		r.Modifier1, r.Modifier2 = uint8(uwsgi.ModifierPSGI), 3
		b, err = uwsgi.AppendRequest(nil, r)
		if err != nil || b[0] != 5 || b[3] != 3 {
			t.Errorf("% x, %v", b[:4], err)
		}
		got, err := fromBytes(string(b))
		if err != nil || got.Modifier1 != 5 || got.Modifier2 != 3 || got.Method() != "GET" {
			t.Errorf("%d %d, %v", got.Modifier1, got.Modifier2, err)
		}
	})
	t.Run("a request without a body has no Transfer-Encoding [167 016]", func(t *testing.T) {
		r := gatewaytest.NewRequest("POST", "/", []byte("hello"))
		r.Params.Add("HTTP_TRANSFER_ENCODING", "chunked")
		if b, err := uwsgi.AppendRequest(nil, r); err != nil || bytes.Contains(b, []byte("TRANSFER")) {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("UWSGI_* come from Env only [166 F12]", func(t *testing.T) {
		addr := gatewaytest.Start(t, &uwsgi.Server{Handler: conformance.Handlers["params"], Logger: quiet})
		c := &uwsgi.Client{Addr: addr, Env: []string{"UWSGI_FILE=ours.py"}}
		web := httptest.NewServer(&gatewayhttp.Proxy{Backend: c})
		defer web.Close()
		req, _ := http.NewRequest("GET", web.URL+"/?UWSGI_CHDIR=/x", nil)
		for _, name := range []string{"Uwsgi_File", "UWSGI-FILE", "Uwsgi-Pyhome"} {
			req.Header[name] = []string{"theirs.py"}
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		if got := string(b); !strings.Contains(got, "UWSGI_FILE=\"ours.py\"\n") || strings.Count(got, "\nUWSGI_") != 2 || !strings.Contains(got, "UWSGI_SCHEME=\"http\"\n") || strings.Contains(got, "=\"theirs.py\"\nUWSGI") {
			t.Errorf("%s", got)
		}
	})
	t.Run("an unknown length [167]", func(t *testing.T) {
		r := gatewaytest.NewRequest("POST", "/", nil)
		r.ContentLength = -1
		if _, err := uwsgi.AppendRequest(nil, r); !errors.Is(err, gateway.ErrLengthRequired) {
			t.Errorf("got %v", err)
		}
	})
}

func TestConsume(t *testing.T) {
	for _, c := range []struct{ id, block string }{
		{"no vars [179]", ""},
		{"a name of no length [180 001]", "\x00\x00\x01\x00v"},
		{"a name that runs over [180]", "\xff\x00A"},
		{"a value that runs over [180]", "\x01\x00A\xff\x00v"},
		{"no length of the value [180]", "\x01\x00A"},
		{"one byte of the length of the value [180]", "\x01\x00A\x01"},
		{"one byte behind the last [180]", vars("A", "v") + "\x01"},
		{"two bytes behind the last [180]", vars("A", "v") + "\x01\x00"},
	} {
		t.Run(c.id, func(t *testing.T) {
			if r, err := fromBytes(packet(0, 0, c.block)); !errors.Is(err, gateway.ErrMalformed) || r.Params.Len() > 0 {
				t.Errorf("got %v", err)
			}
			var p gateway.Params
			if _, n, err := uwsgi.ConsumeRequest([]byte(packet(0, 0, c.block)), &p); c.block != "" && (n != -1 || !errors.Is(err, gateway.ErrMalformed)) {
				t.Errorf("ConsumeRequest: %d, %v", n, err)
			}
		})
	}
	t.Run("an empty value at the end [181]", func(t *testing.T) {
		r, err := fromBytes(head("A", "v", "B", ""))
		if v, ok := r.Params.Lookup("B"); err != nil || !ok || len(v) > 0 {
			t.Errorf("%v", err)
		}
	})
	t.Run("more vars than the limit [182 F35]", func(t *testing.T) {
		if _, err := fromBytes(packet(0, 0, strings.Repeat(vars("A", "v"), 1001))); !errors.Is(err, gateway.ErrTooLarge) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("params without a header", func(t *testing.T) {
		r := gatewaytest.NewRequest("GET", "/a?b", nil)
		b, err := uwsgi.AppendParams(nil, &r.Params)
		if err != nil {
			t.Fatal(err)
		}
		var p gateway.Params
		if n, err := uwsgi.ConsumeParams(append(b, "\x05\x00PA"...), &p); n != len(b) || err != nil || p.Len() != r.Params.Len() {
			t.Errorf("%d, %v", n, err)
		}
		if n, err := uwsgi.ConsumeParams([]byte("\x00\x00"), &p); n != -1 || !errors.Is(err, gateway.ErrMalformed) || p.Len() != r.Params.Len() {
			t.Errorf("%d, %v", n, err)
		}
		if name, value, n := uwsgi.ConsumeParam([]byte(vars("A", "v") + "rest")); string(name) != "A" || string(value) != "v" || n != 6 {
			t.Errorf("%q %q %d", name, value, n)
		}
	})
}
