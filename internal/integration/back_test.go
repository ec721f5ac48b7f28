package integration_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/integration"
)

// site serves HTTP in front of a FastCGI application.
func site(t *testing.T, c *fastcgi.Client, m *gatewayhttp.Mapping) (url string) {
	t.Helper()
	s := httptest.NewServer(&gatewayhttp.Proxy{Mapping: m, Backend: c, Logger: quiet})
	t.Cleanup(s.Close)
	t.Cleanup(func() { c.Close() })
	return s.URL
}

const phpScript = `<?php
switch ($_SERVER['PATH_INFO'] ?? '') {
case '/dump':
	foreach ($_SERVER as $k => $v) echo "$k=", is_array($v) ? 'array' : $v, "\n";
	break;
case '/echo':
	header('Content-Type: application/octet-stream');
	echo file_get_contents('php://input');
	break;
case '/sum':
	$b = file_get_contents('php://input');
	echo strlen($b), ' ', hash('sha256', $b);
	break;
case '/down':
	$piece = str_repeat('0123456789abcdef', 4096);
	for ($i = 0; $i < 160; $i++) echo $piece;
	break;
case '/missing':
	http_response_code(404);
	echo 'not here';
	break;
case '/log':
	error_log("one\nFAKE two\x1b[31m");
	echo 'logged';
	break;
case '/cookies':
	setcookie('a', '1');
	setcookie('b', '2');
	echo 'cookies';
	break;
case '/exit':
	echo 'half';
	exit(3);
case '/die':
	echo str_repeat('x', 100000);
	flush();
	posix_kill(getmypid(), 9);
	sleep(5);
	break;
case '/slow':
	usleep(700000);
	echo 'slow';
	break;
case '/duplex':
	for ($i = 0; $i < 64; $i++) echo str_repeat('y', 65536);
	flush();
	echo strlen(file_get_contents('php://input'));
	break;
}
`

// startPHP starts php-fpm with extra lines in its pool's configuration and returns the socket's
// path and the root.
func startPHP(t testing.TB, children int, extra string) (socket, root string) {
	t.Helper()
	dir := integration.Dir(t)
	integration.Write(t, dir, "index.php", phpScript)
	integration.StartFPM(t, dir, "fpm", dir+"/fpm.sock", fmt.Sprintf(`pm = static
pm.max_children = %d
catch_workers_output = no
php_admin_value[post_max_size] = 64M
php_admin_value[memory_limit] = 256M
php_admin_value[output_buffering] = 0
php_admin_value[log_errors] = 1
php_admin_value[error_log] =
pm.status_path = /status
%s
`, children, extra))
	return dir + "/fpm.sock", dir
}

