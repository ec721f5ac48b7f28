package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/integration"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// before serves HTTP before an application.
func before(t *testing.T, c gateway.RoundTripper, m *gatewayhttp.Mapping) (url string) {
	t.Helper()
	p := &gatewayhttp.Proxy{Mapping: m, Backend: c, Logger: quiet}
	p.LocalRedirect = p
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	return s.URL
}

// wsgiApp is the application of the front ends' cases for WSGI.
const wsgiApp = `
import hashlib
def application(env, start):
    path = env['PATH_INFO']
    length = int(env.get('CONTENT_LENGTH') or 0)
    def body():
        left = length
        while left > 0:
            piece = env['wsgi.input'].read(min(left, 65536))
            if not piece:
                raise IOError('the body is cut')
            left -= len(piece)
            yield piece
    if path == '/echo':
        b = b''.join(body())
        start('200 OK', [('Content-Type', 'application/octet-stream'), ('X-Query', env['QUERY_STRING']),
                         ('X-Big', str(len(env.get('HTTP_X_BIG_11', ''))))])
        return [b]
    if path == '/down':
        start('200 OK', [('Content-Type', 'application/octet-stream')])
        return [open('${DIR}/ten.bin', 'rb').read()]
    if path == '/sum':
        sum = hashlib.sha256()
        for piece in body(): sum.update(piece)
        start('200 OK', [('Content-Type', 'text/plain')])
        return [('%d %s <nil>' % (length, sum.hexdigest())).encode()]
    if path == '/fields':
        start('200 OK', [('Content-Type', 'text/plain'), ('Set-Cookie', 'a=1'), ('Set-Cookie', 'b=2')] + [('X-Field-%02d' % i, 'v' * 95) for i in range(80)])
        return [b'fields']
    if path in ('/500', '/panic'):
        start('500 Internal Server Error', [('Content-Type', 'text/plain')])
        return [b'five hundred']
    if path.startswith('/path'):
        start('200 OK', [('Content-Type', 'text/plain')])
        return [path.encode('latin-1'), b' ', (env.get('REQUEST_URI') or env['RAW_URI']).encode('latin-1'), b' ', env.get('HTTP_COOKIE', '').encode()]
    start('404 Not Found', [('Content-Type', 'text/plain')])
    return [b'not here']
`

// startUWSGI starts uWSGI with a Python module and sockets of three protocols.
func startUWSGI(t *testing.T, dir, module string, more ...string) {
	t.Helper()
	program := integration.Need(t, "uwsgi-core", "uwsgi-core")
	integration.NeedFile(t, "/usr/lib/uwsgi/plugins/python3_plugin.so", "uwsgi-plugin-python3")
	args := append([]string{program, "--plugins", "python3,ping", "--uwsgi-socket", dir + "/u.sock", "--scgi-socket", dir + "/s.sock", "--fastcgi-socket", dir + "/f.sock",
		"--chmod-socket=666", "--buffer-size", "65535", "--need-app", "--disable-logging", "--processes", "2", "--master", "--die-on-term", "--pythonpath", dir, "--module", module}, more...)
	integration.Start(t, dir, dir+"/f.sock", args...)
}

// threeWays are the clients of uWSGI's sockets.
func threeWays(dir string) map[string]gateway.RoundTripper {
	return map[string]gateway.RoundTripper{
		"uwsgi": &uwsgi.Client{Addr: "unix:" + dir + "/u.sock"},
		"scgi":  &scgi.Client{Addr: "unix:" + dir + "/s.sock"},
		// It closes after each response, whatever FCGI_KEEP_CONN says: a connection that was kept
		// could be lost to a POST.
		"fastcgi": &fastcgi.Client{Addr: "unix:" + dir + "/f.sock", Logger: quiet},
	}
}

func writeTen(t *testing.T, dir string) {
	t.Helper()
	if err := os.WriteFile(dir+"/ten.bin", tenMiB, 0o644); err != nil {
		t.Fatal(err)
	}
}

// testPaths looks at encoded slashes, bytes that are no ASCII, and cookies.
func testPaths(t *testing.T, url string) {
	r, _ := http.NewRequest("GET", url+"/path/caf%C3%A9/a%2Fb", nil)
	r.Header.Add("Cookie", "a=1")
	r.Header.Add("Cookie", "b=2")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); string(b) != "/path/caf\xc3\xa9/a/b /path/caf%C3%A9/a%2Fb a=1; b=2" {
		t.Errorf("030 047 %q", b)
	}
}

