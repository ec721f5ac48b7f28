//go:build unix

package integration_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

var load = flag.Duration("load", 0, "how long TestLoad loads each peer; it then writes LOAD.md (0: 5 s, and it writes nothing)")

// loadPHP notes each run under its id, waits until a kill may come, and responds with the id, the
// sum of the body, and as many bytes as were asked for. The status 555 means that a body was short.
const loadPHP = `<?php
parse_str($_SERVER['QUERY_STRING'], $q);
$b = file_get_contents('php://input');
if (strlen($b) != (int)($_SERVER['CONTENT_LENGTH'] ?: 0)) { http_response_code(555); exit; }
file_put_contents('${DIR}/runs', $q['id'] . "\n", FILE_APPEND);
if ($_SERVER['REQUEST_METHOD'] == 'POST') usleep(10000);
$head = $q['id'] . ' ' . strlen($b) . ' ' . crc32($b) . "\n";
header('Content-Length: ' . (strlen($head) + $q['n']));
echo $head;
for ($n = $q['n']; $n > 0; $n -= 10000) { echo str_repeat('x', min($n, 10000)); flush(); }
`

// loadWSGI is the same for WSGI.
const loadWSGI = `
import os, time, zlib
from urllib.parse import parse_qs
runs = os.open('${DIR}/runs', os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
def application(env, start):
    q = parse_qs(env['QUERY_STRING'])
    length = int(env.get('CONTENT_LENGTH') or 0)
    b = b''
    while len(b) < length:
        piece = env['wsgi.input'].read(length - len(b))
        if not piece: break
        b += piece
    if len(b) != length:
        start('555 Short Body', [])
        return []
    os.write(runs, (q['id'][0] + '\n').encode())
    if env['REQUEST_METHOD'] == 'POST': time.sleep(0.01)
    n = int(q['n'][0])
    head = ('%s %d %d\n' % (q['id'][0], len(b), zlib.crc32(b))).encode()
    start('200 OK', [('Content-Length', str(len(head) + n))])
    return [head] + [b'x' * min(10000, n - i) for i in range(0, n, 10000)]
`

// A loaded peer is one that is loaded and harmed.
type loaded struct {
	path    string // of the script, for Mapping
	client  gateway.RoundTripper
	dir     string         // has the file of the runs, and the one of the master's process id
	pidFile string         // in dir
	reload  syscall.Signal // tells the master to reload
}

// A tally counts how the requests of a load ended.
type tally struct {
	sent, ok, failed, cut, canceled          atomic.Int64
	lost, crossed, duplicated, hung, untyped atomic.Int64
	kills, reloads                           int
	mu                                       sync.Mutex
	posts                                    map[string]bool // ids of POSTs
	seen                                     map[string]bool // ids with a whole response
}

const loadTitle = "| peer | sent | ok | 5xx | cut | canceled | lost in silence | crossed | duplicated | hung | untyped | children killed | reloads |\n" +
	"|---|---|---|---|---|---|---|---|---|---|---|---|---|\n"

func (c *tally) row(name string) string {
	return fmt.Sprintf("| %s | %d | %d | %d | %d | %d | %d | %d | %d | %d | %d | %d | %d |\n", name,
		c.sent.Load(), c.ok.Load(), c.failed.Load(), c.cut.Load(), c.canceled.Load(),
		c.lost.Load(), c.crossed.Load(), c.duplicated.Load(), c.hung.Load(), c.untyped.Load(), c.kills, c.reloads)
}

