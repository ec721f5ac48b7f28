package integration_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/internal/docs"
	"github.com/gatehouse-go/gatehouse/internal/integration"
)

// program builds the n-th program of the README, with some of its words changed for others.
func program(t *testing.T, dir string, n int, replace ...string) string {
	t.Helper()
	snippets, err := docs.Snippets("../../README.md", "go")
	if err != nil || len(snippets) <= n {
		t.Fatalf("%d snippets, %v", len(snippets), err)
	}
	text := swap(t, snippets[n], replace...)
	src := integration.Write(t, dir, fmt.Sprintf("readme%d.go", n), text)
	path := filepath.Join(dir, fmt.Sprintf("readme%d", n))
	cmd := exec.Command("go", "build", "-o", path, src)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// swap replaces words that must be there.
func swap(t *testing.T, text string, replace ...string) string {
	t.Helper()
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			t.Fatalf("no %q in\n%s", replace[i], text)
		}
		text = strings.ReplaceAll(text, replace[i], replace[i+1])
	}
	return text
}

// TestReadmeHandler runs the README's handler behind nginx, configured as the README says.
func TestReadmeHandler(t *testing.T) {
	nginx := integration.Need(t, "nginx", "nginx-light")
	dir := integration.Dir(t)
	app, web := loopback(integration.Port(t)), integration.Port(t)
	integration.Start(t, dir, app, program(t, dir, 0, "127.0.0.1:9000", app))
	blocks, err := docs.Snippets("../../README.md", "nginx")
	if err != nil || len(blocks) != 1 {
		t.Fatalf("%d blocks, %v", len(blocks), err)
	}
	location := swap(t, blocks[0], "127.0.0.1:9000", app, "include fastcgi_params", "include /etc/nginx/fastcgi_params")
	conf := integration.Write(t, dir, "nginx.conf", fmt.Sprintf(`
daemon off;
pid ${DIR}/nginx.pid;
error_log ${DIR}/error.log;
events { }
http {
	access_log off;
	client_body_temp_path ${DIR}/t1;
	fastcgi_temp_path ${DIR}/t2;
	proxy_temp_path ${DIR}/t3;
	uwsgi_temp_path ${DIR}/t4;
	scgi_temp_path ${DIR}/t5;
	server {
		listen 127.0.0.1:%d;
%s
	}
}`, web, location))
	integration.Start(t, dir, loopback(web), nginx, "-c", conf, "-e", dir+"/error.log")
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