func TestUWSGI(t *testing.T) {
	dir := integration.Dir(t)
	writeTen(t, dir)
	integration.Write(t, dir, "plain.py", wsgiApp)
	startUWSGI(t, dir, "plain")
	for name, c := range threeWays(dir) {
		t.Run(name, func(t *testing.T) {
			url := before(t, c, nil)
			testFront(t, "uWSGI/"+name, url)
			testPaths(t, url)
		})
	}
	t.Run("Ping [176]", func(t *testing.T) {
		if warning, err := (&uwsgi.Client{Addr: "unix:" + dir + "/u.sock"}).Ping(t.Context()); warning != "" || err != nil {
			t.Errorf("%q, %v", warning, err)
		}
	})
}

// wsgiref.validate looks at every type and value of the environment.
func TestUWSGIValidate(t *testing.T) {
	dir := integration.Dir(t)
	writeTen(t, dir)
	integration.Write(t, dir, "plain.py", wsgiApp)
	integration.Write(t, dir, "valid.py", `
from wsgiref.validate import validator
import plain
application = validator(plain.application)
`)
	startUWSGI(t, dir, "valid")
	for name, c := range threeWays(dir) {
		url := before(t, c, nil)
		for method, want := range map[string]string{"GET": "", "POST": "body"} {
			res, got, err := do(method, url+"/echo?q=%20", strings.NewReader(want), nil)
			if err != nil || res.StatusCode != 200 || string(got) != want {
				t.Errorf("%s: %v, %q, %v", name, res, got, err)
			}
		}
	}
}

// The client's error tells that uWSGI closes if the vars exceed its buffer-size.
func TestUWSGIBufferSize(t *testing.T) {
	dir := integration.Dir(t)
	integration.Write(t, dir, "plain.py", wsgiApp)
	startUWSGI(t, dir, "plain", "--buffer-size", "4096")
	r := gatewaytest.NewRequest("GET", "/echo", nil)
	r.Params.Add("HTTP_X", strings.Repeat("v", 5000))
	err := (&uwsgi.Client{Addr: "unix:" + dir + "/u.sock"}).RoundTrip(t.Context(), r, new(gateway.Response))
	if !errors.Is(err, gateway.ErrNoResponse) || !strings.Contains(err.Error(), "buffer-size is 4096") {
		t.Errorf("164 got %v", err)
	}
}

func TestUWSGIWebSocket(t *testing.T) {
	dir := integration.Dir(t)
	integration.Write(t, dir, "sockets.py", `
import uwsgi
def application(env, start):
    uwsgi.websocket_handshake(env['HTTP_SEC_WEBSOCKET_KEY'], env.get('HTTP_ORIGIN', ''))
    while True:
        uwsgi.websocket_send(uwsgi.websocket_recv())
`)
	startUWSGI(t, dir, "sockets")
	c := &uwsgi.Client{Addr: "unix:" + dir + "/u.sock"}
	testSocket(t, before(t, c, nil)+"/")
	s := httptest.NewServer(reverse(c))
	defer s.Close()
	testSocket(t, s.URL+"/")
}

func TestFlaskAndBottle(t *testing.T) {
	for name, c := range map[string]struct{ file, pkg, text string }{
		"flask": {"/usr/lib/python3/dist-packages/flask/__init__.py", "python3-flask", `
from flask import Flask, request
application = Flask(__name__)
@application.route('/echo', methods=['GET', 'POST'])
def echo():
    return request.get_data()
@application.route('/form', methods=['POST'])
def form():
    return request.form['a'] + request.files['f'].read().decode()
`}, "bottle": {"/usr/lib/python3/dist-packages/bottle.py", "python3-bottle", `
from bottle import default_app, route, request
@route('/echo', method=['GET', 'POST'])
def echo():
    return request.body.read()
@route('/form', method='POST')
def form():
    return request.forms.a + request.files.get('f').file.read().decode()
application = default_app()
`}} {
		t.Run(name, func(t *testing.T) {
			integration.NeedFile(t, c.file, c.pkg)
			dir := integration.Dir(t)
			integration.Write(t, dir, "web.py", c.text)
			startUWSGI(t, dir, "web")
			for protocol, c := range threeWays(dir) {
				url := before(t, c, nil)
				for _, chunked := range []bool{false, true} { // these take chunks apart if they are told of any
					if err := echoCase([]byte("hello, world"), chunked)(t, url); err != nil {
						t.Errorf("%s, chunked %v: %v", protocol, chunked, err)
					}
				}
				form := "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nvalue \r\n--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\nfile\r\n--x--\r\n"
				_, got, err := do("POST", url+"/form", strings.NewReader(form), http.Header{"Content-Type": {"multipart/form-data; boundary=x"}})
				if err != nil || string(got) != "value file" {
					t.Errorf("%s: %q, %v", protocol, got, err)
				}
			}
		})
	}
}

