package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

// lines is an output whose first line can be waited for.
type lines struct {
	mu    sync.Mutex
	b     bytes.Buffer
	first chan string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	had := strings.Contains(l.b.String(), "\n")
	l.b.Write(p)
	if line, _, found := strings.Cut(l.b.String(), "\n"); found && !had {
		l.first <- line
	}
	return len(p), nil
}

// proxy runs "gatehouse proxy" until the test ends and returns its URL.
func proxy(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out := &lines{first: make(chan string, 1)}
	var errs bytes.Buffer
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, append([]string{"proxy", "--listen", "http://127.0.0.1:0"}, args...), nil, out, &errs)
	}()
	t.Cleanup(func() {
		cancel()
		if status := <-done; status != exitOK {
			t.Errorf("exit status %d: %s", status, &errs)
		}
	})
	select {
	case line := <-out.first:
		return strings.TrimPrefix(line, "listening on ")
	case status := <-done:
		done <- status
		t.Fatalf("exit status %d: %s", status, &errs)
	case <-time.After(30 * time.Second):
		t.Fatal("it does not start")
	}
	return ""
}

func ask(t *testing.T, method, url string, body io.Reader) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

// TestMain is also the CGI script of the demo.
func TestMain(m *testing.M) {
	if os.Getenv(isDemo) != "" {
		os.Exit(runScript())
	}
	os.Exit(m.Run())
}

// TestDemo is the main job on a machine with nothing but Go.
func TestDemo(t *testing.T) {
	root := proxy(t)
	for protocol, path := range map[string]string{"fastcgi": "", "FastCGI below its path": "/fastcgi", "scgi": "/scgi", "uwsgi": "/uwsgi", "cgi": "/cgi"} {
		t.Run(protocol, func(t *testing.T) { testDemo(t, root+path, path) })
	}
}

func testDemo(t *testing.T, url, path string) {
	res, page := ask(t, "GET", url+"/?q=1", nil)
	if res.StatusCode != 200 || !strings.Contains(page, "QUERY_STRING</th><td>q=1</td>") || !strings.Contains(page, "SCRIPT_NAME</th><td>"+path+"</td>") || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
		t.Errorf("%d %s", res.StatusCode, page)
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 10<<20/16)
	if _, got := ask(t, "POST", url+"/echo", bytes.NewReader(big)); sha256.Sum256([]byte(got)) != sha256.Sum256(big) {
		t.Errorf("an echo of %d bytes", len(got))
	}
	form := "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\ncontent\r\n--x--\r\n"
	req, _ := http.NewRequest("POST", url+"/upload", strings.NewReader(form))
	req.Header.Set("Content-Type", "multipart/form-data; boundary=x")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if want := fmt.Sprintf("f: 7 bytes, SHA-256 %x\n", sha256.Sum256([]byte("content"))); string(b) != want {
		t.Errorf("%q", b)
	}
	res, err = http.Get(url + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if n, _ := res.Body.Read(buf); string(buf[:n]) != "piece 1 of 5\n" {
		t.Errorf("the first piece is %q", buf[:n])
	}
	if rest, err := io.ReadAll(res.Body); err != nil || !strings.HasSuffix(string(rest), "piece 5 of 5\n") {
		t.Errorf("%q, %v", rest, err)
	}
	res.Body.Close()
	for path, status := range map[string]int{"/missing": 404, "/error": 500} {
		if res, _ := ask(t, "GET", url+path, nil); res.StatusCode != status {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "gatehouse-body-*")); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// TestAnyToAny puts one protocol before another, with HTTP at one end and an application at the
// other.
func TestAnyToAny(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n%s %s ' \"$REQUEST_METHOD\" \"$PATH_INFO\"; cat\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, front := range []string{"fastcgi", "scgi", "uwsgi"} {
		back := proxy(t, "--listen", front+"://127.0.0.1:0", "--to", "cgi:"+script)
		url := proxy(t, "--to", back)
		if res, got := ask(t, "POST", url+"/x%20y?q", io.MultiReader(strings.NewReader("body"))); res.StatusCode != 200 || got != "POST /x y body" {
			t.Errorf("%s: %d %q", front, res.StatusCode, got)
		}
		var out bytes.Buffer
		if status := run(t.Context(), []string{"request", back, "/asked", "-d", "d"}, nil, &out, &out); status != exitOK || out.String() != "POST /asked d" {
			t.Errorf("%s: %d %q", front, status, &out)
		}
		if front != "uwsgi" {
			continue
		}
		out.Reset()
		if status := run(t.Context(), []string{"ping", back}, nil, &out, &out); status != exitOK || out.String() != "alive\n" {
			t.Errorf("%d %q", status, &out)
		}
	}
	folder := proxy(t, "--to", "cgi:"+filepath.Dir(script))
	for path, want := range map[string]int{"/script/x": 200, "/nowhere": 404} {
		if res, _ := ask(t, "GET", folder+path, nil); res.StatusCode != want {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
}

// mirror responds with some params and the body of the request.
var mirror = gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	switch r.Params.Get("PATH_INFO") {
	case "/404":
		w.WriteHeader(404)
	case "/cut":
		io.WriteString(w, "part")
		w.Flush()
		return gateway.ErrTruncated
	}
	io.WriteString(w.Stderr(), "a word\n")
	fmt.Fprintf(w, "%s %s %s %s %s", r.Method(), r.URI(), r.ScriptFilename(), r.Params.Get("EXTRA"), body)
	return nil
})

