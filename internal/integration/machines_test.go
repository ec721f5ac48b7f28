//go:build unix

package integration_test

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/internal/docs"
	"github.com/gatehouse-go/gatehouse/internal/integration"
)

// The tests here run the programs of README's "More than one machine". Addresses of loopback take
// the place of the machines'.

// startNode starts a program that listens on addr, and returns the function that asks it to stop.
func startNode(t *testing.T, dir, addr, path string) (stop func()) {
	t.Helper()
	file := dir + "/pid" + addr
	integration.Start(t, dir, addr, "/bin/sh", "-c", `echo $$ >"$1"; exec "$0"`, path, file)
	b, err := os.ReadFile(file)
	pid, bad := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || bad != nil {
		t.Fatal(err, bad)
	}
	return func() {
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Error(err)
		}
	}
}

// TestReadmeBalancer changes the list of machines while requests are sent, and stops one.
func TestReadmeBalancer(t *testing.T) {
	dir := integration.Dir(t)
	integration.Write(t, dir, "node.php", "<?php echo getenv('NODE');")
	var nodes []string
	for n := range 3 {
		nodes = append(nodes, fmt.Sprintf("%s:%d", integration.Host(t, n+1), integration.Port(t)))
		startFPM(t, dir, n, nodes[n])
	}
	list := func(nodes ...string) { integration.Write(t, dir, "list", strings.Join(nodes, "\n")) }
	list(nodes[0], nodes[1])
	web := loopback(integration.Port(t))
	integration.Start(t, dir, web, program(t, dir, 5, "/srv/www", dir, "/etc/site/php", dir+"/list", "127.0.0.1:8080", web))
	// responders asks until these nodes, and no others, have responded to ten requests in a row.
	responders := func(want string) {
		t.Helper()
		for end := time.Now().Add(conformance.Limit); ; {
			seen := make(map[string]bool)
			for range 10 {
				status, body := fetch(t, "http://"+web+"/node.php", nil)
				if seen[body] = true; status != 200 {
					t.Fatalf("%d %q", status, body)
				}
			}
			var got strings.Builder
			for n := range nodes {
				if seen[fmt.Sprint(n)] {
					fmt.Fprint(&got, n)
				}
			}
			if got.String() == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the nodes that respond are %s, want %s", &got, want)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	responders("01")
	list(nodes[1], nodes[2])
	responders("12")
	killFPM(t, dir, 1)
	responders("2")
}

// TestReadmeUpstream stops one of two programs behind nginx.
func TestReadmeUpstream(t *testing.T) {
	dir := integration.Dir(t)
	web := integration.Port(t)
	var nodes []string
	var stops []func()
	for n := range 2 {
		nodes = append(nodes, fmt.Sprintf("%s:%d", integration.Host(t, n+1), integration.Port(t)))
		stops = append(stops, startNode(t, dir, nodes[n], program(t, dir, 0, "127.0.0.1:9000", nodes[n])))
	}
	startNginx(t, dir, loopback(web), docs.Swap(t, docs.Snippet(t, readme, "nginx", 1), "10.0.0.1:9000", nodes[0], "10.0.0.2:9000", nodes[1], "include fastcgi_params", "include /etc/nginx/fastcgi_params",
		"server {", fmt.Sprintf("server { listen 127.0.0.1:%d;", web)))
	for i := range 300 {
		if i == 100 {
			stops[0]()
		}
		if status, body := fetch(t, "http://"+loopback(web)+"/", nil); status != 200 || !strings.HasPrefix(body, "hello") {
			t.Errorf("request %d: %d %q", i, status, body)
		}
	}
}

// TestReadmeNode has two programs join uWSGI's router with signed packets, and leave it.
func TestReadmeNode(t *testing.T) {
	uwsgi := integration.Need(t, "uwsgi-core", "uwsgi-core")
	dir := integration.Dir(t)
	key := keys(t, dir, "www.example.com")
	router, subscriptions := loopback(integration.Port(t)), loopback(integration.Port(t))
	startRouter(t, dir, uwsgi, router, subscriptions)
	var nodes []string
	var stops []func()
	for n := range 2 {
		nodes = append(nodes, fmt.Sprintf("%s:%d", integration.Host(t, n+1), integration.Port(t)))
		path := program(t, dir, 6, "10.0.0.2:3031", nodes[n], "10.0.0.1:4040", subscriptions, "/etc/site/key.pem", key)
		stops = append(stops, startNode(t, dir, nodes[n], path))
	}
	from := func(n int) func(o *conformance.Outcome) bool {
		return func(o *conformance.Outcome) bool { return o.Err == nil && o.Body == "hello from "+nodes[n]+"\n" }
	}
	routed(t, router, "www.example.com", from(0))
	routed(t, router, "www.example.com", from(1))
	stops[0]()
	for range 20 { // until none but the other responds
		routed(t, router, "www.example.com", from(1))
	}
	stops[1]()
	routed(t, router, "www.example.com", func(o *conformance.Outcome) bool { return o.Err != nil && gateway.ErrorStatus(o.Err) == 502 })
}

// TestRouter has uWSGI subscribe to our router program with signed packets, and one that signs with
// another key.
func TestRouter(t *testing.T) {
	uwsgi := integration.Need(t, "uwsgi-core", "uwsgi-core")
	integration.NeedFile(t, "/usr/lib/uwsgi/plugins/python3_plugin.so", "uwsgi-plugin-python3")
	t.Run("only signed nodes receive requests [418]", func(t *testing.T) {
		dir := integration.Dir(t)
		source, err := os.ReadFile("testdata/router/main.go")
		if err != nil {
			t.Fatal(err)
		}
		key, forged := keys(t, dir, "www.example.com"), keys(t, dir, "forged")
		web, subscriptions := loopback(integration.Port(t)), loopback(integration.Port(t))
		integration.Start(t, dir, web, docs.Build(t, readme, dir, string(source)), web, subscriptions, dir+"/keys/www.example.com.pem")
		integration.Write(t, dir, "node.py", "def application(env, start):\n    start('200 OK', [('Content-Type', 'text/plain')])\n    return [env['HTTP_HOST'].encode()]\n")
		node := func(host, key string) {
			addr := loopback(integration.Port(t))
			integration.Start(t, dir, addr, uwsgi, "--plugins", "python3", "--uwsgi-socket", addr, "--need-app", "--disable-logging", "--master", "--die-on-term", "--pythonpath", dir, "--module", "node",
				"--subscribe-freq", "1", "--subscribe2", "server="+subscriptions+",key="+host+",sign=SHA1:"+key)
		}
		asked := func(host string) (int, string) {
			r, err := http.NewRequest("GET", "http://"+web+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = host
			b, status, err := fetchWhole(http.DefaultClient, r)
			if err != nil {
				t.Fatal(err)
			}
			return status, string(b)
		}
		node("forged.example.com", forged)
		node("www.example.com", key)
		for end := time.Now().Add(conformance.Limit); ; time.Sleep(50 * time.Millisecond) {
			status, body := asked("www.example.com")
			if status == 200 && body == "www.example.com" {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%d %q", status, body)
			}
		}
		if status, _ := asked("forged.example.com"); status != http.StatusMisdirectedRequest {
			t.Errorf("a node that signs with another key: %d", status)
		}
	})
}
