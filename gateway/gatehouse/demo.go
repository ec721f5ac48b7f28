package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/internal/server"
	"github.com/gatehouse-go/gatehouse/internal/sockets"
)

// startDemo serves the demo application with every protocol and puts HTTP in front: each protocol
// below its own path, and FastCGI at the root as well.
func startDemo(ctx context.Context) (h http.Handler, stop func(), err error) {
	dir, err := os.MkdirTemp("", "gatehouse-")
	if err != nil {
		return nil, nil, err
	}
	var running []server.Stoppable
	stop = func() {
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		for _, s := range running {
			s.Shutdown(limit)
		}
		os.RemoveAll(dir)
	}
	mux := http.NewServeMux()
	for _, protocol := range []string{"fastcgi", "scgi", "uwsgi"} {
		a := address{protocol, "unix:" + filepath.Join(dir, protocol+".sock")}
		s, l, err := a.listen(gatewayhttp.Handler(demo(protocol)))
		if err != nil {
			stop()
			return nil, nil, err
		}
		running = append(running, s)
		go s.Serve(l)
		client, err := a.client(clientOptions{keep: 4})
		if err != nil {
			stop()
			return nil, nil, err
		}
		if protocol == "fastcgi" {
			mux.Handle("/", &gatewayhttp.Proxy{Backend: client})
		}
		mux.Handle("/"+protocol+"/", below(protocol, client))
	}
	program, err := os.Executable()
	if err != nil {
		stop()
		return nil, nil, err
	}
	mux.Handle("/cgi/", below("cgi", &cgi.Client{Path: program, Env: []string{isDemo + "=1"}}))
	return mux, stop, nil
}

// below mounts a protocol's demo at its path.
func below(protocol string, client gateway.RoundTripper) http.Handler {
	return &gatewayhttp.Proxy{Mapping: &gatewayhttp.Mapping{Prefix: "/" + protocol}, Backend: client}
}

// listen returns a server of a and a listener for it.
func (a address) listen(h gateway.Handler) (server.Stoppable, net.Listener, error) {
	s, err := a.server(h)
	if err != nil {
		return nil, nil, err
	}
	l, err := sockets.Listen(a.addr, 0o600)
	return s, l, err
}

// runScript responds to the request for which this program was started as a CGI script of the demo.
func runScript() int {
	err := (&cgi.Server{Handler: gatewayhttp.Handler(demo("cgi"))}).Serve(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	return exitOK
}

// maxEcho limits the body that /echo holds in memory.
const maxEcho = 256 << 20

// demo returns the application, which may be mounted anywhere.
func demo(protocol string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { showPage(w, r, protocol) })
	mux.HandleFunc("POST /echo", echo)
	mux.HandleFunc("POST /upload", upload)
	mux.HandleFunc("GET /stream", stream)
	mux.HandleFunc("GET /error", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "This application failed, as it was asked to.", http.StatusInternalServerError)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.StripPrefix(gatewayhttp.Params(r).Get("SCRIPT_NAME"), mux).ServeHTTP(w, r)
	})
}

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>gatehouse</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .2rem .6rem; border-bottom: 1px solid #ddd; word-break: break-all }
th { white-space: nowrap }
</style>
<h1>gatehouse</h1>
<p>This page came by way of {{.Protocol}}: from the proxy, an HTTP server, to an application of its own. The same by
<a href="/fastcgi/">FastCGI</a>, <a href="/scgi/">SCGI</a>, <a href="/uwsgi/">uwsgi</a> and <a href="/cgi/">CGI</a>.</p>
<ul>
<li><a href="stream">A response that arrives in pieces</a></li>
<li><a href="missing">A 404</a> and <a href="error">a 500</a></li>
</ul>
<form action="upload" method="post" enctype="multipart/form-data">
<p><label>Upload a file: <input type="file" name="file"></label> <button>Send</button></p>
</form>
<h2>The params of this request</h2>
<table>
{{range .Params}}<tr><th>{{.Name}}</th><td>{{.Value}}</td></tr>
{{end}}</table>
`))

func showPage(w http.ResponseWriter, r *http.Request, protocol string) {
	type param struct{ Name, Value string }
	var params []param
	for name, value := range gatewayhttp.Params(r).All() {
		params = append(params, param{string(name), string(value)})
	}
	slices.SortFunc(params, func(a, b param) int { return strings.Compare(a.Name, b.Name) })
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	page.Execute(w, struct {
		Protocol string
		Params   []param
	}{protocol, params})
}

// echo reads the whole body before it sends a byte: a web server may stop sending once the response
// begins.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEcho))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.Write(body)
}

func upload(w http.ResponseWriter, r *http.Request) {
	parts, err := r.MultipartReader()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	var response strings.Builder
	for part, err := parts.NextPart(); err != io.EOF; part, err = parts.NextPart() {
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		sum := sha256.New()
		n, _ := io.Copy(sum, part)
		fmt.Fprintf(&response, "%s: %d bytes, SHA-256 %x\n", part.FileName(), n, sum.Sum(nil))
	}
	io.WriteString(w, response.String())
}

func stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for i := range 5 {
		if i > 0 {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
		fmt.Fprintf(w, "piece %d of 5\n", i+1)
		http.NewResponseController(w).Flush()
	}
}
