//go:build unix

package integration_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/worker"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/internal/integration"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// A pooled is an application that a Pool runs, and a way to hand over its socket.
type pooled struct {
	name, way   string
	concurrency int
	client      func(addr string) worker.Client
	command     func(t *testing.T, dir string) []string
}

func overFastCGI(addr string) worker.Client {
	return &fastcgi.Client{Addr: addr, MaxIdleConns: 1, Logger: quiet}
}
func overUWSGI(addr string) worker.Client  { return &uwsgi.Client{Addr: addr} }
func overHTTPTo(addr string) worker.Client { return &gatewayhttp.Client{Addr: addr} }

// python writes an application for a Python server and returns the command.
func pythonCommand(program, pkg, app string, args ...string) func(t *testing.T, dir string) []string {
	return func(t *testing.T, dir string) []string {
		integration.Write(t, dir, "app.py", app)
		return append([]string{integration.Need(t, program, pkg)}, args...)
	}
}

func uwsgiCommand(socket ...string) func(t *testing.T, dir string) []string {
	return func(t *testing.T, dir string) []string {
		integration.NeedFile(t, "/usr/lib/uwsgi/plugins/python3_plugin.so", "uwsgi-plugin-python3")
		integration.Write(t, dir, "app.py", wsgiApp)
		return append([]string{integration.Need(t, "uwsgi-core", "uwsgi-core"), "--plugins", "python3", "--need-app", "--disable-logging", "--module", "app", "--pythonpath", dir}, socket...)
	}
}

const nodeWorker = `
const listen = process.argv[2] == 'fd' ? {fd: Number(process.argv[3])} : process.argv[3]
require('http').createServer((r, w) => w.end(decodeURIComponent(r.url.split('?')[0]) + ' ' + r.url + ' ')).listen(listen)
`

var pooledApps = []pooled{
	{"php-cgi", "standard input", 1, overFastCGI, func(t *testing.T, dir string) []string {
		return []string{integration.Need(t, "php-cgi", "php8.2-cgi")}
	}},
	{"Perl FCGI", "standard input", 1, overFastCGI, func(t *testing.T, dir string) []string {
		integration.NeedFile(t, "/usr/lib/x86_64-linux-gnu/perl5/5.36/FCGI.pm", "libfcgi-perl")
		return []string{"/usr/bin/perl", integration.Write(t, dir, "app.pl", `use FCGI; my $r = FCGI::Request(); while ($r->Accept >= 0) { print "Content-Type: text/plain\r\n\r\n$ENV{PATH_INFO} $ENV{REQUEST_URI} " }`)}
	}},
	{"uWSGI", "standard input", 1, overUWSGI, uwsgiCommand()},
	{"uWSGI", "{fd}", 1, overUWSGI, uwsgiCommand("--uwsgi-socket", "fd://{fd}")},
	{"uWSGI", "{socket}", 1, overUWSGI, uwsgiCommand("--uwsgi-socket", "{socket}")},
	{"uvicorn", "{fd}", 16, overHTTPTo, pythonCommand("uvicorn", "uvicorn", asgiApp, "--fd", "{fd}", "--log-level", "warning", "app:application")},
	{"uvicorn", "{socket}", 16, overHTTPTo, pythonCommand("uvicorn", "uvicorn", asgiApp, "--uds", "{socket}", "--log-level", "warning", "app:application")},
	{"gunicorn", "{fd}", 1, overHTTPTo, pythonCommand("gunicorn", "gunicorn", wsgiApp, "--bind", "fd://{fd}", "--log-level", "warning", "app:application")},
	{"gunicorn", "{socket}", 1, overHTTPTo, pythonCommand("gunicorn", "gunicorn", wsgiApp, "--bind", "unix:{socket}", "--log-level", "warning", "app:application")},
	{"daphne", "{socket}", 16, overHTTPTo, pythonCommand("daphne", "daphne", asgiApp, "-u", "{socket}", "-v", "0", "app:application")},
	{"node", "{fd}", 16, overHTTPTo, func(t *testing.T, dir string) []string {
		return []string{integration.Need(t, "node", "nodejs"), integration.Write(t, dir, "app.js", nodeWorker), "fd", "{fd}"}
	}},
	{"node", "{socket}", 16, overHTTPTo, func(t *testing.T, dir string) []string {
		return []string{integration.Need(t, "node", "nodejs"), integration.Write(t, dir, "app.js", nodeWorker), "socket", "{socket}"}
	}},
}

// pool starts a Pool of an application behind our HTTP front.
func (a *pooled) pool(t *testing.T) (p *worker.Pool, url string) {
	t.Helper()
	dir := integration.Dir(t)
	m := &gatewayhttp.Mapping{}
	if a.name == "php-cgi" {
		integration.Write(t, dir, "path.php", "<?php echo $_SERVER['PATH_INFO'], ' ', $_SERVER['REQUEST_URI'], ' ';")
		m.Root = dir
	}
	p = &worker.Pool{Command: a.command(t, dir), Client: a.client, Concurrency: a.concurrency, MaxWorkers: 2, Dir: dir, Logger: quiet, Env: []string{"HOME=" + dir}}
	t.Cleanup(func() { p.Close() })
	web := httptest.NewServer(&gatewayhttp.Proxy{Mapping: m, Backend: p, Logger: quiet})
	t.Cleanup(web.Close)
	return p, web.URL
}

// get asks for a path whose response names it.
func (a *pooled) get(url string) error {
	path := "/path/x"
	if a.name == "php-cgi" {
		path = "/path.php/x"
	}
	res, body, err := do("GET", url+path, nil, nil)
	if err != nil {
		return err
	}
	if !strings.HasSuffix(strings.TrimSpace(string(body)), path) || res.StatusCode != http.StatusOK {
		return fmt.Errorf("%d %q", res.StatusCode, body)
	}
	return nil
}

// TestWorkers runs each application in each way that it knows.
func TestWorkers(t *testing.T) {
	requests := 400
	if *load > 0 {
		requests = 10_000
	}
	for _, a := range pooledApps {
		t.Run(a.name+", "+a.way+" [354 301]", func(t *testing.T) {
			p, url := a.pool(t)
			if err := a.get(url); err != nil {
				t.Fatal("the first request: ", err)
			}
			var clients sync.WaitGroup
			ask := func(n int) {
				for range 8 {
					clients.Go(func() {
						for range n / 8 {
							if err := a.get(url); err != nil {
								t.Error(err)
								return
							}
						}
					})
				}
			}
			ask(requests)
			clients.Wait()
			ask(requests / 4)
			for range 3 { // while requests are sent
				if err := p.Reload(t.Context()); err != nil {
					t.Error(err)
				}
			}
			clients.Wait()
			if s := p.Status(); s.Failed > 0 {
				t.Errorf("%+v", s)
			}
			for _, w := range p.Status().Workers {
				syscall.Kill(w.PID, syscall.SIGKILL)
			}
			for end := time.Now().Add(conformance.Limit); p.Status().Failed == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
			}
			// One that was killed before its first response delays the next start.
			err := a.get(url)
			for end := time.Now().Add(conformance.Limit); err != nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				err = a.get(url)
			}
			if err != nil {
				t.Error("after a kill: ", err)
			}
			var pids []int
			for _, w := range p.Status().Workers {
				pids = append(pids, w.PID)
			}
			if err := p.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			for _, pid := range pids {
				if syscall.Kill(pid, 0) == nil {
					t.Errorf("%d is alive", pid)
				}
			}
		})
	}
}