const djangoSite = `
import os, sys
from django.conf import settings
settings.configure(
    DEBUG=False, SECRET_KEY='secret', ALLOWED_HOSTS=['*'], ROOT_URLCONF=__name__, USE_TZ=True,
    DATABASES={'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': '${DIR}/db'}},
    INSTALLED_APPS=['django.contrib.admin', 'django.contrib.auth', 'django.contrib.contenttypes', 'django.contrib.sessions', 'django.contrib.messages'],
    MIDDLEWARE=['django.contrib.sessions.middleware.SessionMiddleware', 'django.middleware.common.CommonMiddleware', 'django.middleware.csrf.CsrfViewMiddleware',
                'django.contrib.auth.middleware.AuthenticationMiddleware', 'django.contrib.messages.middleware.MessageMiddleware'],
    TEMPLATES=[{'BACKEND': 'django.template.backends.django.DjangoTemplates', 'APP_DIRS': True, 'OPTIONS': {'context_processors': [
        'django.template.context_processors.request', 'django.contrib.auth.context_processors.auth', 'django.contrib.messages.context_processors.messages']}}],
    FILE_UPLOAD_TEMP_DIR='${DIR}', DATA_UPLOAD_MAX_MEMORY_SIZE=None, STATIC_URL='/static/',
)
import django
django.setup()
import hashlib
from django.contrib import admin
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
@csrf_exempt
def upload(request):
    f = request.FILES['f']
    sum = hashlib.sha256()
    for piece in f.chunks(): sum.update(piece)
    return HttpResponse('%d %s' % (f.size, sum.hexdigest()))
urlpatterns = [path('admin/', admin.site.urls), path('upload', upload)]
if __name__ == '__main__':
    from django.core.management import call_command
    call_command('migrate', verbosity=0)
    from django.contrib.auth.models import User
    User.objects.create_superuser('admin', 'a@example.com', 'sesame')
else:
    from django.core.wsgi import get_wsgi_application
    application = get_wsgi_application()
`

