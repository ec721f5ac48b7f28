package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
)

// startDemo serves the demo application over FastCGI on a private Unix socket.
func startDemo(ctx context.Context) (addr string, stop func(), err error) {
	dir, err := os.MkdirTemp("", "gatehouse-")
	if err != nil {
		return "", nil, err
	}
	addr = "unix:" + filepath.Join(dir, "demo.sock")
	srv := &fastcgi.Server{Handler: gatewayhttp.Handler(demo()), SocketMode: 0o600}
	l, err := fastcgi.Listen(addr, srv.SocketMode)
	if err != nil {
		os.RemoveAll(dir)
		return "", nil, err
	}
	go srv.Serve(l)
	return addr, func() {
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		srv.Shutdown(limit)
		os.RemoveAll(dir)
	}, nil
}

// maxEcho is the largest body that /echo holds in memory.
const maxEcho = 256 << 20

func demo() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", showPage)
	mux.HandleFunc("POST /echo", echo)
	mux.HandleFunc("POST /upload", upload)
	mux.HandleFunc("GET /stream", stream)
	mux.HandleFunc("GET /error", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "This application failed, as it was asked to.", http.StatusInternalServerError)
	})
	return mux
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
<p>This page came through a FastCGI connection: from the proxy, an HTTP server, to an application on a Unix socket.</p>
<ul>
<li><a href="stream">An answer that arrives in pieces</a></li>
<li><a href="missing">A 404</a> and <a href="error">a 500</a></li>
</ul>
<form action="upload" method="post" enctype="multipart/form-data">
<p><label>Upload a file: <input type="file" name="file"></label> <button>Send</button></p>
</form>
<h2>The params of this request</h2>
<table>
{{range .}}<tr><th>{{.Name}}</th><td>{{.Value}}</td></tr>
{{end}}</table>
`))

func showPage(w http.ResponseWriter, r *http.Request) {
	type param struct{ Name, Value string }
	var params []param
	for name, value := range gatewayhttp.Params(r).All() {
		params = append(params, param{string(name), string(value)})
	}
	slices.SortFunc(params, func(a, b param) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	page.Execute(w, params)
}

// echo reads all of the body before it sends a byte: a web server may stop sending once the answer begins.
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
	var answer strings.Builder
	for part, err := parts.NextPart(); err != io.EOF; part, err = parts.NextPart() {
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		sum := sha256.New()
		n, _ := io.Copy(sum, part)
		fmt.Fprintf(&answer, "%s: %d bytes, SHA-256 %x\n", part.FileName(), n, sum.Sum(nil))
	}
	io.WriteString(w, answer.String())
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