// TestLoad sends 64 requests at a time through a Proxy to php-fpm and to uWSGI, while their
// children are killed every 300 ms, their masters reload every 2 s, and every eighth client leaves.
// Each request has a whole response of its own, or an error that is typed; no POST runs twice.
func TestLoad(t *testing.T) {
	var rows strings.Builder
	for _, name := range []string{"php-fpm", "uWSGI, uwsgi", "uWSGI, scgi", "uWSGI, fastcgi"} {
		start := loadedPHP
		if _, protocol, found := strings.Cut(name, ", "); found {
			start = loadedUWSGI(protocol)
		}
		t.Run(name, func(t *testing.T) {
			p := start(t)
			c := p.run(t)
			t.Log("\n" + loadTitle + c.row(name))
			rows.WriteString(c.row(name))
			if c.lost.Load()+c.crossed.Load()+c.duplicated.Load()+c.hung.Load()+c.untyped.Load() > 0 {
				t.Error("requests were lost in silence, crossed, run twice or hung, or an error was not typed")
			}
			// Each kill ends one request, and a reload of php-fpm those of its eight children.
			most := int64(c.kills + 64)
			if name == "php-fpm" {
				most += int64(8 * c.reloads)
			}
			if c.failed.Load()+c.cut.Load() > most {
				t.Errorf("%d requests failed, of which at most %d can have lost their child", c.failed.Load()+c.cut.Load(), most)
			}
			if c.sent.Load() != c.ok.Load()+c.failed.Load()+c.cut.Load()+c.canceled.Load() || c.ok.Load() == 0 || c.kills == 0 || c.reloads == 0 {
				t.Error("the sum is wrong, or the load was none")
			}
		})
	}
	if *load > 0 && !t.Failed() && strings.Count(rows.String(), "\n") == 4 {
		b, err := os.ReadFile("LOAD.md")
		if err != nil {
			t.Fatal(err)
		}
		head, _, _ := strings.Cut(string(b), mark)
		if err := os.WriteFile("LOAD.md", []byte(head+mark+"\n"+loadTitle+rows.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func loadedPHP(t *testing.T) loaded {
	socket, root := startPHP(t, 8, "")
	integration.Write(t, root, "load.php", loadPHP)
	return loaded{"/load.php", &fastcgi.Client{Addr: "unix:" + socket, MaxConns: 8, MaxIdleConns: 4, Logger: quiet}, root, "fpm.pid", syscall.SIGUSR2}
}

func loadedUWSGI(protocol string) func(t *testing.T) loaded {
	return func(t *testing.T) loaded {
		dir := integration.Dir(t)
		integration.Write(t, dir, "load.py", loadWSGI)
		startUWSGI(t, dir, "load", "--pidfile", dir+"/uwsgi.pid", "--processes", "8")
		var c gateway.RoundTripper
		switch protocol {
		case "uwsgi":
			c = &uwsgi.Client{Addr: "unix:" + dir + "/u.sock", MaxConns: 16}
		case "scgi":
			c = &scgi.Client{Addr: "unix:" + dir + "/s.sock", MaxConns: 16}
		case "fastcgi":
			c = &fastcgi.Client{Addr: "unix:" + dir + "/f.sock", MaxConns: 16, Logger: quiet}
		}
		return loaded{"/", c, dir, "uwsgi.pid", syscall.SIGHUP}
	}
}

// run loads and harms the peer, and counts.
func (p loaded) run(t *testing.T) *tally {
	c := &tally{posts: make(map[string]bool), seen: make(map[string]bool)}
	get := p.serve(t, c)
	d := *load
	if d == 0 {
		d = 5 * time.Second
	}
	end := time.Now().Add(d)
	var clients sync.WaitGroup
	for range 64 {
		clients.Go(func() {
			for time.Now().Before(end) {
				c.send(t.Context(), get, p.path)
			}
		})
	}
	p.harm(t, c, end)
	clients.Wait()
	c.countRuns(t, p.dir)
	return c
}

// serve puts a Proxy before the peer. It returns a client of it, which opens a connection for each
// request, so that it sends nothing again.
func (p loaded) serve(t *testing.T, c *tally) *http.Client {
	typed := func(err error) {
		if _, ok := errors.AsType[*gateway.Error](err); !ok {
			t.Logf("%T: %v", err, err)
			c.untyped.Add(1)
		}
	}
	web := httptest.NewUnstartedServer(&gatewayhttp.Proxy{
		Backend: p.client, Logger: quiet, Mapping: &gatewayhttp.Mapping{Root: p.root()},
		ModifyResponse: func(res *gateway.Response) error {
			res.Body = &typedBody{res.Body, typed}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			typed(err)
			w.WriteHeader(gateway.ErrorStatus(err))
		},
	})
	l, err := net.Listen("unix", filepath.Join(integration.Dir(t), "web.sock"))
	if err != nil {
		t.Fatal(err)
	}
	web.Listener.Close()
	web.Listener, web.Config.ErrorLog = l, slog.NewLogLogger(slog.DiscardHandler, 0)
	web.Start()
	t.Cleanup(web.Close)
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", l.Addr().String())
		},
	}}
}

// root is the folder of the script, if the peer runs scripts.
func (p loaded) root() string {
	if p.path == "/" {
		return ""
	}
	return p.dir
}

// typedBody looks at the errors of a response's body.
type typedBody struct {
	io.ReadCloser
	typed func(error)
}

func (b *typedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.typed(err)
	}
	return n, err
}

