package gateway_test

import (
	"context"
	"io"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

func TestRequestMeaning(t *testing.T) {
	t.Run("SCRIPT_NAME and PATH_INFO are the path [026 027 028 F24]", func(t *testing.T) {
		for _, c := range []struct {
			nv        []string
			uri, path string
			agrees    bool
		}{
			{[]string{"REQUEST_URI", "/a%2Fb?q", "SCRIPT_NAME", "/a", "PATH_INFO", "/b"}, "/a%2Fb?q", "/a/b", true},
			{[]string{"REQUEST_URI", "http://host/x?q", "PATH_INFO", "/x"}, "http://host/x?q", "/x", true},
			{[]string{"REQUEST_URI", "*"}, "*", "", true},
			{[]string{"REQUEST_URI", "host:443"}, "host:443", "", true},
			{[]string{"SCRIPT_NAME", "/a b", "PATH_INFO", "/ü?", "QUERY_STRING", "x=1"}, "/a%20b/%C3%BC%3F?x=1", "/a b/ü?", true},
			{[]string{"DOCUMENT_URI", "/doc"}, "/doc", "/doc", true},
			{[]string{"REQUEST_URI", "/other", "PATH_INFO", "/x"}, "/other", "/x", false},
			{[]string{"REQUEST_URI", "http://host", "PATH_INFO", "/"}, "http://host", "/", true},
			{nil, "/", "", true},
			{[]string{"PATH_INFO", "//x"}, "//x", "//x", true},
		} {
			r, err := receive(t, c.nv...)
			if err != nil || r.URI() != c.uri || r.Path() != c.path || r.PathAgrees() != c.agrees {
				t.Errorf("%v: %q %q %v, %v", c.nv, r.URI(), r.Path(), r.PathAgrees(), err)
			}
		}
	})
	t.Run("PATH_INFO is not decoded again [031]", func(t *testing.T) {
		if r, err := receive(t, "PATH_INFO", "/%2541"); err != nil || r.PathInfo() != "/%2541" {
			t.Errorf("%q, %v", r.PathInfo(), err)
		}
	})
	t.Run("SetTarget [033 035]", func(t *testing.T) {
		var r gateway.Request
		if err := r.SetTarget("GET", "/a%20b?c=%20d"); err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{
			"GATEWAY_INTERFACE": "CGI/1.1", "SERVER_SOFTWARE": "gatehouse", "SERVER_NAME": "localhost", "SERVER_PORT": "80",
			"SERVER_PROTOCOL": "HTTP/1.1", "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/a b", "REMOTE_ADDR": "127.0.0.1",
			"QUERY_STRING": "c=%20d", "REQUEST_URI": "/a%20b?c=%20d",
		} {
			if got, ok := r.Params.Lookup(name); !ok || string(got) != value {
				t.Errorf("%s is %q", name, got)
			}
		}
		if r.Method() != "GET" || r.Query() != "c=%20d" || r.ScriptName() != "" || r.RemoteAddr() != "127.0.0.1" || r.ContentType() != "" {
			t.Error("accessors")
		}
		for _, bad := range [][2]string{{"", "/"}, {"GET", ""}, {"GET", "x"}, {"GET", "/a b"}, {"GET", "/%zz"}, {"GET", "/%00"}, {"GET", "/\r\n"}} {
			wantError(t, r.SetTarget(bad[0], bad[1]), gateway.ErrParam)
			if r.Params.Len() != 0 {
				t.Error("params are left")
			}
		}
		if err := r.SetTarget("OPTIONS", "*"); err != nil {
			t.Error(err)
		}
	})
	t.Run("hosts [036]", func(t *testing.T) {
		for expect, nv := range map[string][]string{
			"a:81":    {"HTTP_HOST", "a:81", "SERVER_NAME", "b"},
			"b":       {"SERVER_NAME", "b", "SERVER_PORT", "80"},
			"b:8080":  {"SERVER_NAME", "b", "SERVER_PORT", "8080"},
			"c":       {"SERVER_NAME", "c", "SERVER_PORT", "443", "HTTPS", "on"},
			"h:8081":  {"SERVER_NAME", "h:8081", "SERVER_PORT", "8081"}, // HAProxy
			"[::1]:9": {"SERVER_NAME", "[::1]", "SERVER_PORT", "9"},
		} {
			if r, err := receive(t, nv...); err != nil || r.Host() != expect {
				t.Errorf("%v: %q, %v", nv, r.Host(), err)
			}
		}
	})
	t.Run("TLS [039 040 F37]", func(t *testing.T) {
		for _, nv := range [][]string{{"HTTPS", "on"}, {"HTTPS", "ON"}, {"HTTPS", "1"}, {"HTTPS", "true"}, {"REQUEST_SCHEME", "https"}, {"UWSGI_SCHEME", "https"}} {
			if r, err := receive(t, nv...); err != nil || !r.TLS() {
				t.Errorf("%v is not TLS, %v", nv, err)
			}
		}
		for _, nv := range [][]string{nil, {"HTTPS", "off"}, {"HTTPS", "0"}, {"HTTPS", ""}, {"REQUEST_SCHEME", "http"}, {"HTTP_X_FORWARDED_PROTO", "https"}, {"HTTP_X_FORWARDED_SSL", "on"}, {"https", "on"}} {
			if r, err := receive(t, nv...); err != nil || r.TLS() {
				t.Errorf("%v is TLS, %v", nv, err)
			}
		}
	})
	t.Run("paths and hosts that are refused [026 028 033 036]", func(t *testing.T) {
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

type contextKey struct{}

func TestSetContext(t *testing.T) {
	var r gateway.Request
	ctx := context.WithValue(t.Context(), contextKey{}, "value")
	r.SetContext(ctx)
	if r.Context() != ctx {
		t.Error("Context is not what SetContext set")
	}
	var copied gateway.Request
	copied.CopyFrom(&r)
	if copied.Context() != context.Background() {
		t.Error("CopyFrom copies the context")
	}
	r.Reset()
	if r.Context() != context.Background() {
		t.Error("Reset keeps the context")
	}
	r.SetContext(ctx)
	r.SetContextSource(nil)
	if r.Context() != context.Background() {
		t.Error("a nil source keeps the context")
	}
}

// A middleware passes a context on to the next handler through SetContext.
func TestSetContextReachesHandler(t *testing.T) {
	var got any
	next := gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		got = r.Context().Value(contextKey{})
		return nil
	})
	h := gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		r.SetContext(context.WithValue(r.Context(), contextKey{}, "value"))
		return next.ServeGateway(w, r)
	})
	var r gateway.Request
	if err := r.SetTarget("GET", "/"); err != nil {
		t.Fatal(err)
	}
	var res gateway.Response
	if err := gateway.InProcess(h).RoundTrip(t.Context(), &r, &res); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got != "value" {
		t.Errorf("the next handler got %v", got)
	}
}

func TestLocalRedirect(t *testing.T) {
	for head, want := range map[string]bool{
		"Location: /x\r\n\r\n":                      true,
		"Location: http://h/x\r\n\r\n":              false,
		"Location: /x\r\nX: 1\r\n\r\n":              false,
		"Status: 302\r\nLocation: /x\r\n\r\n":       false,
		"Content-Type: text/plain\r\n\r\n":          false,
		"Location: /x\r\nContent-Length: 0\r\n\r\n": false,
	} {
		var res gateway.Response
		if _, err := gateway.ConsumeResponse([]byte(head), &res); err != nil || res.LocalRedirect != want {
			t.Errorf("%q: %v, %v", head, res.LocalRedirect, err)
		}
		res.Reset()
		if res.LocalRedirect {
			t.Errorf("%q: Reset keeps LocalRedirect", head)
		}
	}
}
