package integration_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/internal/integration"
	"github.com/gatehouse-go/gatehouse/internal/server"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

var restarts = flag.Int("restarts", 10, "how often TestRestarts restarts each server")

// A restarting is a server that is replaced by another one on the same listening socket, as with
// systemd.
type restarting struct {
	name  string
	pass  string // nginx's directive
	keep  bool   // nginx keeps connections
	make  func(h http.Handler) server.Stoppable
	clean bool // no request may be lost
}

// TestRestarts restarts servers behind nginx, with 32 requests in flight, beside one of net/http. A
// connection that was opened for a request loses none; a kept one loses a request that crosses its
// close.
func TestRestarts(t *testing.T) {
	lostBy := make(map[string]int64)
	for _, r := range []restarting{
		{"fastcgi", "fastcgi_pass", false, func(h http.Handler) server.Stoppable {
			return &fastcgi.Server{Handler: gatewayhttp.Handler(h), Logger: quiet}
		}, true},
		{"scgi", "scgi_pass", false, func(h http.Handler) server.Stoppable {
			return &scgi.Server{Handler: gatewayhttp.Handler(h), Logger: quiet}
		}, true},
		{"uwsgi", "uwsgi_pass", false, func(h http.Handler) server.Stoppable {
			return &uwsgi.Server{Handler: gatewayhttp.Handler(h), Logger: quiet}
		}, true},
		{"fastcgi, kept", "fastcgi_keep_conn on; fastcgi_pass", true, func(h http.Handler) server.Stoppable {
			return &fastcgi.Server{Handler: gatewayhttp.Handler(h), Logger: quiet}
		}, false},
		{"net/http", "proxy_pass http://", false, func(h http.Handler) server.Stoppable { return &http.Server{Handler: h} }, false},
		{"net/http, kept", `proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://`, true, func(h http.Handler) server.Stoppable { return &http.Server{Handler: h} }, false},
	} {
		t.Run(r.name, func(t *testing.T) {
			sent, lost := r.run(t)
			t.Logf("%d restarts: %d requests, %d lost", *restarts, sent, lost)
			lostBy[r.name] = lost
			if r.clean && lost > 0 {
				t.Errorf("%d requests were lost", lost)
			}
		})
	}
	if ours, theirs := lostBy["fastcgi, kept"], lostBy["net/http, kept"]; len(lostBy) == 6 && 4*ours > theirs {
		t.Errorf("%d requests were lost on kept connections, and %d by net/http", ours, theirs)
	}
}

// run returns how many requests were sent, and how many got no response of the application.
func (r restarting) run(t *testing.T) (sent, lost int64) {
	dir := integration.Dir(t)
	first, err := net.Listen("unix", dir+"/app.sock")
	if err != nil {
		t.Fatal(err)
	}
	socket := first.(*net.UnixListener)
	defer socket.Close()
	if err := os.Chmod(dir+"/app.sock", 0o666); err != nil {
		t.Fatal(err)
	}
	stop := r.start(t, socket)
	port := integration.Port(t)
	keep := ""
	if r.keep {
		keep = "keepalive 32;"
	}
	startNginx(t, dir, loopback(port), fmt.Sprintf(`
	include /etc/nginx/fastcgi_params;
	include /etc/nginx/scgi_params;
	include /etc/nginx/uwsgi_params;
	upstream app { server unix:${DIR}/app.sock max_fails=0; %s }
	server { listen 127.0.0.1:%d; location / { %sapp; } }
`, keep, port, spaced(r.pass)))
	var n, failed atomic.Int64
	done := make(chan struct{})
	var clients sync.WaitGroup
	client := &http.Client{Timeout: conformance.Limit}
	for range 32 {
		clients.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				n.Add(1)
				res, err := client.Post("http://"+loopback(port)+"/", "text/plain", http.NoBody)
				if err != nil {
					failed.Add(1)
					continue
				}
				if b, err := io.ReadAll(res.Body); string(b) != "ok" || err != nil {
					failed.Add(1)
				}
				res.Body.Close()
			}
		})
	}
	for range *restarts {
		time.Sleep(50 * time.Millisecond)
		next := r.start(t, socket)
		stop()
		stop = next
	}
	close(done)
	clients.Wait()
	stop()
	return n.Load(), failed.Load()
}

// start starts a server on a copy of the socket, and returns what stops it gracefully.
func (r restarting) start(t *testing.T, socket *net.UnixListener) (stop func()) {
	t.Helper()
	f, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	s := r.make(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }))
	go s.Serve(l)
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	}
}

// spaced returns a directive that a name can follow.
func spaced(pass string) string {
	if pass[len(pass)-1] == '/' {
		return pass
	}
	return pass + " "
}