func TestProxyTo(t *testing.T) {
	addr := gatewaytest.Start(t, &fastcgi.Server{Handler: mirror})
	root := t.TempDir()
	outside := filepath.Join(t.TempDir(), "secret.php")
	for _, file := range []string{filepath.Join(root, "x.php"), outside} {
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(root, "link.php")); err != nil {
		t.Skip(err)
	}
	url := proxy(t, "--to", "fastcgi://"+addr, "--root", root, "--env", "EXTRA=e")
	if res, got := ask(t, "GET", url+"/x.php/i?q", nil); res.StatusCode != 200 || got != "GET /x.php/i?q "+root+"/x.php e " {
		t.Errorf("%d %q", res.StatusCode, got)
	}
	for _, path := range []string{"/y.php", "/x.txt", "/link.php"} {
		if res, _ := ask(t, "GET", url+path, nil); res.StatusCode != 404 {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	followed := proxy(t, "--to", "fastcgi://"+addr, "--root", root, "--follow-links")
	if res, _ := ask(t, "GET", followed+"/link.php", nil); res.StatusCode != 200 {
		t.Errorf("%d", res.StatusCode)
	}
	elsewhere := proxy(t, "--to", "fastcgi://"+addr, "--root", "/container", "--files", "none")
	if res, got := ask(t, "GET", elsewhere+"/y.php", nil); res.StatusCode != 200 || !strings.Contains(got, "/container/y.php") {
		t.Errorf("%d %q", res.StatusCode, got)
	}
}

// refusing is an application that ends every request with END_REQUEST alone.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fastcgi.NewReader(c).ReadRequest(new(gateway.Request))
			b, _ := fastcgi.AppendEnd(nil, 1, fastcgi.End{Status: fastcgi.StatusOverloaded})
			c.Write(b)
			c.Close()
		}
	}()
	return l.Addr().String()
}

