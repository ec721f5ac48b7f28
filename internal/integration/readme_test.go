package integration_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/docs"
	"github.com/gatehouse-go/gatehouse/internal/integration"
)

const readme = "../../README.md"

// program builds the n-th program of the README, with some of its words changed for others.
func program(t *testing.T, dir string, n int, replace ...string) string {
	t.Helper()
	return docs.Build(t, readme, dir, docs.Swap(t, docs.Snippet(t, readme, "go", n), replace...))
}

// TestReadmeHandler runs the README's handler behind nginx, configured as the README says.
func TestReadmeHandler(t *testing.T) {
	dir := integration.Dir(t)
	app, web := loopback(integration.Port(t)), integration.Port(t)
	integration.Start(t, dir, app, program(t, dir, 0, "127.0.0.1:9000", app))
	location := docs.Swap(t, docs.Snippet(t, readme, "nginx", 0), "127.0.0.1:9000", app, "include fastcgi_params", "include /etc/nginx/fastcgi_params")
	startNginx(t, dir, loopback(web), fmt.Sprintf("server { listen 127.0.0.1:%d;\n%s }", web, location))
	if res, body, err := do("GET", "http://"+loopback(web)+"/", nil, nil); err != nil || res.StatusCode != 200 || string(body) != "hello, 127.0.0.1\n" {
		t.Errorf("%v, %q, %v", res, body, err)
	}
}

// TestReadmePHP runs the README's site before php-fpm.
func TestReadmePHP(t *testing.T) {
	socket, root := startPHP(t, 2, "")
	dir := integration.Dir(t)
	web := loopback(integration.Port(t))
	integration.Start(t, dir, web, program(t, dir, 2, "/srv/www", root, "/run/php/php8.2-fpm.sock", socket, "127.0.0.1:8080", web))
	if err := os.WriteFile(filepath.Join(root, "hello.php"), []byte("<?php echo 'hello, ', $_GET['name'];"), 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/hello.php?name=php": 200, "/": 200, "/missing.php": 404, "/style.css": 404} {
		res, body, err := do("GET", "http://"+web+path, nil, http.Header{})
		if err != nil || res.StatusCode != want || strings.HasPrefix(path, "/hello") && string(body) != "hello, php" {
			t.Errorf("%s: %v, %q, %v", path, res, body, err)
		}
	}
}

// TestReadmeAccessLog runs the README's access log behind nginx, with 32 clients at a time: there
// is one whole line for each request, and the metrics have the same number.
func TestReadmeAccessLog(t *testing.T) {
	t.Run("one line for each request [471]", func(t *testing.T) {
		const clients, each = 32, 50
		dir := integration.Dir(t)
		app, metrics, web := loopback(integration.Port(t)), loopback(integration.Port(t)), integration.Port(t)
		path := program(t, dir, 1, "127.0.0.1:9000", app, "127.0.0.1:9090", metrics)
		integration.Start(t, dir, app, "/bin/sh", "-c", `exec "$0" 2>`+dir+"/log", path)
		startNginx(t, dir, loopback(web), fmt.Sprintf(`
	include /etc/nginx/fastcgi_params;
	upstream app { server %s; keepalive 8; }
	server { listen 127.0.0.1:%d; location / { fastcgi_keep_conn on; fastcgi_pass app; } }
`, app, web))
		var sending sync.WaitGroup
		for i := range clients {
			sending.Go(func() {
				for j := range each {
					if res, _, err := do("GET", fmt.Sprintf("http://%s/request/%d/%d", loopback(web), i, j), nil, nil); err != nil || res.StatusCode != 404 {
						t.Errorf("%v, %v", res, err)
					}
				}
			})
		}
		sending.Wait()
		_, body, err := do("GET", "http://"+metrics, nil, nil)
		var stats gateway.ServerStats
		if err != nil || json.Unmarshal(body, &stats) != nil || stats.Requests != clients*each || stats.InFlight != 0 {
			t.Errorf("%s, %v", body, err)
		}
		log, err := os.ReadFile(dir + "/log")
		if err != nil {
			t.Fatal(err)
		}
		whole := regexp.MustCompile(`(?m)^\S+ \S+ INFO request method=GET path=(/request/\d+/\d+) status=404 bytes=19 took=\S+ error=<nil>$`)
		paths := make(map[string]bool)
		for _, line := range whole.FindAllStringSubmatch(string(log), -1) {
			paths[line[1]] = true
		}
		if lines := strings.Count(string(log), "\n"); len(paths) != clients*each || lines != clients*each {
			t.Errorf("%d requests in %d lines\n%.2000s", len(paths), lines, log)
		}
	})
}

// TestReadmeSite runs the README's site of PHP, over HTTP/2.
func TestReadmeSite(t *testing.T) {
	socket, root := startPHP(t, 2, "")
	dir := integration.Dir(t)
	web := loopback(integration.Port(t))
	integration.Certificate(t, dir)
	integration.Start(t, dir, web, program(t, dir, 3, "/srv/www", root, "/run/php/php8.2-fpm.sock", socket, "127.0.0.1:8443", web, "/etc/site", dir))
	c := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer c.CloseIdleConnections()
	for name, text := range map[string]string{"index.php": "<?php echo 'front ', $_SERVER['REQUEST_URI'];", "style.css": "body {}", ".env": "secret", "one.php": "<?php echo 'one ', $_SERVER['PATH_INFO'];"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"/": "200 front /", "/post/1?a=b": "200 front /post/1?a=b", "/style.css": "200 body {}", "/one.php/x": "200 one /x", "/missing.php": "200 front /missing.php", "/.env": "404 Not Found\n",
	} {
		res, err := c.Get("https://" + web + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if got := fmt.Sprint(res.StatusCode, " ", string(body)); got != want || err != nil || res.ProtoMajor != 2 {
			t.Errorf("%s: %q by %s, %v", path, got, res.Proto, err)
		}
	}
}

// TestReadmeHTTP runs the README's server in front of uvicorn, behind nginx.
func TestReadmeHTTP(t *testing.T) {
	dir := integration.Dir(t)
	writeTen(t, dir)
	httpBacks["uvicorn"](t, dir)
	app, web := loopback(integration.Port(t)), integration.Port(t)
	integration.Start(t, dir, app, program(t, dir, 4, "/run/uvicorn.sock", dir+"/http.sock", "127.0.0.1:3031", app))
	startNginx(t, dir, loopback(web), fmt.Sprintf("server { listen 127.0.0.1:%d; location / { include /etc/nginx/uwsgi_params; uwsgi_pass %s; } }\n", web, app))
	if res, body, err := do("GET", "http://"+loopback(web)+"/path/a%2Fb?x", nil, nil); err != nil || res.StatusCode != 200 || string(body) != "/path/a/b /path/a%2Fb?x " {
		t.Errorf("%v, %q, %v", res, body, err)
	}
	if _, body, err := do("GET", "http://"+loopback(web)+"/client", nil, http.Header{"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Proto": {"https"}}); err != nil || string(body) != "(('127.0.0.1', 0), 'http')" {
		t.Errorf("%q, %v", body, err)
	}
	testSocket(t, "http://"+loopback(web)+"/socket")
}
