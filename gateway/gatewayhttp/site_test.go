package gatewayhttp_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
)

// siteFiles are the files of the sites here.
var siteFiles = map[string]string{
	"index.php": "<?php front", "a.php": "<?php a", "B.PHP": "<?php b", "style.css": "body {}", "page.html": "<p>", "sub/index.html": "<p>sub", "empty/x.txt": "x",
	"x.php/file.txt": "below", "x.php/y.php": "<?php y", ".env": "secret", ".git/config": "secret", "sub/.htaccess": "secret", ".well-known/acme": "token",
	".well-known/.key": "secret", "data/db": "secret", "a.php.": "<?php a", "a.php ": "<?php a", "../outside.txt": "outside", "café/ü.txt": "utf-8",
}

// site returns a Site of siteFiles, whose scripts respond with their params, and its folder.
func site(t *testing.T) (s *gatewayhttp.Site, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "www")
	for name, text := range siteFiles {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"out.txt": "../outside.txt", "in.txt": "style.css", "source.txt": "a.php", "out": ".."} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Skip(err)
		}
	}
	return &gatewayhttp.Site{Dir: dir, Front: "/index.php", Script: params()}, dir
}

// params is a Proxy whose backend responds with the params of the script.
func params() http.Handler {
	return &gatewayhttp.Proxy{Logger: quiet, Backend: gateway.InProcess(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		_, sent := r.Params.Lookup("PATH_TRANSLATED")
		_, err := fmt.Fprintf(w, "script %s|%s|%s|%s|%s|%s %v", r.Params.Get("SCRIPT_FILENAME"), r.Params.Get("SCRIPT_NAME"), r.Params.Get("PATH_INFO"),
			r.Params.Get("DOCUMENT_ROOT"), r.Params.Get("REQUEST_URI"), r.Params.Get("REDIRECT_STATUS"), sent)
		return err
	}))}
}

