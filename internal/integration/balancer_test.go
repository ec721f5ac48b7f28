//go:build unix

package integration_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/internal/integration"
)

// startFPM starts the n-th php-fpm of a folder. A script finds the number in the variable NODE.
func startFPM(t *testing.T, dir string, n int, listen string) {
	t.Helper()
	integration.StartFPM(t, dir, fmt.Sprint("fpm", n), listen, fmt.Sprintf(`pm = static
pm.max_children = 8
env[NODE] = %d
php_admin_value[error_log] =
`, n))
}

// killFPM ends it with all its children.
func killFPM(t *testing.T, dir string, n int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("%s/fpm%d.pid", dir, n))
	pid, bad := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || bad != nil {
		t.Fatal(err, bad)
	}
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}

// TestBalancer sends 10,000 requests, 64 at a time, over three php-fpm, of which one is killed and
// started again each second.
func TestBalancer(t *testing.T) {
	t.Run("no GET fails, and no POST runs twice [407]", func(t *testing.T) {
		dir := integration.Dir(t)
		integration.Write(t, dir, "load.php", loadPHP)
		balancer := &gateway.Balancer{FailTimeout: 200 * time.Millisecond}
		sockets := [...]string{dir + "/0.sock", dir + "/1.sock", dir + "/2.sock"}
		for i := range 3 {
			startFPM(t, dir, i, sockets[i])
			balancer.Targets = append(balancer.Targets, gateway.Target{
				Name:    fmt.Sprint("php-fpm ", i),
				Backend: &fastcgi.Client{Addr: "unix:" + sockets[i], MaxConns: 8, MaxIdleConns: 4, Logger: quiet},
			})
		}
		web := httptest.NewServer(&gatewayhttp.Proxy{Backend: balancer, Logger: quiet, Mapping: &gatewayhttp.Mapping{Root: dir}})
		t.Cleanup(web.Close)
		c := &balanced{url: web.URL, client: &http.Client{Timeout: conformance.Limit, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
		over := make(chan struct{})
		go func() {
			defer close(over)
			c.sendAll(t, 64, 10_000/64)
		}()
		killed := 0
		for more := true; more; killed++ {
			killFPM(t, dir, killed%3)
			startFPM(t, dir, killed%3, sockets[killed%3])
			select {
			case <-over:
				more = false
			case <-time.After(time.Second):
			}
		}
		c.compare(t, dir)
		t.Logf("%d requests, %d times killed, %d POSTs without a response; %+v", 64*(10_000/64), killed, c.posts.Load(), balancer.Stats())
		if c.gets.Load() > 0 || killed < 2 || c.posts.Load() > int64(64*killed) { // those that were in flight
			t.Errorf("%d GETs failed, %d POSTs; killed %d times", c.gets.Load(), c.posts.Load(), killed)
		}
	})
}

// A balanced sends requests and notes how they ended.
type balanced struct {
	url         string
	client      *http.Client
	gets, posts atomic.Int64 // without a response
	ok          sync.Map     // the ids of those with one
}

func (c *balanced) sendAll(t *testing.T, clients, each int) {
	var sending sync.WaitGroup
	for i := range clients {
		sending.Go(func() {
			for j := range each {
				c.send(t, []string{"GET", "POST"}[j%2], fmt.Sprintf("%d-%d", i, j))
			}
		})
	}
	sending.Wait()
}

func (c *balanced) send(t *testing.T, method, id string) {
	id = method + "-" + id
	r, err := http.NewRequestWithContext(t.Context(), method, c.url+"/load.php?n=0&id="+id, nil)
	if err != nil {
		t.Error(err)
		return
	}
	b, status, err := fetchWhole(c.client, r)
	switch {
	case err == nil && status == 200 && strings.HasPrefix(string(b), id+" "):
		c.ok.Store(id, true)
	case err == nil && status == 200:
		t.Errorf("%s received %q", id, b)
	case method == "GET":
		t.Logf("%s: %d %q, %v", id, status, b, err)
		c.gets.Add(1)
	default:
		c.posts.Add(1)
	}
}

// compare compares what the application noted with what the clients know.
func (c *balanced) compare(t *testing.T, dir string) {
	t.Helper()
	runs := runsIn(t, dir)
	for id, n := range runs {
		if n > 1 && strings.HasPrefix(id, "POST") {
			t.Errorf("%s ran %d times", id, n)
		}
	}
	c.ok.Range(func(id, _ any) bool {
		if runs[id.(string)] == 0 {
			t.Errorf("%s has a response and did not run", id)
		}
		return true
	})
}