// harm kills a child of the peer every 300 ms, and lets the peer reload every 2 s.
func (p loaded) harm(t *testing.T, c *tally, end time.Time) {
	t.Helper()
	for i := 1; time.Now().Before(end); i++ {
		time.Sleep(300 * time.Millisecond)
		b, err := os.ReadFile(filepath.Join(p.dir, p.pidFile))
		master, bad := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil || bad != nil {
			continue // it is reloading
		}
		if i%7 == 0 {
			if syscall.Kill(master, p.reload) == nil {
				c.reloads++
			}
			continue
		}
		if all := children(t, master); len(all) > 0 && syscall.Kill(all[rand.IntN(len(all))], syscall.SIGKILL) == nil {
			c.kills++
		}
	}
}

// children returns the process ids of a process' children.
func children(t *testing.T, parent int) (all []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		t.Skip("no /proc to find the children in")
	}
	for _, name := range stats {
		b, _ := os.ReadFile(name) // or the process has ended
		_, after, _ := bytes.Cut(b, []byte(") "))
		if f := strings.Fields(string(after)); len(f) > 1 && f[1] == strconv.Itoa(parent) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, pid)
		}
	}
	return all
}

// send sends a request and counts how it ended.
func (c *tally) send(ctx context.Context, client *http.Client, path string) {
	id := fmt.Sprintf("r%d", c.sent.Add(1))
	ctx, cancel := context.WithTimeout(ctx, conformance.Limit)
	defer cancel()
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	left := errors.New("the client has left")
	if rand.IntN(8) == 0 {
		time.AfterFunc(time.Duration(rand.IntN(20))*time.Millisecond, func() { leave(left) })
	}
	method, n := "GET", rand.IntN(2)*rand.IntN(200_000)
	var body []byte
	if rand.IntN(2) == 0 {
		// Half of them have no body, which is what a client could send again.
		method, body = "POST", bytes.Repeat([]byte{byte(rand.IntN(256))}, rand.IntN(2)*rand.IntN(100_000))
		c.mu.Lock()
		c.posts[id] = true
		c.mu.Unlock()
	}
	r, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://load%s?id=%s&n=%d", path, id, n), bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	want := fmt.Sprintf("%s %d %d\n%s", id, len(body), crc32.ChecksumIEEE(body), strings.Repeat("x", n))
	begun := time.Now()
	b, status, err := fetchWhole(client, r)
	switch {
	case err != nil && status == 200 && !strings.HasPrefix(want, string(b)):
		c.crossed.Add(1)
	case err != nil && time.Since(begun) < conformance.Limit/2 && context.Cause(ctx) == left:
		c.canceled.Add(1)
	case err != nil && (ctx.Err() != nil || time.Since(begun) >= conformance.Limit/2):
		c.hung.Add(1)
	case err != nil:
		c.cut.Add(1)
	case time.Since(begun) >= conformance.Limit/2:
		c.hung.Add(1)
	case status == 555:
		c.lost.Add(1)
	case status >= 500:
		c.failed.Add(1)
	default:
		c.ok.Add(1)
		c.check(id, b, want)
	}
}

// fetchWhole returns the body of a response and its status.
func fetchWhole(client *http.Client, r *http.Request) ([]byte, int, error) {
	res, err := client.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return b, res.StatusCode, err
}

// check compares a response that is whole with what it should be.
func (c *tally) check(id string, b []byte, want string) {
	c.mu.Lock()
	c.seen[id] = true
	c.mu.Unlock()
	if string(b) == want {
		return
	}
	if other, _, found := strings.Cut(string(b), " "); found && other != id {
		c.crossed.Add(1)
		return
	}
	c.lost.Add(1)
}

// runsIn reads the application's notes: how often each id ran.
func runsIn(t *testing.T, dir string) map[string]int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "runs"))
	if err != nil {
		t.Fatal(err)
	}
	runs := make(map[string]int)
	for id := range strings.FieldsSeq(string(b)) {
		runs[id]++
	}
	return runs
}

// countRuns compares the application's notes with what the clients know.
func (c *tally) countRuns(t *testing.T, dir string) {
	t.Helper()
	runs := runsIn(t, dir)
	for id := range c.posts {
		if runs[id] > 1 {
			c.duplicated.Add(1)
		}
	}
	for id := range c.seen {
		if runs[id] == 0 {
			c.lost.Add(1)
		}
	}
}
