package integration_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/internal/integration"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// fetch returns the status and the body of a GET, whose path is sent as it is.
func fetch(t *testing.T, url string, fields http.Header) (int, string) {
	t.Helper()
	res, body, err := do("GET", url, nil, fields)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// TestUploadsDoNotRun asks php-cgi for an uploaded picture, and php-fpm for a private file, by the
// names that make each run them.
func TestUploadsDoNotRun(t *testing.T) {
	php := integration.Need(t, "php-cgi", "php8.2-cgi")
	dir := integration.Dir(t)
	if err := os.MkdirAll(dir+"/upload", 0o777); err != nil {
		t.Fatal(err)
	}
	integration.Write(t, dir, "x.php", "<?php echo 'script';")
	integration.Write(t, dir, "upload/x.jpg", "<?php echo 'RAN';")
	integration.Start(t, dir, dir+"/php.sock", php, "-d", "cgi.fix_pathinfo=1", "-b", dir+"/php.sock")
	c := &fastcgi.Client{Addr: "unix:" + dir + "/php.sock", Logger: quiet}
	t.Run("php-cgi with cgi.fix_pathinfo=1 [F50]", func(t *testing.T) {
		checked := site(t, c, &gatewayhttp.Mapping{Root: dir})
		unchecked := site(t, c, &gatewayhttp.Mapping{Root: dir, Files: gatewayhttp.NoFiles})
		for _, path := range []string{"/upload/x.jpg/y.php", "/upload/x.jpg/.php", "/upload//x.jpg/y.php", "/upload/./x.jpg/y.php", "/upload/x.jpg/y.PHP", "/upload/x.jpg/a/y.php"} {
			if status, body := fetch(t, checked+path, nil); status != 404 || strings.Contains(body, "RAN") {
				t.Errorf("%s: %d %q", path, status, body)
			}
			if _, body := fetch(t, unchecked+path, nil); path == "/upload/x.jpg/y.php" && !strings.Contains(body, "RAN") {
				t.Errorf("%s: php-cgi no longer runs it, and this test shows nothing: %q", path, body)
			}
		}
		if status, body := fetch(t, checked+"/x.php/info", nil); status != 200 || body != "script" {
			t.Errorf("%d %q", status, body)
		}
	})
	t.Run("php-fpm with cgi.fix_pathinfo=0 [F51]", func(t *testing.T) {
		socket, root := startPHP(t, 1, "php_admin_value[cgi.fix_pathinfo] = 0")
		integration.Write(t, root, "x.php", "<?php echo 'script';")
		if err := os.MkdirAll(root+"/private", 0o777); err != nil {
			t.Fatal(err)
		}
		integration.Write(t, root, "private/y.php", "<?php echo 'RAN';")
		url := site(t, &fastcgi.Client{Addr: "unix:" + socket, Logger: quiet}, &gatewayhttp.Mapping{Root: root})
		if status, body := fetch(t, url+"/x.php/private/y.php", nil); status != 200 || body != "script" {
			t.Errorf("%d %q", status, body)
		}
	})
}

// TestUWSGIScheme checks that uWSGI believes us, and not the client.
func TestUWSGIScheme(t *testing.T) {
	dir := integration.Dir(t)
	integration.Write(t, dir, "scheme.py", `
def application(env, start):
    start('200 OK', [('Content-Type', 'text/plain')])
    return [env['wsgi.url_scheme'].encode()]
`)
	startUWSGI(t, dir, "scheme")
	forged := http.Header{"X-Forwarded-Proto": {"https"}, "X-Forwarded-Ssl": {"on"}}
	for name, c := range threeWays(dir) {
		t.Run(name+" [457 F53]", func(t *testing.T) {
			if _, scheme := fetch(t, before(t, c, &gatewayhttp.Mapping{}), forged); scheme != "http" {
				t.Errorf("a client's fields make it %q", scheme)
			}
			if _, scheme := fetch(t, before(t, c, &gatewayhttp.Mapping{TrustForwarded: true}), forged); scheme != "https" {
				t.Errorf("with TrustForwarded it is %q", scheme)
			}
		})
	}
}

// serveProxies starts our servers of three protocols on f.sock, s.sock and u.sock in dir, with h.
func serveProxies(t *testing.T, dir string, h gateway.Handler) {
	t.Helper()
	f := &fastcgi.Server{Handler: h, SocketMode: 0o666, Logger: quiet}
	s := &scgi.Server{Handler: h, SocketMode: 0o666, Logger: quiet}
	u := &uwsgi.Server{Handler: h, SocketMode: 0o666, Logger: quiet}
	fl, ferr := f.Listen("unix:" + dir + "/front-f.sock")
	sl, serr := s.Listen("unix:" + dir + "/front-s.sock")
	ul, uerr := u.Listen("unix:" + dir + "/front-u.sock")
	if ferr != nil || serr != nil || uerr != nil {
		t.Fatal(ferr, serr, uerr)
	}
	go f.Serve(fl)
	go s.Serve(sl)
	go u.Serve(ul)
	t.Cleanup(func() { f.Close(); s.Close(); u.Close() })
}

// startNginx starts nginx with these servers, of which one listens on addr.
func startNginx(t *testing.T, dir, addr, servers string) {
	t.Helper()
	nginx := integration.Need(t, "nginx", "nginx-light")
	conf := integration.Write(t, dir, "nginx.conf", `
daemon off;
pid ${DIR}/nginx.pid;
error_log ${DIR}/error.log;
worker_processes 1;
events { worker_connections 512; }
http {
	access_log off;
	client_body_temp_path ${DIR}/t1;
	fastcgi_temp_path ${DIR}/t2;
	proxy_temp_path ${DIR}/t3;
	uwsgi_temp_path ${DIR}/t4;
	scgi_temp_path ${DIR}/t5;
`+servers+"}\n")
	integration.Start(t, dir, addr, nginx, "-c", conf, "-e", dir+"/error.log")
}

// stockNginx starts nginx in front of these sockets, with the params that it is shipped with, and
// returns the URLs.
func stockNginx(t *testing.T, dir string) map[string]string {
	t.Helper()
	ports := []int{integration.Port(t), integration.Port(t), integration.Port(t)}
	startNginx(t, dir, loopback(ports[2]), fmt.Sprintf(`
	server { listen 127.0.0.1:%d; location / { include /etc/nginx/fastcgi_params; fastcgi_pass unix:${DIR}/front-f.sock; } }
	server { listen 127.0.0.1:%d; location / { include /etc/nginx/scgi_params; scgi_pass unix:${DIR}/front-s.sock; } }
	server { listen 127.0.0.1:%d; location / { include /etc/nginx/uwsgi_params; uwsgi_pass unix:${DIR}/front-u.sock; } }
`, ports[0], ports[1], ports[2]))
	return map[string]string{"fastcgi": "http://" + loopback(ports[0]), "scgi": "http://" + loopback(ports[1]), "uwsgi": "http://" + loopback(ports[2])}
}

// TestMountAtBehindNginx passes nginx's stock params on to uWSGI, by each protocol that it speaks,
// and to a CGI program.
func TestMountAtBehindNginx(t *testing.T) {
	dir := integration.Dir(t)
	integration.Write(t, dir, "paths.py", `
def application(env, start):
    start('200 OK', [('Content-Type', 'text/plain')])
    return [('%s|%s' % (env['SCRIPT_NAME'], env['PATH_INFO'])).encode('latin-1')]
`)
	startUWSGI(t, dir, "paths")
	backs := threeWays(dir)
	integration.Write(t, dir, "run.cgi", "#!"+python(t)+"\nimport sys\nsys.path.insert(0, '${DIR}')\nfrom paths import application\nfrom wsgiref.handlers import CGIHandler\nCGIHandler().run(application)\n")
	backs["cgi"] = &cgi.Client{Path: dir + "/run.cgi", Logger: quiet}
	for back, c := range backs {
		dir := integration.Dir(t)
		serveProxies(t, dir, &gateway.Proxy{Backend: c, Rewrite: gateway.MountAt("/app")})
		for front, url := range stockNginx(t, dir) {
			t.Run(front+" to "+back+" [462]", func(t *testing.T) {
				for path, want := range map[string]string{"/app/a%2Fb": "/app|/a/b", "/app/caf%C3%A9": "/app|/caf\xc3\xa9", "/other": "|/other"} {
					if status, body := fetch(t, url+path, nil); status != 200 || body != want {
						t.Errorf("%s: %d %q, want %q", path, status, body, want)
					}
				}
			})
		}
	}
}

// TestScriptInBehindNginx passes nginx's stock params on to php-fpm.
func TestScriptInBehindNginx(t *testing.T) {
	socket, root := startPHP(t, 2, "")
	dir := integration.Dir(t)
	serveProxies(t, dir, &gateway.Proxy{Backend: &fastcgi.Client{Addr: "unix:" + socket, Logger: quiet}, Rewrite: gateway.ScriptIn(root)})
	for name, url := range stockNginx(t, dir) {
		t.Run(name+" [465]", func(t *testing.T) {
			status, body := fetch(t, url+"/index.php/dump?q=1", nil)
			for _, want := range []string{"SCRIPT_FILENAME=" + root + "/index.php\n", "SCRIPT_NAME=/index.php\n", "PATH_INFO=/dump\n", "QUERY_STRING=q=1\n", "REQUEST_URI=/index.php/dump?q=1\n"} {
				if status != 200 || !strings.Contains(body, want) {
					t.Errorf("%d, no %s in %s", status, want, body)
				}
			}
			if status, _ := fetch(t, url+"/missing.txt", nil); status != 404 {
				t.Errorf("a path without a script: %d", status)
			}
		})
	}
}