func TestPHP(t *testing.T) {
	socket, root := startPHP(t, 4, "")
	var mu sync.Mutex
	var logged []string
	c := &fastcgi.Client{Addr: "unix:" + socket, Stderr: func(_ context.Context, line []byte) {
		mu.Lock()
		defer mu.Unlock()
		logged = append(logged, string(line))
	}}
	url := site(t, c, &gatewayhttp.Mapping{Root: root}) + "/index.php"

	t.Run("variables", func(t *testing.T) {
		_, body, err := do("GET", url+"/dump?a=%20b", nil, http.Header{"X-Odd": {"one", "two"}, "Cookie": {"a=1", "b=2"}, "X_Odd": {"spoof"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"SCRIPT_FILENAME=" + root + "/index.php", "SCRIPT_NAME=/index.php", "PATH_INFO=/dump", "QUERY_STRING=a=%20b",
			"REQUEST_URI=/index.php/dump?a=%20b", "DOCUMENT_ROOT=" + root, "HTTP_X_ODD=one, two", "HTTP_COOKIE=a=1; b=2",
			"SERVER_PROTOCOL=HTTP/1.1", "REQUEST_METHOD=GET", "REMOTE_ADDR=127.0.0.1", "PHP_SELF=/index.php/dump",
			"GATEWAY_INTERFACE=CGI/1.1", "CONTENT_LENGTH=0", "REDIRECT_STATUS=200", "SERVER_ADDR=127.0.0.1",
		} {
			if !strings.Contains(string(body), want+"\n") {
				t.Errorf("no %s in\n%s", want, body)
			}
		}
	})
	t.Run("upload10m", func(t *testing.T) {
		_, body, err := do("POST", url+"/sum", bytes.NewReader(tenMiB), nil)
		if want := fmt.Sprintf("%d %x", len(tenMiB), sha256.Sum256(tenMiB)); err != nil || string(body) != want {
			t.Errorf("got %q, %v", body, err)
		}
	})
	t.Run("echo10m", func(t *testing.T) {
		if err := echoCase(tenMiB, false)(t, strings.TrimSuffix(url, "/")); err != nil {
			t.Error(err)
		}
	})
	t.Run("chunked10m spooled", func(t *testing.T) {
		if err := echoCase(tenMiB, true)(t, url); err != nil {
			t.Error(err)
		}
	})
	t.Run("down10m", func(t *testing.T) {
		_, body, err := do("GET", url+"/down", nil, nil)
		if err != nil || len(body) != 10<<20 {
			t.Errorf("%d bytes, %v", len(body), err)
		}
	})
	t.Run("response before the body is read", func(t *testing.T) { // F34
		_, body, err := do("POST", url+"/duplex", bytes.NewReader(tenMiB[:8<<20]), nil)
		if err != nil || len(body) != 4<<20+len("8388608") || !strings.HasSuffix(string(body), "8388608") {
			t.Errorf("%d bytes, %v", len(body), err)
		}
	})
	t.Run("head", func(t *testing.T) {
		res, body, err := do("HEAD", url+"/down", nil, nil)
		if err != nil || res.StatusCode != 200 || len(body) > 0 {
			t.Errorf("%v, %d bytes, %v", res, len(body), err)
		}
	})
	t.Run("404", func(t *testing.T) {
		res, body, err := do("GET", url+"/missing", nil, nil)
		if err != nil || res.StatusCode != 404 || string(body) != "not here" {
			t.Errorf("%v, %q, %v", res, body, err)
		}
	})
	t.Run("no such script", func(t *testing.T) {
		res, _, err := do("GET", strings.TrimSuffix(url, "/index.php")+"/nowhere.php", nil, nil)
		if err != nil || res.StatusCode != 404 {
			t.Errorf("%v, %v", res, err)
		}
	})
	t.Run("cookies", func(t *testing.T) {
		res, _, err := do("GET", url+"/cookies", nil, nil)
		if err != nil || strings.Join(res.Header["Set-Cookie"], ",") != "a=1,b=2" {
			t.Errorf("%v, %v", res.Header["Set-Cookie"], err)
		}
	})
	t.Run("exit half way", func(t *testing.T) {
		_, body, err := do("GET", url+"/exit", nil, nil)
		if err != nil || string(body) != "half" {
			t.Errorf("%q, %v", body, err)
		}
	})
	t.Run("stderr", func(t *testing.T) {
		_, body, err := do("GET", url+"/log", nil, nil)
		if err != nil || string(body) != "logged" {
			t.Errorf("%q, %v", body, err)
		}
		mu.Lock()
		defer mu.Unlock()
		all := strings.Join(logged, "\n")
		if !strings.Contains(all, "one") || strings.Contains(all, "\x1b") {
			t.Errorf("logged %q", all)
		}
	})
	t.Run("worker killed in mid-response", func(t *testing.T) {
		_, body, err := do("GET", url+"/die", nil, nil)
		if err == nil {
			t.Errorf("a response of %d bytes that broke off looked whole", len(body))
		}
	})
	t.Run("protocol error", func(t *testing.T) {
		r := gatewaytest.NewRequest("GET", "/index.php", nil)
		r.Role = 3 + 6 // php-fpm closes without a word
		var res gateway.Response
		err := c.RoundTrip(t.Context(), r, &res)
		if !errors.Is(err, gateway.ErrNoResponse) {
			t.Errorf("got %v", err)
		}
	})
}

func TestPHPChildrenExhausted(t *testing.T) {
	socket, root := startPHP(t, 1, "")
	c := &fastcgi.Client{Addr: "unix:" + socket, HeadTimeout: 200 * time.Millisecond}
	url := site(t, c, &gatewayhttp.Mapping{Root: root}) + "/index.php"
	var wg sync.WaitGroup
	statuses := make([]int, 3)
	for i := range statuses {
		wg.Go(func() {
			if res, _, err := do("GET", url+"/slow", nil, nil); err == nil {
				statuses[i] = res.StatusCode
			}
		})
	}
	wg.Wait()
	for _, status := range statuses {
		if status != http.StatusGatewayTimeout {
			t.Errorf("statuses %v, want 504 of each", statuses)
		}
	}
	// One at a time they wait for each other here, and not in php-fpm's queue.
	patient := &fastcgi.Client{Addr: "unix:" + socket, MaxConns: 1}
	url = site(t, patient, &gatewayhttp.Mapping{Root: root}) + "/index.php"
	for range 2 {
		wg.Go(func() {
			res, body, err := do("GET", url+"/slow", nil, nil)
			if err != nil || res.StatusCode != 200 || string(body) != "slow" {
				t.Errorf("%v, %q, %v", res, body, err)
			}
		})
	}
	wg.Wait()
}

func TestPHPRecycling(t *testing.T) {
	socket, root := startPHP(t, 2, "pm.max_requests = 5")
	c := &fastcgi.Client{Addr: "unix:" + socket, MaxIdleConns: 2}
	url := site(t, c, &gatewayhttp.Mapping{Root: root}) + "/index.php"
	for i := range 60 {
		res, _, err := do("GET", url+"/dump", nil, nil)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("request %d: %v, %v", i, res, err)
		}
	}
	if s := c.Stats(); s.Reused < 30 {
		t.Errorf("connections were not kept: %+v", s)
	}
}

const libfcgiProgram = `
#include <fcgi_stdio.h>
#include <stdlib.h>
#include <string.h>
extern char **environ;
int main(void) {
	while (FCGI_Accept() >= 0) {
		char *path = getenv("PATH_INFO"), *length = getenv("CONTENT_LENGTH");
		long n = length ? atol(length) : 0;
		if (path && !strcmp(path, "/missing")) {
			printf("Status: 404 Not Found\r\nContent-Type: text/plain\r\n\r\nnot here");
			continue;
		}
		printf("Content-Type: application/octet-stream\r\n\r\n");
		if (path && !strcmp(path, "/env")) {
			for (char **e = environ; *e; e++) printf("%s\n", *e);
			fprintf(stderr, "a word\n");
			FCGI_SetExitStatus(7);
			continue;
		}
		char *body = malloc(n + 1);
		size_t got = fread(body, 1, n, stdin);
		fwrite(body, 1, got, stdout);
		free(body);
	}
	return 0;
}
`

// TestValuesOfPHP asks php-fpm what it can do.
func TestValuesOfPHP(t *testing.T) {
	t.Run("php-fpm [410]", func(t *testing.T) {
		socket, _ := startPHP(t, 1, "")
		got, err := (&fastcgi.Client{Addr: "unix:" + socket}).Values(t.Context())
		if err != nil || got["FCGI_MPXS_CONNS"] != "0" {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("php-cgi, idle and busy [410]", func(t *testing.T) {
		dir := integration.Dir(t)
		integration.Write(t, dir, "sleep.php", "<?php touch('${DIR}/begun'); usleep(500000);")
		integration.Start(t, dir, dir+"/cgi.sock", integration.Need(t, "php-cgi", "php8.2-cgi"), "-b", dir+"/cgi.sock")
		c := &fastcgi.Client{Addr: "unix:" + dir + "/cgi.sock", Logger: quiet}
		if got, err := c.Values(t.Context()); err != nil || got["FCGI_MPXS_CONNS"] != "0" {
			t.Errorf("idle: %v, %v", got, err)
		}
		url := site(t, c, &gatewayhttp.Mapping{Root: dir})
		slept := make(chan int, 1)
		go func() {
			status, _ := fetch(t, url+"/sleep.php", nil)
			slept <- status
		}()
		for range 1000 {
			if _, err := os.Stat(dir + "/begun"); err == nil {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		if got, err := c.Values(t.Context()); err != nil || got["FCGI_MPXS_CONNS"] != "0" { // when it is free
			t.Errorf("busy: %v, %v", got, err)
		}
		if status := <-slept; status != 200 {
			t.Errorf("%d", status)
		}
	})
}

func TestLibfcgi(t *testing.T) {
	cc := integration.Need(t, "gcc", "gcc libc6-dev")
	spawn := integration.Need(t, "spawn-fcgi", "spawn-fcgi")
	integration.NeedFile(t, "/usr/include/fcgi_stdio.h", "libfcgi-dev")
	dir := integration.Dir(t)
	src := integration.Write(t, dir, "app.c", libfcgiProgram)
	if out, err := exec.Command(cc, "-o", dir+"/app", src, "-lfcgi").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, keep := range []int{0, 2} {
		sock := fmt.Sprintf("%s/app%d.sock", dir, keep)
		integration.Start(t, dir, sock, spawn, "-n", "-s", sock, "-M", "0666", "--", dir+"/app")
		testApplication(t, &fastcgi.Client{Addr: "unix:" + sock, MaxIdleConns: keep, Logger: quiet}, 7)
	}
}

const perlProgram = `#!/usr/bin/perl
use strict; use FCGI;
my ($in, $out, $err) = (\*STDIN, \*STDOUT, \*STDERR);
my %env;
my $r = FCGI::Request($in, $out, $err, \%env);
while ($r->Accept() >= 0) {
	my $path = $env{PATH_INFO} // '';
	if ($path eq '/missing') { print "Status: 404 Not Found\r\nContent-Type: text/plain\r\n\r\nnot here"; next }
	print "Content-Type: application/octet-stream\r\n\r\n";
	if ($path eq '/env') { print "$_=$env{$_}\n" for keys %env; print STDERR "a word\n"; next }
	my $n = $env{CONTENT_LENGTH} || 0; my $body = '';
	while ($n > 0) { my $got = read(STDIN, my $piece, $n > 65536 ? 65536 : $n); last unless $got; $body .= $piece; $n -= $got }
	print $body;
}
`

func TestPerl(t *testing.T) {
	perl := integration.Need(t, "perl", "perl")
	spawn := integration.Need(t, "spawn-fcgi", "spawn-fcgi")
	if exec.Command(perl, "-MFCGI", "-e", "1").Run() != nil {
		integration.NeedFile(t, "FCGI.pm", "libfcgi-perl")
	}
	dir := integration.Dir(t)
	script := integration.Write(t, dir, "app.pl", perlProgram)
	sock := dir + "/app.sock"
	integration.Start(t, dir, sock, spawn, "-n", "-s", sock, "-M", "0666", "--", perl, script)
	testApplication(t, &fastcgi.Client{Addr: "unix:" + sock, MaxIdleConns: 1, Logger: quiet}, 0)
}

// cgiScript reads the whole body before it responds: fcgiwrap writes the input of a script before
// it reads its output, and both stop when a script echoes more than two pipes hold.
const cgiScript = `#!/bin/sh
if [ "$PATH_INFO" = /missing ]; then printf 'Status: 404 Not Found\r\nContent-Type: text/plain\r\n\r\nnot here'; exit; fi
printf 'Content-Type: application/octet-stream\r\n\r\n'
if [ "$PATH_INFO" = /env ]; then env; echo 'a word' >&2; exit 3; fi
body=$(mktemp) && head -c "${CONTENT_LENGTH:-0}" >"$body" && cat "$body" && rm "$body"
`

func TestFcgiwrap(t *testing.T) {
	wrap := integration.Need(t, "fcgiwrap", "fcgiwrap")
	dir := integration.Dir(t)
	script := integration.Write(t, dir, "app.sh", cgiScript)
	sock := dir + "/wrap.sock"
	integration.Start(t, dir, sock, wrap, "-f", "-s", "unix:"+sock)
	testApplication(t, &fastcgi.Client{
		Addr: "unix:" + sock, MaxIdleConns: 1, Logger: quiet, Env: []string{"SCRIPT_FILENAME=" + script},
	}, 0)
}

// testApplication asks an application that responds /env, /missing and anything else with an echo.
func testApplication(t *testing.T, c *fastcgi.Client, appStatus uint32) {
	defer c.Close()
	ask := func(r *gateway.Request) (*gateway.Response, []byte) {
		t.Helper()
		res := new(gateway.Response)
		if err := c.RoundTrip(t.Context(), r, res); err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, body
	}
	for _, body := range [][]byte{nil, []byte("hello"), tenMiB[:70000], tenMiB} {
		if res, got := ask(gatewaytest.NewRequest("POST", "/echo", body)); res.Status != 200 || !bytes.Equal(got, body) {
			t.Errorf("echo of %d bytes: status %d, %d bytes", len(body), res.Status, len(got))
		}
	}
	if res, got := ask(gatewaytest.NewRequest("GET", "/missing", nil)); res.Status != 404 || string(got) != "not here" {
		t.Errorf("status %d, %q", res.Status, got)
	}
	r := gatewaytest.NewRequest("GET", "/env?q", nil)
	var errs bytes.Buffer
	r.Stderr = &errs
	for i := range 900 {
		r.Params.Add(fmt.Sprintf("HTTP_X_%d", i), strings.Repeat("v", 90))
	}
	res, got := ask(r)
	for _, want := range []string{"QUERY_STRING=q\n", "PATH_INFO=/env\n", "HTTP_X_899=" + strings.Repeat("v", 90) + "\n", "CONTENT_LENGTH=0\n"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %q", want)
		}
	}
	if !strings.Contains(errs.String(), "a word") || res.AppStatus != appStatus {
		t.Errorf("STDERR %q, appStatus %d", errs.String(), res.AppStatus)
	}
}
