package gatewayhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

// newRequest is NewRequest of params.
func newRequest(nv ...string) (*http.Request, error) {
	r := new(gateway.Request)
	r.ContentLength = -1
	for i := 0; i < len(nv); i += 2 {
		r.Params.Add(nv[i], nv[i+1])
	}
	return gatewayhttp.NewRequest(context.Background(), r)
}

func TestNewRequest(t *testing.T) {
	ok := func(t *testing.T, nv ...string) *http.Request {
		t.Helper()
		r, err := newRequest(append(nv, "REQUEST_METHOD", "GET")...)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	t.Run("fields [014 015 017 046]", func(t *testing.T) {
		r := ok(t, "HTTP_ACCEPT_ENCODING", "gzip", "CONTENT_TYPE", "a/b", "HTTP_CONTENT_TYPE", "x", "HTTP_CONTENT_LENGTH", "9", "HTTP_TRANSFER_ENCODING", "chunked",
			"HTTP_PROXY", "x", "SSL_X", "x", "REMOTE_USER", "x", "http_lower", "x", "HTTP_x", "x", "HTTP_", "x", "HTTP_X-Y", "x", "HTTP_X__Y", "", "HTTP_HOST", "h")
		if diff := cmp.Diff(http.Header{"Accept-Encoding": {"gzip"}, "Content-Type": {"a/b"}, "X--Y": {""}}, r.Header); diff != "" {
			t.Error(diff)
		}
		p := gatewayhttp.Params(r)
		if p.Get("REMOTE_USER") != "x" || p != gatewayhttp.Params(r) || gatewayhttp.Params(httptest.NewRequest("GET", "/", nil)) != nil {
			t.Error("params")
		}
	})
	t.Run("no body [019]", func(t *testing.T) {
		r := new(gateway.Request)
		r.Params.Add("REQUEST_METHOD", "GET")
		hr, err := gatewayhttp.NewRequest(t.Context(), r)
		if err != nil || hr.Body != http.NoBody || hr.ContentLength != 0 {
			t.Errorf("%v %d, %v", hr.Body, hr.ContentLength, err)
		}
	})
	t.Run("SERVER_PROTOCOL [023]", func(t *testing.T) {
		for p, expect := range map[string]string{"": "HTTP/1.0", "INCLUDED": "HTTP/1.0", "HTTP/2": "HTTP/2.0", "HTTP/1.1": "HTTP/1.1", "HTTP/3.0": "HTTP/3.0", "HTTP/0.9": "HTTP/0.9"} {
			if r := ok(t, "SERVER_PROTOCOL", p); r.Proto != expect {
				t.Errorf("%q: %q", p, r.Proto)
			}
		}
		if _, err := newRequest("REQUEST_METHOD", "GET", "SERVER_PROTOCOL", "SPDY/3"); !errors.Is(err, gateway.ErrParam) {
			t.Error(err)
		}
	})
	t.Run("the host [025 F44]", func(t *testing.T) {
		for _, h := range []string{"a/b?", "a#b", "u@h", "a b", "a\\b", "a\x01"} {
			if _, err := newRequest("REQUEST_METHOD", "GET", "HTTP_HOST", h); !errors.Is(err, gateway.ErrParam) {
				t.Errorf("%q: %v", h, err)
			}
		}
		if r := ok(t, "HTTP_HOST", "[::1]:80"); r.Host != "[::1]:80" {
			t.Errorf("%q", r.Host)
		}
		if r := ok(t, "SERVER_NAME", "n", "SERVER_PORT", "81"); r.Host != "n:81" {
			t.Errorf("%q", r.Host)
		}
	})
	t.Run("targets [026 027 029 030 F44]", func(t *testing.T) {
		for _, c := range []struct{ uri, path, raw, query, host string }{
			{"/a%2Fb?c;d", "/a/b", "/a%2Fb", "c;d", ""},
			{"//x/y", "//x/y", "", "", ""},
			{"http://h/p?q", "/p", "", "q", "h"},
			{"*", "*", "", "", ""},
			{"/a%0ab", "/a\nb", "/a%0ab", "", ""},
			{"/plain?", "/plain", "", "", ""},
		} {
			r := ok(t, "REQUEST_URI", c.uri, "HTTP_HOST", "front")
			if r.RequestURI != c.uri || r.URL.Path != c.path || r.URL.RawPath != c.raw || r.URL.RawQuery != c.query || r.URL.Host != c.host || r.Host != "front" {
				t.Errorf("%q: %+v", c.uri, r.URL)
			}
			if std, err := url.ParseRequestURI(c.uri); err != nil || *std != *r.URL {
				t.Errorf("%q: %+v, net/url has %+v", c.uri, r.URL, std)
			}
		}
		r, err := newRequest("REQUEST_METHOD", "CONNECT", "REQUEST_URI", "h:443")
		if err != nil || r.URL.Host != "h:443" || r.URL.Path != "" {
			t.Errorf("%+v, %v", r.URL, err)
		}
		r = ok(t, "SCRIPT_NAME", "/a b", "PATH_INFO", "/c\n", "QUERY_STRING", "q")
		if r.RequestURI != "/a%20b/c%0A?q" || r.URL.Path != "/a b/c\n" || r.URL.RawQuery != "q" {
			t.Errorf("%q %+v", r.RequestURI, r.URL)
		}
		for _, uri := range []string{"/%zz", "x y", "/\x7f"} {
			if _, err := newRequest("REQUEST_METHOD", "GET", "REQUEST_URI", uri); !errors.Is(err, gateway.ErrParam) {
				t.Errorf("%q: %v", uri, err)
			}
		}
		if _, err := newRequest("REQUEST_URI", "/"); !errors.Is(err, gateway.ErrParam) {
			t.Error("no method")
		}
	})
	t.Run("TLS and addresses [039 040 048]", func(t *testing.T) {
		r := ok(t, "HTTPS", "on", "REMOTE_ADDR", "::1", "REMOTE_PORT", "8")
		if r.TLS == nil || r.RemoteAddr != "[::1]:8" {
			t.Errorf("%v %q", r.TLS, r.RemoteAddr)
		}
		r = ok(t, "HTTP_X_FORWARDED_PROTO", "https", "REMOTE_ADDR", "1.2.3.4")
		if r.TLS != nil || r.RemoteAddr != "1.2.3.4:0" {
			t.Errorf("%v %q", r.TLS, r.RemoteAddr)
		}
	})
	t.Run("targets that are refused [026 029]", func(t *testing.T) {
		for _, uri := range []string{"/?\x01", "/?\x7f", "/secret\x01"} {
			_, err := newRequest("REQUEST_METHOD", "GET", "REQUEST_URI", uri)
			if !errors.Is(err, gateway.ErrParam) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%q: %v", uri, err)
			}
		}
		r, err := newRequest("REQUEST_METHOD", "CONNECT", "REQUEST_URI", "name:443", "HTTP_HOST", "name:443")
		if err != nil || r.URL.Scheme != "" || r.URL.Host != "name:443" {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestPeerAddresses(t *testing.T) {
	s := &fastcgi.Server{Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		_, err := fmt.Fprint(w, r.Peer.Addr() == netip.MustParseAddr("127.0.0.1"), r.Local.Port() != 0)
		return err
	})}
	c := &fastcgi.Client{Addr: gatewaytest.Start(t, s)}
	var res gateway.Response
	if err := c.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/", nil), &res); err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); string(b) != "true true" {
		t.Errorf("%s", b)
	}
}
