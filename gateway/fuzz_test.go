package gateway_test

import (
	"errors"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
)

func FuzzConsumeResponse(f *testing.F) {
	for _, b := range []string{"Status: 404 Not Found\r\nA: 1\r\n\r\nbody", "HTTP/1.1 200 OK\n\n", "\n", "A: 1\r\n B: 2\r\n\r\n", "Content-Length: 5\r\nLocation: /x\r\n\r\n"} {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r gateway.Response
		n, err := gateway.ConsumeResponse(b, &r)
		if err != nil {
			if n != -1 || r.Header.Len() > 0 || !errors.Is(err, gateway.ErrMalformed) && !errors.Is(err, gateway.ErrTooLarge) {
				t.Fatalf("%d, %v", n, err)
			}
			return
		}
		if n == 0 {
			return
		}
		// No shorter prefix is a head. The head can be written, and is then read as the same.
		for cut := range min(n, 200) {
			var part gateway.Response
			if m, err := gateway.ConsumeResponse(b[:cut], &part); m != 0 || err != nil {
				t.Fatalf("%q: %d, %v", b[:cut], m, err)
			}
		}
		out, err := gateway.AppendResponse(nil, &r)
		if err != nil {
			t.Fatal(err)
		}
		var again gateway.Response
		if m, err := gateway.ConsumeResponse(out, &again); m != len(out) || err != nil || again.Status != r.Status {
			t.Fatalf("%q: %d, %v", out, m, err)
		}
	})
}

func FuzzMeaning(f *testing.F) {
	f.Add("/a%2Fb?q", "/a", "/b", "HTTP/1.1", "proxy:fcgi://h:1/x")
	f.Add("http://h", "", "", "HTTP/2", "proxy:")
	f.Fuzz(func(t *testing.T, uri, script, info, protocol, filename string) {
		var r gateway.Request
		r.Params.Add("REQUEST_URI", uri)
		r.Params.Add("SCRIPT_NAME", script)
		r.Params.Add("PATH_INFO", info)
		r.Params.Add("SERVER_PROTOCOL", protocol)
		r.Params.Add("SCRIPT_FILENAME", filename)
		r.URI()
		r.Path()
		r.PathAgrees()
		r.Protocol()
		r.ScriptFilename()
		r.Host()
	})
}
