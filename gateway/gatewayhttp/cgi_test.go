//go:build unix

package gatewayhttp_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
)

// What was found by a review of CGI behind HTTP, each with the test that would have found it.

// scripts is a folder of scripts in sh, and a client of it.
func scripts(t *testing.T, texts map[string]string) (root string, c *cgi.Client) {
	t.Helper()
	root = filepath.Join(t.TempDir(), "root")
	for name, text := range texts {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	c = &cgi.Client{Root: root, Grace: time.Second}
	t.Cleanup(func() { c.Close() })
	return root, c
}

func TestPathsStayInTheRoot(t *testing.T) {
	const env = "printf 'Content-Type: text/plain\\n\\n%s|%s' \"$SCRIPT_NAME\" \"$PATH_INFO\"\n"
	root, c := scripts(t, map[string]string{"env.cgi": env, "../env.cgi": "printf 'X: 1\\n\\nOUTSIDE'\n"})
	if err := os.Symlink("../env.cgi", filepath.Join(root, "xenv.cgi")); err != nil {
		t.Fatal(err)
	}
	p := &gatewayhttp.Proxy{Backend: c}
	for path, want := range map[string]string{
		"/cgi/env.cgi/info":          "/env.cgi|/info",
		"/cgi/../env.cgi":            "404",
		"/cgi/xenv.cgi":              "404",
		"/cgi/..%2fenv.cgi":          "404",
		"/cgi/..%2f..%2f..%2fbin/sh": "404",
	} {
		got := rawHTTP(t, http.StripPrefix("/cgi/", p), "GET "+path+" HTTP/1.0\r\n\r\n")
		if !strings.Contains(got, want) || strings.Contains(got, "OUTSIDE") {
			t.Errorf("049 F40 %s: %q", path, got)
		}
	}
}

// A script that has responded without a body runs to its end.
func TestScriptsFinishAfterTheirResponse(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct{ method, response string }{
		"HEAD": {"HEAD", "Content-Type: text/plain"}, "204": {"POST", "Status: 204 No Content"}, "304": {"GET", "Status: 304 Not Modified"},
	} {
		for _, way := range []string{"Proxy", "Transport"} {
			done := filepath.Join(dir, name+way)
			_, client := scripts(t, map[string]string{"s": fmt.Sprintf("printf '%s\\n\\n'; exec >&-; sleep 0.1; touch %s\n", c.response, done)})
			var h http.Handler = &gatewayhttp.Proxy{Backend: client}
			if way == "Transport" {
				h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					res, err := (&gatewayhttp.Transport{Backend: client}).RoundTrip(r)
					if err != nil {
						t.Error(err)
						return
					}
					res.Body.Close()
					w.WriteHeader(res.StatusCode)
				})
			}
			srv := httptest.NewServer(h)
			req, _ := http.NewRequest(c.method, srv.URL+"/s", nil)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			for range 500 { // while the client stays
				if _, err = os.Stat(done); err == nil {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			if err != nil {
				t.Errorf("118 261 %s by %s: %v", name, way, err)
			}
			srv.Close()
		}
	}
}

func TestRedirectsInsideAChosenScript(t *testing.T) {
	_, c := scripts(t, map[string]string{
		"a": "printf 'Location: /b?q\\n\\n'\n", "b": "printf 'Content-Type: text/plain\\n\\nb %s %s %s' \"$REQUEST_METHOD\" \"$QUERY_STRING\" \"$CONTENT_TYPE$HTTP_CONTENT_ENCODING\"\n",
		"frag": "printf 'Location: /b#x\\n\\n'\n", "host": "printf 'Location: //b\\n\\n'\n",
	})
	p := &gatewayhttp.Proxy{Backend: c}
	p.LocalRedirect = p
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Choose") != "" {
			r = r.WithContext(gatewayhttp.WithScript(r.Context(), gatewayhttp.Script{Name: "", PathInfo: "/a"}))
		}
		p.ServeHTTP(w, r)
	})
	ask := func(head, body string) string { return rawHTTP(t, h, head+"\r\nHost: x\r\nConnection: close\r\n"+body) }
	for request, want := range map[[2]string]string{
		{"GET /other HTTP/1.1", "X-Choose: 1\r\n\r\n"}:                                                        "b GET q ",
		{"POST /a HTTP/1.1", "Content-Type: x/y\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"}: "b GET q \r\n",
		{"GET /frag HTTP/1.1", "\r\n"}:                                                                        "302 Found",
	} {
		if got := ask(request[0], request[1]); !strings.Contains(got+"\r\n", want) {
			t.Errorf("228 229 F27 %q: %q", request, got)
		}
	}
	if got := ask("HEAD /a HTTP/1.1", "\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200 ") || strings.Contains(got, "b ") {
		t.Errorf("228 HEAD: %q", got)
	}
	if got := ask("GET /host HTTP/1.1", "\r\n"); strings.Contains(got, "b GET") {
		t.Errorf("228 F27 a host: %q", got)
	}
}