func TestDjango(t *testing.T) {
	integration.NeedFile(t, "/usr/lib/python3/dist-packages/django/__init__.py", "python3-django")
	dir := integration.Dir(t)
	site := integration.Write(t, dir, "site_app.py", djangoSite)
	make := exec.Command("/usr/bin/python3", site)
	make.Dir = dir
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	os.Chmod(dir+"/db", 0o666)
	startUWSGI(t, dir, "site_app")
	for name, c := range threeWays(dir) {
		t.Run(name, func(t *testing.T) {
			base := before(t, c, nil)
			jar, _ := cookiejar.New(nil)
			browser := &http.Client{Jar: jar}
			page := func(res *http.Response, err error) string {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				b, _ := io.ReadAll(res.Body)
				return string(b)
			}
			login := page(browser.Get(base + "/admin/")) // a redirect to the form
			token := regexp.MustCompile(`name="csrfmiddlewaretoken" value="([^"]+)"`).FindStringSubmatch(login)
			if token == nil {
				t.Fatalf("no form in %.300q", login)
			}
			in := page(browser.PostForm(base+"/admin/login/?next=/admin/", url.Values{"csrfmiddlewaretoken": {token[1]}, "username": {"admin"}, "password": {"sesame"}, "next": {"/admin/"}}))
			if !strings.Contains(in, "Site administration") {
				t.Errorf("not in: %.300q", in)
			}
			if without := page(http.PostForm(base+"/admin/login/", url.Values{"username": {"admin"}, "password": {"sesame"}})); !strings.Contains(without, "403 Forbidden") {
				t.Errorf("without a token: %.300q", without)
			}
			var form bytes.Buffer
			form.WriteString("--gatehouse-boundary\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n")
			form.Write(tenMiB)
			form.WriteString("\r\n--gatehouse-boundary--\r\n")
			if got := page(http.Post(base+"/upload", "multipart/form-data; boundary=gatehouse-boundary", &form)); got != sumOf(tenMiB) {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestPSGI(t *testing.T) {
	program := integration.Need(t, "uwsgi-core", "uwsgi-core")
	integration.NeedFile(t, "/usr/lib/uwsgi/plugins/psgi_plugin.so", "uwsgi-plugin-psgi")
	dir := integration.Dir(t)
	app := integration.Write(t, dir, "app.psgi", `
my $app = sub {
	my $env = shift;
	my ($left, $body) = ($env->{CONTENT_LENGTH} || 0, '');
	while ($left > 0) { my $n = $env->{'psgi.input'}->read(my $piece, $left > 65536 ? 65536 : $left); last unless $n; $body .= $piece; $left -= $n }
	return [404, ['Content-Type' => 'text/plain'], ['not here']] if $env->{PATH_INFO} ne '/echo';
	return [200, ['Content-Type' => 'application/octet-stream', 'X-Query' => $env->{QUERY_STRING}], [$body]];
};
`)
	integration.Start(t, dir, dir+"/u.sock", program, "--plugins", "psgi", "--uwsgi-socket", dir+"/u.sock", "--chmod-socket=666", "--psgi", app, "--disable-logging", "--buffer-size", "65535")
	r := gatewaytest.NewRequest("POST", "/echo", tenMiB[:100000])
	r.Modifier1 = uint8(uwsgi.ModifierPSGI)
	testEcho(t, &uwsgi.Client{Addr: "unix:" + dir + "/u.sock"}, r, tenMiB[:100000])
}

// testEcho sends r and compares the respond with its body.
func testEcho(t *testing.T, c gateway.RoundTripper, r *gateway.Request, body []byte) {
	t.Helper()
	var res gateway.Response
	if err := c.RoundTrip(t.Context(), r, &res); err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || res.Status != 200 || !bytes.Equal(b, body) {
		t.Errorf("%d, %d bytes, %v", res.Status, len(b), err)
	}
}

func TestPerlSCGI(t *testing.T) {
	perl := integration.Need(t, "perl", "perl")
	if exec.Command(perl, "-MSCGI", "-e", "1").Run() != nil {
		integration.NeedFile(t, "SCGI.pm", "libscgi-perl")
	}
	dir := integration.Dir(t)
	port := integration.Port(t)
	app := integration.Write(t, dir, "app.pl", fmt.Sprintf(`
use strict; use SCGI; use IO::Socket;
my $socket = IO::Socket::INET->new(Listen => 5, ReuseAddr => 1, LocalAddr => '127.0.0.1:%d') or die $!;
my $scgi = SCGI->new($socket, blocking => 1);
while (my $request = $scgi->accept) {
	eval {
		$request->read_env;
		my $env = $request->env;
		my $left = $env->{CONTENT_LENGTH}; my $body = '';
		while ($left > 0) { my $n = read($request->connection, my $piece, $left); last unless $n; $body .= $piece; $left -= $n }
		$request->connection->print("Status: 200 OK\r\nContent-Type: application/octet-stream\r\nX-Query: $env->{QUERY_STRING}\r\n\r\n", $body);
	};
	$request->close;
}
`, port))
	integration.Start(t, dir, loopback(port), perl, app)
	c := &scgi.Client{Addr: loopback(port)}
	for _, body := range [][]byte{{}, []byte("hello"), tenMiB} {
		testEcho(t, c, gatewaytest.NewRequest("POST", "/x?q", body), body)
	}
}

func TestRTorrent(t *testing.T) {
	rtorrent := integration.Need(t, "rtorrent", "rtorrent")
	dir := integration.Dir(t)
	rc := integration.Write(t, dir, "rtorrent.rc", "system.daemon.set = true\nnetwork.scgi.open_local = ${DIR}/rt.sock\nsession.path.set = ${DIR}\nnetwork.port_open.set = no\n")
	integration.Start(t, dir, dir+"/rt.sock", rtorrent, "-n", "-o", "import="+rc)
	url := before(t, &scgi.Client{Addr: "unix:" + dir + "/rt.sock"}, &gatewayhttp.Mapping{Minimal: true, Params: func(p *gateway.Params, r *http.Request) error {
		p.Set("CONTENT_TYPE", "text/xml")
		return nil
	}})
	call := `<?xml version="1.0"?><methodCall><methodName>system.client_version</methodName></methodCall>`
	res, got, err := do("POST", url+"/RPC2", strings.NewReader(call), nil)
	if err != nil || res.StatusCode != 200 || !strings.Contains(string(got), "0.9.") {
		t.Errorf("200 %v, %q, %v", res, got, err)
	}
	if res, _, err := do("GET", url+"/", nil, nil); err != nil || res.StatusCode != 502 { // it closes on an empty body
		t.Errorf("%v, %v", res, err)
	}
}

func TestCGIScripts(t *testing.T) {
	dir := integration.Dir(t)
	writeTen(t, dir)
	script(t, dir, "go.cgi")
	integration.Write(t, dir, "python.cgi", "#!/usr/bin/python3\nimport sys, os\nsys.path.insert(0, '${DIR}')\nimport plain\nfrom wsgiref.handlers import CGIHandler\nCGIHandler().run(plain.application)\n")
	integration.Write(t, dir, "plain.py", wsgiApp)
	integration.Write(t, dir, "perl.cgi", "#!/usr/bin/perl\nlocal $/ = undef; binmode STDIN; my $b = <STDIN>; print \"Content-Type: application/octet-stream\\r\\nX-Query: $ENV{QUERY_STRING}\\r\\n\\r\\n\", $b;\n")
	integration.Write(t, dir, "sh.cgi", "#!/bin/sh\nprintf 'Content-Type: application/octet-stream\\r\\nX-Query: %s\\r\\n\\r\\n' \"$QUERY_STRING\"; cat\n")
	c := &cgi.Client{Root: dir, Logger: quiet}
	url := before(t, c, nil)
	for _, name := range []string{"go.cgi", "python.cgi"} {
		t.Run(name, func(t *testing.T) {
			if name == "python.cgi" {
				integration.Need(t, "python3", "python3")
			}
			testFront(t, name, url+"/"+name)
		})
	}
	for _, name := range []string{"perl.cgi", "sh.cgi"} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{0, 1000, 10 << 20} {
				res, got, err := do("POST", url+"/"+name+"/x?a&b", bytes.NewReader(tenMiB[:size]), nil)
				if err != nil || res.StatusCode != 200 || res.Header.Get("X-Query") != "a&b" || !bytes.Equal(got, tenMiB[:size]) {
					t.Errorf("%d bytes: %v, %d bytes, %v", size, res, len(got), err)
				}
			}
		})
	}
}

func TestPHPCGI(t *testing.T) {
	php := integration.Need(t, "php-cgi", "php8.2-cgi")
	dir := integration.Dir(t)
	integration.Write(t, dir, "index.php", phpScript)
	c := &cgi.Client{Path: php, Args: []string{"-d", "cgi.force_redirect=1"}, Logger: quiet}
	url := before(t, c, &gatewayhttp.Mapping{Root: dir}) + "/index.php"
	res, got, err := do("POST", url+"/sum", bytes.NewReader(tenMiB), nil)
	if err != nil || res.StatusCode != 200 || !strings.HasPrefix(string(got), "10485760 ") {
		t.Errorf("%v, %q, %v", res, got, err)
	}
	if res, got, err := do("GET", url+"/missing", nil, nil); err != nil || res.StatusCode != 404 || string(got) != "not here" {
		t.Errorf("%v, %q, %v", res, got, err)
	}
	if res, got, err := do("GET", url+"/dump?-s", nil, nil); err != nil || res.StatusCode != 200 || !strings.Contains(string(got), "QUERY_STRING=-s\n") || strings.Contains(string(got), "<code>") {
		t.Errorf("F23 %v, %.200q, %v", res, got, err)
	}
}

// TestGit clones, fetches and pushes through git http-backend.
func TestGit(t *testing.T) {
	git := integration.Need(t, "git", "git")
	const backend = "/usr/lib/git-core/git-http-backend"
	integration.NeedFile(t, backend, "git")
	dir := t.TempDir()
	run := func(in string, args ...string) string {
		t.Helper()
		cmd := exec.Command(git, args...)
		cmd.Dir = in
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com", "GIT_TERMINAL_PROMPT=0"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	run(dir, "init", "-q", "--bare", "-b", "main", "repo.git")
	run(dir+"/repo.git", "config", "http.receivepack", "true")
	url := before(t, &cgi.Client{Path: backend, Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"}, Logger: quiet}, nil)
	run(dir, "clone", "-q", url+"/repo.git", "first")
	if err := os.WriteFile(dir+"/first/large", tenMiB, 0o644); err != nil {
		t.Fatal(err)
	}
	run(dir+"/first", "checkout", "-q", "-b", "main")
	run(dir+"/first", "add", "large")
	run(dir+"/first", "commit", "-qm", "a large file")
	run(dir+"/first", "push", "-q", "origin", "main") // in chunks: git does not know the length
	run(dir, "clone", "-q", url+"/repo.git", "second")
	if b, err := os.ReadFile(dir + "/second/large"); err != nil || !bytes.Equal(b, tenMiB) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	run(dir+"/first", "commit", "-q", "--allow-empty", "-m", "one more")
	run(dir+"/first", "push", "-q", "origin", "main")
	run(dir+"/second", "fetch", "-q")
	if log := run(dir+"/second", "log", "--format=%s", "origin/main"); log != "one more\na large file\n" {
		t.Errorf("%q", log)
	}
}
