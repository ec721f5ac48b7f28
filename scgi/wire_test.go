package scgi_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/scgi"
)

// example is that of the specification.
const example = "70:CONTENT_LENGTH\x0027\x00SCGI\x001\x00REQUEST_METHOD\x00POST\x00REQUEST_URI\x00/deepthought\x00,What is the answer to life?"

func TestAppend(t *testing.T) {
	t.Run("the example of the specification [194 195 196 198]", func(t *testing.T) {
		r := new(gateway.Request)
		r.Params.Add("REQUEST_METHOD", "POST")
		r.Params.Add("REQUEST_URI", "/deepthought")
		r.Params.Add("CONTENT_LENGTH", "99")
		r.Params.Add("SCGI", "2")
		r.SetBody([]byte("What is the answer to life?"))
		var b bytes.Buffer
		if err := scgi.NewWriter(&b).WriteRequest(r); err != nil || b.String() != example {
			t.Errorf("%q, %v", b.String(), err)
		}
		got, err := fromBytes(example)
		if err != nil || got.Method() != "POST" || got.URI() != "/deepthought" || got.ContentLength != 27 {
			t.Errorf("%v", err)
		}
		if body, err := io.ReadAll(got.Body); string(body) != "What is the answer to life?" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
	})
	t.Run("params that cannot be sent [197]", func(t *testing.T) {
		for _, nv := range [][2]string{{"", "v"}, {"A\x00", "v"}, {"A", "v\x00"}} {
			if b, err := scgi.AppendParam([]byte("dst"), nv[0], nv[1]); !errors.Is(err, gateway.ErrParam) || string(b) != "dst" {
				t.Errorf("%q: %q, %v", nv, b, err)
			}
		}
		r := new(gateway.Request)
		r.Params.Add("SCRIPT_NAME", "/a")
		r.Params.Add("SCRIPT_NAME", "/b")
		if b, err := scgi.AppendRequest([]byte("dst"), r); !errors.Is(err, gateway.ErrParam) || string(b) != "dst" {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("an unknown length [199]", func(t *testing.T) {
		r := gatewaytest.NewRequest("POST", "/", nil)
		r.ContentLength = -1
		if _, err := scgi.AppendRequest(nil, r); !errors.Is(err, gateway.ErrLengthRequired) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a block for rTorrent [200]", func(t *testing.T) {
		r := new(gateway.Request)
		r.Params.Add("CONTENT_TYPE", "text/xml")
		r.SetBody([]byte("<methodCall/>"))
		b, err := scgi.AppendRequest(nil, r)
		if want := netstring("CONTENT_LENGTH\x0013\x00SCGI\x001\x00CONTENT_TYPE\x00text/xml\x00"); err != nil || string(b) != want || len(b) > 2000 {
			t.Errorf("%q, %v", b, err)
		}
	})
}

func TestConsume(t *testing.T) {
	for _, c := range []struct {
		id, input string
		err       error
	}{
		{"a sign [201]", "+70:", gateway.ErrMalformed},
		{"a minus [201]", "-5:", gateway.ErrMalformed},
		{"a space [201]", " 70:", gateway.ErrMalformed},
		{"an underscore [201]", "7_0:", gateway.ErrMalformed},
		{"no digit [201]", ":", gateway.ErrMalformed},
		{"a leading zero [201]", "070:", gateway.ErrMalformed},
		{"two zeros [201]", "00:", gateway.ErrMalformed},
		{"digits without end [201 203]", "1111111111111", gateway.ErrMalformed},
		{"a line of HTTP [201 297 F49]", "GET / HTTP/1.1\r\n", gateway.ErrMalformed},
		{"TLS [201 297 F49]", "\x16\x03\x01\x02\x00\x01", gateway.ErrMalformed},
		{"the PROXY protocol [201 298]", "PROXY TCP4 ", gateway.ErrMalformed},
		{"more than the limit [202 F35]", "1048577:", gateway.ErrTooLarge},
		{"all that digits can say [202]", "9999999999:", gateway.ErrTooLarge},
		{"no comma [204]", "24:CONTENT_LENGTH\x000\x00SCGI\x001\x00;", gateway.ErrMalformed},
		{"no NUL at the end [205]", netstring("CONTENT_LENGTH\x000\x00SCGI\x001"), gateway.ErrMalformed},
		{"a name without a value [205]", netstring("CONTENT_LENGTH\x000\x00SCGI\x001\x00A\x00"), gateway.ErrMalformed},
		{"an empty name [001 205]", netstring("CONTENT_LENGTH\x000\x00SCGI\x001\x00\x00v\x00"), gateway.ErrMalformed},
		{"CONTENT_LENGTH not first [206]", netstring("SCGI\x001\x00CONTENT_LENGTH\x000\x00"), gateway.ErrMalformed},
		{"no CONTENT_LENGTH [206]", netstring("SCGI\x001\x00"), gateway.ErrMalformed},
		{"an empty CONTENT_LENGTH [206 019]", netstring("CONTENT_LENGTH\x00\x00SCGI\x001\x00"), gateway.ErrParam},
		{"no SCGI [207]", netstring("CONTENT_LENGTH\x000\x00"), gateway.ErrMalformed},
		{"another SCGI [207]", netstring("CONTENT_LENGTH\x000\x00SCGI\x002\x00"), gateway.ErrMalformed},
		{"a name twice [208]", head("A", "1", "A", "2"), gateway.ErrParam},
		{"nothing [209]", "0:,", gateway.ErrMalformed},
	} {
		t.Run(c.id, func(t *testing.T) {
			for name, src := range map[string]io.Reader{"whole": strings.NewReader(c.input), "bytes": iotest.OneByteReader(strings.NewReader(c.input))} {
				r := new(gateway.Request)
				if err := scgi.NewReader(src).ReadRequest(r); !errors.Is(err, c.err) || r.Params.Len() > 0 {
					t.Errorf("%s: %d params, %v", name, r.Params.Len(), err)
				}
			}
			if errors.Is(c.err, gateway.ErrMalformed) {
				var p gateway.Params
				if n, err := scgi.ConsumeRequest([]byte(c.input), &p); n != -1 || !errors.Is(err, c.err) || p.Len() > 0 {
					t.Errorf("ConsumeRequest: %d, %v", n, err)
				}
			}
		})
	}
	t.Run("input that is accepted [207 208 213]", func(t *testing.T) {
		last := netstring("CONTENT_LENGTH\x000\x00A\x00\x00HTTP_X\x001\x00HTTP_X\x002\x00SCGI\x001\x00") // as lighttpd, and nginx before 1.23
		r, err := fromBytes(last)
		if v, ok := r.Params.Lookup("A"); err != nil || !ok || len(v) > 0 || r.Params.Get("HTTP_X") != "1, 2" {
			t.Errorf("%v", err)
		}
	})
	t.Run("every prefix is incomplete", func(t *testing.T) {
		for i := range len(example) {
			r, err := fromBytes(example[:i])
			var body []byte
			if err == nil {
				body, err = io.ReadAll(r.Body)
			}
			if i == 0 && err != io.EOF || i > 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%d bytes: %q, %v", i, body, err)
			}
			var p gateway.Params
			if n, err := scgi.ConsumeRequest([]byte(example[:i]), &p); i <= 73 && (n != 0 || err != nil) {
				t.Errorf("%d bytes: ConsumeRequest %d, %v", i, n, err)
			}
		}
	})
	t.Run("nothing is allocated from a length [202 070]", func(t *testing.T) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 10 {
			scgi.NewReader(strings.NewReader("1000000:x")).ReadRequest(new(gateway.Request))
		}
		if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 1<<20 {
			t.Errorf("%d bytes for ten heads of which one byte came", after.TotalAlloc-before.TotalAlloc)
		}
	})
	t.Run("params without a netstring", func(t *testing.T) {
		r := gatewaytest.NewRequest("GET", "/a?b", nil)
		b, err := scgi.AppendParams([]byte("x"), &r.Params)
		if err != nil {
			t.Fatal(err)
		}
		var p gateway.Params
		if n, err := scgi.ConsumeParams(append(b[1:], "PART"...), &p); n != len(b)-1 || err != nil || p.Len() != r.Params.Len() {
			t.Errorf("%d, %v", n, err)
		}
		if n, err := scgi.ConsumeParams([]byte("\x00v\x00"), &p); n != -1 || !errors.Is(err, gateway.ErrMalformed) || p.Len() != r.Params.Len() {
			t.Errorf("%d, %v", n, err)
		}
		if name, value, n := scgi.ConsumeParam([]byte("A\x00v\x00rest")); string(name) != "A" || string(value) != "v" || n != 4 {
			t.Errorf("%q %q %d", name, value, n)
		}
		for in, want := range map[string]int{"": 0, "A": 0, "A\x00v": 0, "\x00": -1} {
			if _, _, n := scgi.ConsumeParam([]byte(in)); n != want {
				t.Errorf("%q: %d", in, n)
			}
		}
	})
}

func TestEnvFollowsTheRules(t *testing.T) {
	for _, env := range []string{"CONTENT_LENGTH=3", "HTTP_X=a\r\nb", "SERVER_PROTOCOL=HTTP/1.1\r\nX: y", "A=\x00", "=x", "A"} {
		c := &scgi.Client{Addr: "127.0.0.1:1", Env: []string{env}}
		err := c.RoundTrip(t.Context(), gatewaytest.NewRequest("POST", "/", []byte("hello")), new(gateway.Response))
		if !errors.Is(err, gateway.ErrParam) {
			t.Errorf("%q: %v", env, err)
		}
	}
}

// HTTP_TRANSFER_ENCODING would make an application look for chunks in a body without them.
func TestTransferEncodingIsNotSent(t *testing.T) {
	r := gatewaytest.NewRequest("POST", "/", []byte("hello"))
	r.Params.Add("HTTP_TRANSFER_ENCODING", "chunked")
	b, err := scgi.AppendRequest(nil, r)
	if err != nil || strings.Contains(string(b), "TRANSFER") {
		t.Errorf("016: %q, %v", b, err)
	}
}