// fetchFrom sends a request to h, as a client would write it.
func fetchFrom(h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/", nil)
	r.RequestURI = target
	path, query, _ := strings.Cut(target, "?")
	u := *r.URL
	u.RawQuery = query
	if err := u.UnmarshalBinary([]byte(path)); err != nil || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") {
		u.Path = strings.NewReplacer("%2e", ".", "%00", "\x00", "%0d", "\r", "%5c", `\`, "%20", " ").Replace(path)
	}
	u.RawQuery = query
	r.URL = &u
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestSite(t *testing.T) {
	s, dir := site(t)
	s.Hidden = func(path string) bool { return strings.HasPrefix(path, "/data/") }
	script := func(name, info string) string {
		return "script " + dir + name + "|" + name + "|" + info + "|" + dir + "|TARGET|200 false"
	}
	front := script("/index.php", "")
	for _, c := range []struct {
		name, target string
		status       int
		body         string
	}{
		{"a script [423]", "/a.php", 200, script("/a.php", "")},
		{"a script and a path [423]", "/a.php/b/c?q", 200, script("/a.php", "/b/c")},
		{"a script below a path that names another [423]", "/a.php/private/y.php", 200, script("/a.php", "/private/y.php")},
		{"another case of letters [425]", "/B.PHP", 200, script("/B.PHP", "")},
		{"a slash behind a script [425]", "/a.php/", 200, script("/a.php", "/")},
		{"an encoded script [425]", "/a%2ephp", 200, script("/a.php", "")},
		{"a missing script [424]", "/missing.php/x", 200, front},
		{"a folder that is named as a script [434]", "/x.php/file.txt", 200, "below"},
		{"a script below such a folder [434]", "/x.php/y.php/i", 200, script("/x.php/y.php", "/i")},
		{"a file below such a folder that is missing [434]", "/x.php/none", 200, front},
		{"a pretty path [431]", "/post/1?x=%20", 200, front},
		{"the root [430]", "/", 200, front},
		{"an index of HTML [430]", "/sub/", 200, "<p>sub"},
		{"a folder without an index [430]", "/empty/", 200, front},
		{"a file [432]", "/style.css", 200, "body {}"},
		{"a file named index.html", "/sub/index.html", 200, "<p>sub"},
		{"a slash behind a file", "/style.css/", 200, front},
		{"slashes and dot segments [427 474]", "//sub/../a.php//i", 200, script("/a.php", "/i")},
		{"UTF-8", "/caf%C3%A9/%C3%BC.txt", 200, "utf-8"},
		{"a link inside [428]", "/in.txt", 200, "body {}"},
		{"a link to a script of another name [425 F61]", "/source.txt", 404, ""},
		{"a dot at the end [425]", "/a.php.", 404, ""},
		{"a space at the end [425]", "/a.php%20", 404, ""},
		{".env [426 F60]", "/.env", 404, ""},
		{"an encoded dot [426 F60]", "/%2eenv", 404, ""},
		{".git [426 F60]", "/.git/config", 404, ""},
		{".htaccess [426 F60]", "/sub/.htaccess", 404, ""},
		{".well-known [426]", "/.well-known/acme", 200, "token"},
		{"a dot below .well-known [426 F60]", "/.well-known/.key", 404, ""},
		{"Hidden [426]", "/data/db", 404, ""},
		{"Hidden, otherwise written [426]", "//x/..//data//db", 404, ""},
		{"a link that leads out [428 F62]", "/out.txt", 200, front},
		{"a folder that leads out [428 F62]", "/out/outside.txt", 200, front},
		{"above the root [427]", "/../outside.txt", 400, ""},
		{"above the root, encoded [427]", "/..%2foutside.txt", 400, ""},
		{"a backslash [427]", "/..%5coutside.txt", 400, ""},
		{"NUL [427]", "/a.php%00.css", 400, ""},
		{"CR [427]", "/a%0d", 400, ""},
		{"an escape character", "/a%1b", 400, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := fetchFrom(s, "GET", c.target)
			want := strings.Replace(c.body, "TARGET", c.target, 1)
			if w.Code != c.status || c.status == 200 && w.Body.String() != want || strings.Contains(w.Body.String(), "<?php") || strings.Contains(w.Body.String(), "secret") {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body, c.status, want)
			}
		})
	}
}

func TestSiteMethods(t *testing.T) {
	s, dir := site(t)
	t.Run("Front of any method [431]", func(t *testing.T) {
		for _, method := range []string{"POST", "PUT", "DELETE"} {
			if w := fetchFrom(s, method, "/post"); w.Code != 200 || !strings.HasPrefix(w.Body.String(), "script ") {
				t.Errorf("%s: %d %q", method, w.Code, w.Body)
			}
		}
	})
	t.Run("files [432]", func(t *testing.T) {
		if w := fetchFrom(s, "POST", "/style.css"); w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("POST: %d %v", w.Code, w.Header())
		}
		if w := fetchFrom(s, "HEAD", "/style.css"); w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Length") != "7" || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/css") {
			t.Errorf("HEAD: %d %v", w.Code, w.Header())
		}
		if w := fetchFrom(s, "GET", "/style.css", "Range", "bytes=0-3"); w.Code != 206 || w.Body.String() != "body" {
			t.Errorf("Range: %d %q", w.Code, w.Body)
		}
		modified := fetchFrom(s, "GET", "/style.css").Header().Get("Last-Modified")
		if w := fetchFrom(s, "GET", "/style.css", "If-Modified-Since", modified); w.Code != 304 {
			t.Errorf("If-Modified-Since: %d", w.Code)
		}
	})
	t.Run("a script's source by Range and HEAD [425]", func(t *testing.T) {
		for _, target := range []string{"/a.php", "/B.PHP", "/source.txt"} {
			if w := fetchFrom(s, "GET", target, "Range", "bytes=0-3"); w.Code == 206 {
				t.Errorf("%s: %d %q", target, w.Code, w.Body)
			}
		}
	})
	t.Run("no Front [424 430]", func(t *testing.T) {
		s := &gatewayhttp.Site{Dir: dir, Script: params()}
		for _, target := range []string{"/missing.php", "/empty/", "/missing"} {
			if w := fetchFrom(s, "GET", target); w.Code != 404 {
				t.Errorf("%s: %d %q", target, w.Code, w.Body)
			}
		}
		s.Front = "/not-there.php"
		if w := fetchFrom(s, "GET", "/missing"); w.Code != 404 {
			t.Errorf("a Front that is missing: %d %q", w.Code, w.Body)
		}
	})
	t.Run("a folder is redirected [429]", func(t *testing.T) {
		for target, want := range map[string]string{"/sub": "/sub/", "/sub?q=1": "/sub/?q=1", "//sub": "/sub/", "/caf%C3%A9": "/caf%C3%A9/", "/x.php": "/x.php/"} {
			if w := fetchFrom(s, "GET", target); w.Code != 308 || w.Header().Get("Location") != want {
				t.Errorf("%s: %d %q", target, w.Code, w.Header().Get("Location"))
			}
		}
	})
	t.Run("the prefix is redirected as a folder [429 433]", func(t *testing.T) {
		s, _ := site(t)
		s.Prefix = "/app"
		if w := fetchFrom(s, "GET", "/app?q"); w.Code != 308 || w.Header().Get("Location") != "/app/?q" {
			t.Errorf("%d %q", w.Code, w.Header().Get("Location"))
		}
		s.Prefix = ""
		for prefix, target := range map[string]string{"/app": "/app", "/app/": "/app/"} {
			w := httptest.NewRecorder()
			if http.StripPrefix(prefix, s).ServeHTTP(w, httptest.NewRequest("GET", target, nil)); w.Code != 200 || !strings.Contains(w.Body.String(), "/index.php") {
				t.Errorf("%s: %d %q", target, w.Code, w.Body)
			}
		}
	})
	t.Run("Hidden hides scripts, whatever leads to them [426]", func(t *testing.T) {
		s, dir := site(t)
		if err := os.WriteFile(filepath.Join(dir, "data", "index.php"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		s.Front = ""
		s.Hidden = func(p string) bool { return p == "/data/index.php" }
		for _, target := range []string{"/data/", "/data/index.php", "/data/index.php/x"} {
			if w := fetchFrom(s, "GET", target); w.Code != 404 {
				t.Errorf("%s: %d %q", target, w.Code, w.Body)
			}
		}
	})
	t.Run("Static receives no script by another name [425 F61]", func(t *testing.T) {
		s, dir := site(t)
		s.Static = http.FileServerFS(os.DirFS(dir))
		if w := fetchFrom(s, "GET", "/source.txt"); w.Code != 404 {
			t.Errorf("%d %q", w.Code, w.Body)
		}
	})
	t.Run("Static", func(t *testing.T) {
		own := &gatewayhttp.Site{Dir: dir, Prefix: "/blog", Static: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "static "+r.URL.Path) })}
		if w := fetchFrom(own, "GET", "/blog/sub/../style.css"); w.Body.String() != "static /style.css" {
			t.Errorf("%d %q", w.Code, w.Body)
		}
	})
	t.Run("links by choice [428]", func(t *testing.T) {
		own := &gatewayhttp.Site{Dir: dir, FollowLinks: true, Script: params()}
		if w := fetchFrom(own, "GET", "/out.txt"); w.Body.String() != "outside" {
			t.Errorf("%d %q", w.Code, w.Body)
		}
	})
	t.Run("a link to the current release [428]", func(t *testing.T) {
		top := t.TempDir()
		current := filepath.Join(top, "current")
		for _, release := range []string{"1", "2"} {
			err := errors.Join(os.Mkdir(filepath.Join(top, release), 0o755), os.WriteFile(filepath.Join(top, release, "x.txt"), []byte(release), 0o644))
			os.Remove(current)
			if err := errors.Join(err, os.Symlink(release, current)); err != nil {
				t.Fatal(err)
			}
			if w := fetchFrom(&gatewayhttp.Site{Dir: current}, "GET", "/x.txt"); w.Body.String() != release {
				t.Errorf("%d %q", w.Code, w.Body)
			}
		}
	})
	t.Run("another root, and a prefix [423 433]", func(t *testing.T) {
		own := &gatewayhttp.Site{Dir: dir, Root: "/srv/www/", Prefix: "/blog/", Front: "/index.php", Script: params()}
		for _, h := range []http.Handler{own, http.StripPrefix("/blog", own)} {
			if w := fetchFrom(h, "GET", "/blog/a.php/i"); w.Body.String() != "script /srv/www/a.php|/blog/a.php|/i|/srv/www|/blog/a.php/i|200 false" {
				t.Errorf("%d %q", w.Code, w.Body)
			}
			if w := fetchFrom(h, "GET", "/blog/sub"); w.Code != 308 || w.Header().Get("Location") != "/blog/sub/" {
				t.Errorf("%d %q", w.Code, w.Header().Get("Location"))
			}
			if w := fetchFrom(h, "GET", "/blog/post"); !strings.HasPrefix(w.Body.String(), "script /srv/www/index.php|/blog/index.php||") {
				t.Errorf("%d %q", w.Code, w.Body)
			}
		}
	})
	t.Run("no folder", func(t *testing.T) {
		var log bytes.Buffer
		s := &gatewayhttp.Site{Dir: dir + "-not-there", Logger: slog.New(slog.NewTextHandler(&log, nil))}
		if w := fetchFrom(s, "GET", "/x"); w.Code != 500 || !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), dir+"-not-there") {
			t.Errorf("%d, log %q", w.Code, &log)
		}
	})
}
