package gatewayhttp_test

import (
	"context"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
)

// PHP behind net/http.
func ExampleProxy() {
	site := &gatewayhttp.Proxy{
		Mapping: &gatewayhttp.Mapping{Root: "/srv/www"},
		Backend: &fastcgi.Client{Addr: "unix:/run/php/php-fpm.sock"},
	}
	_ = &http.Server{Addr: "127.0.0.1:8080", Handler: site}
}

// An http.Handler behind nginx.
func ExampleHandler() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("user " + gatewayhttp.Params(r).Get("REMOTE_USER")))
	})
	srv := &fastcgi.Server{Handler: gatewayhttp.Handler(mux)}
	run := func(ctx context.Context) {
		if err := srv.Run(ctx, "unix:/run/app.sock"); err != nil {
			log.Fatal(err)
		}
	}
	_ = run
}

// With httputil.ReverseProxy. It empties queries such as "?a;b=1", so the query is copied.
func ExampleTransport() {
	_ = &httputil.ReverseProxy{
		Transport: &gatewayhttp.Transport{
			Backend: &fastcgi.Client{Addr: "127.0.0.1:9000"},
			Mapping: &gatewayhttp.Mapping{Root: "/srv/www"},
		},
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: "php"}) // the Transport looks at neither
			p.Out.Host = p.In.Host
			p.Out.URL.RawQuery = p.In.URL.RawQuery
		},
	}
}
