package gatewayhttp_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/internal/paths"
)

func FuzzNewRequest(f *testing.F) {
	f.Add("GET", "/a%2Fb?q", "h:80", "HTTP/1.1", "HTTP_X_Y", "v")
	f.Add("CONNECT", "h:443", "", "HTTP/2", "CONTENT_TYPE", "")
	f.Fuzz(func(t *testing.T, method, uri, host, protocol, name, value string) {
		var r gateway.Request
		for _, nv := range [][2]string{{"REQUEST_METHOD", method}, {"REQUEST_URI", uri}, {"HTTP_HOST", host}, {"SERVER_PROTOCOL", protocol}, {name, value}} {
			if nv[0] != "" {
				r.Params.Add(nv[0], nv[1])
			}
		}
		hr, err := gatewayhttp.NewRequest(t.Context(), &r)
		if err != nil {
			return
		}
		if hr.URL == nil || hr.Header == nil || hr.Body == nil || strings.ContainsAny(hr.Host, "/?#@ ") {
			t.Fatalf("%+v", hr)
		}
		for field := range hr.Header {
			if field == "Host" || field == "Proxy" || field == "Transfer-Encoding" {
				t.Fatalf("field %s", field)
			}
		}
	})
}

func FuzzMapping(f *testing.F) {
	for _, path := range []string{"/x.php/i", "/ȺȺȺȺ.php.txt.php", "/../x.php", "/", "/a.php\n", "//x.PHP"} {
		f.Add(path)
	}
	m := &gatewayhttp.Mapping{Root: "/root"}
	f.Fuzz(func(t *testing.T, path string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path = path
		var p gateway.Params
		if m.AddParams(&p, r) != nil {
			return
		}
		file, name, info := p.Get("SCRIPT_FILENAME"), p.Get("SCRIPT_NAME"), p.Get("PATH_INFO")
		if file != "/root"+name || strings.Contains(name, "/../") {
			t.Fatalf("%q: %q", path, file)
		}
		if path == "" || path[0] != '/' {
			path = "/" + path
		}
		clean, err := paths.Clean(path)
		if err != nil || name+info != clean && name+info != clean+"index.php" {
			t.Fatalf("%q: %q and %q, clean %q, %v", path, name, info, clean, err)
		}
	})
}
