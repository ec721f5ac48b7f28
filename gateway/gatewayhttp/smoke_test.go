package gatewayhttp

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

func app(t testing.TB, h http.Handler) *fastcgi.Client {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &fastcgi.Server{Handler: Handler(h)}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return &fastcgi.Client{Addr: l.Addr().String(), MaxIdle: 2}
}

func TestSmoke(t *testing.T) {
	c := app(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %v %d %v\n", r.Method, r.URL, r.Host, r.Header, len(b), err)
		p := Params(r)
		for n, v := range p.All() {
			fmt.Fprintf(w, "%s=%s\n", n, v)
		}
	}))
	rp := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.Out.Host = p.In.Host; p.SetURL(&url.URL{Scheme: "http", Host: "x"}) }, Transport: &Transport{Backend: c}}
	for _, h := range []http.Handler{&Proxy{Backend: c}, rp} {
		ts := httptest.NewServer(h)
		for _, body := range []io.Reader{nil, bytes.NewReader(make([]byte, 100)), bytes.NewReader(make([]byte, 10<<20)), io.MultiReader(bytes.NewReader(make([]byte, 10<<20)))} {
			res, err := http.Post(ts.URL+"/a%2Fb/c?x=1", "text/plain", body)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			t.Logf("%d %v %s %v", res.StatusCode, res.Header, b, err)
		}
		ts.Close()
	}
}

func BenchmarkHandler(b *testing.B) {
	c := app(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "hello, world\n")
	}))
	var req gateway.Request
	req.SetTarget("GET", "/x/y?z")
	for _, n := range []string{"HOST", "USER_AGENT", "ACCEPT", "ACCEPT_ENCODING", "COOKIE", "ACCEPT_LANGUAGE", "CACHE_CONTROL", "X_FORWARDED_FOR", "REFERER"} {
		req.Params.Add("HTTP_"+n, "some.value")
	}
	var res gateway.Response
	b.ReportAllocs()
	for b.Loop() {
		if err := c.RoundTrip(b.Context(), &req, &res); err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			b.Fatal(err)
		}
		res.Body.Close()
	}
}
