//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// script writes a CGI script in sh.
func script(t *testing.T, dir, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// started runs "gatehouse proxy" with a listener of any protocol and returns its address, and a
// function that ends it.
func started(t *testing.T, args ...string) (addr string, end func() (status int, said string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out := &lines{first: make(chan string, 1)}
	var errs bytes.Buffer
	done := make(chan int, 1)
	go func() { done <- run(ctx, append([]string{"proxy"}, args...), nil, out, &errs) }()
	ended := false
	end = func() (int, string) {
		if ended {
			return exitOK, ""
		}
		ended = true
		cancel()
		return <-done, errs.String()
	}
	t.Cleanup(func() { end() })
	select {
	case line := <-out.first:
		return strings.TrimPrefix(line, "listening on "), end
	case status := <-done:
		ended = true
		t.Fatalf("%v: exit status %d: %s", args, status, &errs)
	}
	return "", nil
}

// TestMatrix puts every protocol before every other, and asks through it with a body of unknown
// length where HTTP is in front.
func TestMatrix(t *testing.T) {
	backs := map[string]string{
		"fastcgi": "fastcgi://" + gatewaytest.Start(t, &fastcgi.Server{Handler: mirror}),
		"scgi":    "scgi://" + gatewaytest.Start(t, &scgi.Server{Handler: mirror}),
		"uwsgi":   "uwsgi://" + gatewaytest.Start(t, &uwsgi.Server{Handler: mirror}),
		"cgi":     "cgi:" + script(t, t.TempDir(), "s", "printf 'Content-Type: text/plain\\n\\n'; printf '%s %s %s %s ' \"$REQUEST_METHOD\" \"$REQUEST_URI\" \"$DOCUMENT_ROOT\" \"$EXTRA\"; cat\n"),
	}
	for back, to := range backs {
		for _, front := range []string{"http", "fastcgi", "scgi", "uwsgi"} {
			t.Run(front+" to "+back, func(t *testing.T) {
				listen := front + "://unix:" + filepath.Join(t.TempDir(), "s")
				if front == "http" {
					listen = "http://127.0.0.1:0"
				}
				addr, end := started(t, "--listen", listen, "--to", to, "--env", "EXTRA=e", "--max-conns", "2", "--keep", "1")
				if front == "http" {
					if res, got := ask(t, "POST", addr+"/x?q", struct{ io.Reader }{strings.NewReader("streamed")}); res.StatusCode != 200 || got != "POST /x?q  e streamed" {
						t.Errorf("%d %q", res.StatusCode, got)
					}
				} else {
					if info, err := os.Stat(strings.TrimPrefix(listen, front+"://unix:")); err != nil || info.Mode().Perm() != 0o660 {
						t.Errorf("the socket: %v, %v", info, err)
					}
					var out, errs bytes.Buffer
					status := run(t.Context(), []string{"request", addr, "/x?q", "-d", "body"}, nil, &out, &errs)
					if status != exitOK || out.String() != "POST /x?q  e body" {
						t.Errorf("%d %q %q", status, &out, &errs)
					}
				}
				if status, said := end(); status != exitOK {
					t.Errorf("exit status %d: %s", status, said)
				}
			})
		}
	}
}

// running reports whether a script that wrote its number into a file still runs.
func running(t *testing.T, file string) bool {
	t.Helper()
	b, err := os.ReadFile(file)
	pid, perr := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || perr != nil {
		t.Fatalf("%v, %v", err, perr)
	}
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return syscall.Kill(pid, 0) == nil && !strings.Contains(string(stat), ") Z ")
}

// TestScriptsEnd ends the command while a script runs, and checks that the script is ended.
func TestScriptsEnd(t *testing.T) {
	defer func(before time.Duration) { shutdownTimeout = before }(shutdownTimeout)
	shutdownTimeout = 100 * time.Millisecond
	dir := t.TempDir()
	file := filepath.Join(dir, "pid")
	path := script(t, dir, "s", "echo $$ >"+file+".new; mv "+file+".new "+file+"; sleep 60 & wait\n")
	begun := func() {
		for range 1000 {
			if _, err := os.Stat(file); err == nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Error("the script does not begin")
	}
	for _, front := range []string{"http", "scgi"} {
		os.Remove(file)
		addr, end := started(t, "--listen", front+"://127.0.0.1:0", "--to", "cgi:"+path)
		go func() {
			if front == "http" {
				http.Get(addr + "/")
			} else {
				run(context.Background(), []string{"request", addr, "/"}, nil, io.Discard, io.Discard)
			}
		}()
		begun()
		if status, said := end(); status != exitFailed || !strings.Contains(said, "deadline") {
			t.Errorf("%s: exit status %d: %s", front, status, said)
		}
		if running(t, file) {
			t.Errorf("%s: the script goes on", front)
		}
	}
	os.Remove(file)
	if status := run(t.Context(), []string{"request", "cgi:" + path, "/", "--timeout", "300ms"}, nil, io.Discard, io.Discard); status != exitFailed {
		t.Errorf("exit status %d", status)
	}
	if running(t, file) {
		t.Error("request: the script goes on")
	}
}

// TestLocalRedirect is RFC 3875 section 6.2.2, which the tool follows for scripts.
func TestLocalRedirect(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "a", "printf 'Location: /b\\n\\n'\n")
	script(t, dir, "b", "printf 'Content-Type: text/plain\\n\\nb'\n")
	if res, got := ask(t, "GET", proxy(t, "--to", "cgi:"+dir)+"/a", nil); res.StatusCode != 200 || got != "b" {
		t.Errorf("%d %q", res.StatusCode, got)
	}
}
