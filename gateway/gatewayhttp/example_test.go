package gatewayhttp_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
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

// A Mapping sets the params that an application receives.
func ExampleMapping() {
	m := &gatewayhttp.Mapping{
		Root:   "/srv/www",
		Params: func(p *gateway.Params, r *http.Request) error { p.Set("APP_ENV", "production"); return nil },
	}
	var p gateway.Params
	if err := m.AddParams(&p, httptest.NewRequest("GET", "/shop/index.php/cart?id=1", nil)); err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"SCRIPT_FILENAME", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "APP_ENV"} {
		fmt.Println(name, p.Get(name))
	}
	// Output:
	// SCRIPT_FILENAME /srv/www/shop/index.php
	// SCRIPT_NAME /shop/index.php
	// PATH_INFO /cart
	// QUERY_STRING id=1
	// APP_ENV production
}

// A front controller: every path that is not a file is handled by one script.
func ExampleWithScript() {
	site := &gatewayhttp.Proxy{Backend: echo("SCRIPT_FILENAME", "PATH_INFO"), Mapping: &gatewayhttp.Mapping{Root: "/srv/www"}}
	front := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := gatewayhttp.WithScript(r.Context(), gatewayhttp.Script{
			Filename: "/srv/www/index.php",
			Name:     "/index.php",
			PathInfo: r.URL.Path,
		})
		site.ServeHTTP(w, r.WithContext(ctx))
	})

	w := httptest.NewRecorder()
	front.ServeHTTP(w, httptest.NewRequest("GET", "/news/today", nil))
	fmt.Print(w.Body)
	// Output:
	// SCRIPT_FILENAME /srv/www/index.php
	// PATH_INFO /news/today
}

// Middleware that knows the user passes it to the application.
func ExampleWithParam() {
	site := &gatewayhttp.Proxy{Backend: echo("REMOTE_USER")}
	auth := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		site.ServeHTTP(w, r.WithContext(gatewayhttp.WithParam(r.Context(), "REMOTE_USER", "ada")))
	})

	w := httptest.NewRecorder()
	auth.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	fmt.Print(w.Body)
	// Output: REMOTE_USER ada
}

// A site of PHP: files are served as they are, scripts by php-fpm, and every other path by
// index.php.
func ExampleSite() {
	dir, err := os.MkdirTemp("", "site")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{"index.php", "style.css", ".env"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("content of "+name+"\n"), 0o600); err != nil {
			log.Fatal(err)
		}
	}

	php := echo("SCRIPT_NAME", "REQUEST_URI") // in a program, &fastcgi.Client{Addr: "unix:/run/php/php-fpm.sock"}
	site := &gatewayhttp.Site{
		Dir:    dir,
		Front:  "/index.php",
		Script: &gatewayhttp.Proxy{Backend: php, Mapping: &gatewayhttp.Mapping{Body: gatewayhttp.SpoolBody}},
	}
	for _, path := range []string{"/style.css", "/index.php/a", "/news/today", "/.env"} {
		w := httptest.NewRecorder()
		site.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		fmt.Println(w.Code, path)
		if w.Code == http.StatusOK {
			fmt.Print(w.Body)
		}
	}
	// Output:
	// 200 /style.css
	// content of style.css
	// 200 /index.php/a
	// SCRIPT_NAME /index.php
	// REQUEST_URI /index.php/a
	// 200 /news/today
	// SCRIPT_NAME /index.php
	// REQUEST_URI /news/today
	// 404 /.env
}

// An HTTP server as a backend.
func ExampleClient() {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.Method, r.URL, "for", r.Header.Get("X-Forwarded-For"))
	}))
	defer app.Close()

	client := &gatewayhttp.Client{Addr: app.Listener.Addr().String()}
	defer client.Close()
	w := httptest.NewRecorder()
	(&gatewayhttp.Proxy{Backend: client}).ServeHTTP(w, httptest.NewRequest("GET", "/a%2Fb?c", nil))
	fmt.Print(w.Body)
	// Output: GET /a%2Fb?c for 192.0.2.1
}

// A server that is to receive the path below a mount, as Starlette before version 0.33 with
// --root-path.
func ExampleClient_mounted() {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.URL) }))
	defer app.Close()

	client := &gatewayhttp.Client{Addr: app.Listener.Addr().String(), Rewrite: func(out *http.Request, r *gateway.Request) error {
		target := strings.TrimPrefix(out.URL.Opaque, string(r.ScriptName()))
		if !strings.HasPrefix(target, "/") {
			target = "/" + target
		}
		out.URL.Opaque = target
		return nil
	}}
	defer client.Close()
	proxy := &gatewayhttp.Proxy{Backend: client, Mapping: &gatewayhttp.Mapping{Prefix: "/app"}}
	for _, path := range []string{"/app/a%2Fb?c", "/app", "/other"} {
		w := httptest.NewRecorder()
		proxy.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		fmt.Print(w.Body)
	}
	// Output:
	// /a%2Fb?c
	// /
	// /other
}

// An authorizer in front of a handler. What it finds out about the user reaches the application.
func ExampleAuthorizer() {
	authorizer := gateway.InProcess(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		if r.Params.Get("HTTP_AUTHORIZATION") != "Bearer of-ada" {
			w.WriteHeader(http.StatusUnauthorized)
			return nil
		}
		w.Header().Set("Variable-REMOTE_USER", "ada")
		return nil
	})) // in a program, &fastcgi.Client{Addr: "unix:/run/authorizer.sock"}

	guard := &gatewayhttp.Authorizer{Backend: authorizer}
	site := guard.Wrap(&gatewayhttp.Proxy{Backend: echo("REMOTE_USER")})
	for _, token := range []string{"Bearer of-ada", "Bearer of-eve"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", token)
		w := httptest.NewRecorder()
		site.ServeHTTP(w, r)
		fmt.Println(w.Code, strings.TrimSpace(w.Body.String()))
	}
	// Output:
	// 200 REMOTE_USER ada
	// 401
}

// echo returns a backend that responds with params of the request.
func echo(names ...string) gateway.RoundTripper {
	return gateway.InProcess(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		for _, name := range names {
			fmt.Fprintln(w, name, r.Params.Get(name))
		}
		return nil
	}))
}

// A gateway.Handler can use net/http's types without Handler.
func ExampleNewRequest() {
	h := gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		req, err := gatewayhttp.NewRequest(r.Context(), r)
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(w, req.Method, " ", req.Host, req.URL.Path, " ", req.FormValue("q"))
		return err
	})

	r := gatewaytest.NewRequest("GET", "/find?q=go", nil)
	r.Params.Set("HTTP_HOST", "example.com")
	w := new(gatewaytest.Recorder)
	err := h.ServeGateway(w, r)
	fmt.Println(&w.Body, err)
	// Output: GET example.com/find go <nil>
}