func TestRequest(t *testing.T) {
	addr := "fastcgi://" + gatewaytest.Start(t, &fastcgi.Server{Handler: mirror})
	file := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(file, []byte("of a file"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args           []string
		status         int
		stdout, stderr string
	}{
		{[]string{addr, "/x?q=1"}, exitOK, "GET /x?q=1   ", "stderr: a word\n"},
		{[]string{addr, "/x", "-d", "a=1"}, exitOK, "POST /x   a=1", ""},
		{[]string{"-d", "@" + file, addr, "-X", "PUT", "/x", "--param", "EXTRA=e"}, exitOK, "PUT /x  e of a file", ""},
		{[]string{addr, "/x", "-d", "@-"}, exitOK, "POST /x   of standard input", ""},
		{[]string{addr, "/x.php", "--root", "/r", "-H", "X-A: b"}, exitOK, "GET /x.php /r/x.php  ", ""},
		{[]string{addr, "/x", "-v"}, exitOK, "GET /x   ", "> BEGIN_REQUEST id 1, 8 bytes: Responder, keep false\n"},
		{[]string{addr, "/x", "-v"}, exitOK, "", "< END_REQUEST id 1, 8 bytes: REQUEST_COMPLETE, appStatus 0\n"},
		{[]string{addr, "/x", "-i"}, exitOK, "HTTP/1.1 200 OK\r\n", ""},
		{[]string{addr, "/404"}, exitStatus, "GET /404", ""},
		{[]string{addr, "/cut"}, exitTruncated, "part", "truncated"},
		{[]string{"fastcgi://" + refusing(t), "/"}, exitRefused, "", "OVERLOADED"},
		{[]string{"fastcgi://unix:/nowhere/at/all", "/"}, exitDial, "", "dial unix:/nowhere/at/all"},
		{[]string{addr}, exitUsage, "", "want an address and a target"},
		{[]string{"http://x", "/"}, exitUsage, "", "does not speak http://"},
		{[]string{"nonsense", "/"}, exitUsage, "", "want fastcgi://"},
		{[]string{addr, "x"}, exitUsage, "", "want /path"},
		{[]string{addr, "/", "--param", "x"}, exitUsage, "", "want NAME=VALUE"},
		{[]string{addr, "/", "-H", "x"}, exitUsage, "", `want "Name: value"`},
		{[]string{addr, "/", "-d", "@/nowhere/at/all"}, exitUsage, "", "no such file"},
		{[]string{addr, "/", "--nonsense"}, exitUsage, "", ""},
		{[]string{"--help"}, exitOK, "Exit status:", ""},
	} {
		var stdout, stderr bytes.Buffer
		status := run(t.Context(), append([]string{"request"}, c.args...), strings.NewReader("of standard input"), &stdout, &stderr)
		if status != c.status || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.stderr) {
			t.Errorf("%v: exit status %d, want %d\n%q\n%q", c.args, status, c.status, &stdout, &stderr)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args   []string
		status int
		out    string
	}{
		{nil, exitUsage, "gatehouse proxy"},
		{[]string{"--help"}, exitOK, "gatehouse proxy"},
		{[]string{"nonsense"}, exitUsage, "unknown command"},
		{[]string{"proxy", "--help"}, exitOK, "--root"},
		{[]string{"proxy", "nonsense"}, exitUsage, "unexpected argument"},
		{[]string{"proxy", "--listen", "nonsense"}, exitUsage, "want fastcgi://"},
		{[]string{"proxy", "--listen", "scgi://127.0.0.1:1"}, exitUsage, "needs --to"},
		{[]string{"proxy", "--to", "fastcgi://nohost"}, exitUsage, "want fastcgi://"},
		{[]string{"proxy", "--to", "cgi:"}, exitUsage, "no path"},
		{[]string{"proxy", "--nonsense"}, exitUsage, "see gatehouse proxy --help"},
		{[]string{"ping", "--timeout", "soon"}, exitUsage, "see gatehouse ping --help"},
		{[]string{"proxy", "--listen", "http://nonsense"}, exitFailed, "want host:port"},
		{[]string{"proxy", "--to", "http://x"}, exitUsage, "does not speak http://"},
		{[]string{"proxy", "--to", "fastcgi://"}, exitUsage, "no address"},
		{[]string{"proxy", "--listen", "nonsense", "--to", "scgi://127.0.0.1:1"}, exitUsage, "want fastcgi://, scgi:// or uwsgi://"},
		{[]string{"proxy", "--listen", "cgi:/x", "--to", "scgi://127.0.0.1:1"}, exitUsage, "started by its web server"},
		{[]string{"proxy", "--to", "cgi:/nowhere/at/all"}, exitFailed, "no such file"},
		{[]string{"ping"}, exitUsage, "want one address"},
		{[]string{"ping", "--help"}, exitOK, "ping plugin"},
		{[]string{"ping", "scgi://127.0.0.1:1"}, exitUsage, "only uwsgi has pings"},
		{[]string{"ping", "uwsgi://127.0.0.1:1"}, exitDial, "dial"},
		{[]string{"proxy", "--env", "x"}, exitUsage, "want NAME=VALUE"},
		{[]string{"proxy", "--root", "/nowhere/at/all"}, exitUsage, "is not a folder here"},
	} {
		var stdout, stderr bytes.Buffer
		status := run(t.Context(), c.args, nil, &stdout, &stderr)
		said, silent := &stderr, &stdout
		if c.status == exitOK {
			said, silent = silent, said
		}
		if status != c.status || !strings.Contains(said.String(), c.out) || silent.Len() > 0 {
			t.Errorf("%v: exit status %d, want %d\n%s\n%s", c.args, status, c.status, &stdout, &stderr)
		}
	}
}
