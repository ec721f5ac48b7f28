package gatewayhttp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
)

// TestScriptsOfBoth checks that Mapping with Root and ScriptIn find the same scripts.
func TestScriptsOfBoth(t *testing.T) {
	for _, c := range []struct {
		path, name, info string
		err              error
	}{
		{"/x.php", "/x.php", "", nil},
		{"/x.php/info", "/x.php", "/info", nil},
		{"/x.php/", "/x.php", "/", nil},
		{"/X.pHp/i", "/X.pHp", "/i", nil},
		{"/a.php/b.php", "/a.php", "/b.php", nil},
		{"/", "/index.php", "", nil},
		{"/d/", "/d/index.php", "", nil},
		{"/d", "", "", fs.ErrNotExist},
		{"/x.phpx", "", "", fs.ErrNotExist},
		{"/x.ｐhp", "", "", fs.ErrNotExist},
		{"/ȺȺ.php.txt.php", "/ȺȺ.php.txt.php", "", nil},
		{"/a//b/./c/../x.php/p/", "/a/b/x.php", "/p/", nil},
		{"//x.php", "/x.php", "", nil},
		{"/./x.php", "/x.php", "", nil},
		{"/a/../x.php", "/x.php", "", nil},
		{"/x.php/..", "/index.php", "", nil},
		{"/x.php/.", "/x.php", "/", nil},
		{"/d/..", "/index.php", "", nil},
		{"/../x.php", "", "", gateway.ErrParam},
		{"/a/../../x.php", "", "", gateway.ErrParam},
		{"/x.php/../../y.php", "", "", gateway.ErrParam},
		{`/..\x.php`, "", "", gateway.ErrParam},
		{"/x.php\x00", "", "", gateway.ErrParam},
		{"/x.php\r", "", "", gateway.ErrParam},
		{"/x.php\n", "", "", gateway.ErrParam},
	} {
		t.Run(c.path+" [463 464 474 475 F9 F40]", func(t *testing.T) {
			r := get("/")
			r.URL.Path = c.path
			r.RequestURI = "/as/sent"
			mapping, err := mapped(&gatewayhttp.Mapping{Root: "/srv/www"}, r)
			if !errors.Is(err, c.err) || c.err == nil && (mapping["SCRIPT_NAME"] != c.name || mapping["PATH_INFO"] != c.info || mapping["SCRIPT_FILENAME"] != "/srv/www"+c.name) {
				t.Errorf("Mapping: %v, %v", mapping, err)
			}
			var req gateway.Request
			req.Params.Set("SCRIPT_NAME", c.path)
			req.Params.Set("PATH_TRANSLATED", "/etc/passwd")
			req.Params.Set("REQUEST_URI", "/as/sent")
			if err := gateway.ScriptIn("/srv/www")(&req); !errors.Is(err, c.err) {
				t.Errorf("ScriptIn: %v", err)
			} else if err == nil {
				for _, name := range []string{"SCRIPT_NAME", "PATH_INFO", "SCRIPT_FILENAME", "DOCUMENT_ROOT", "REDIRECT_STATUS", "REQUEST_URI", "PATH_TRANSLATED"} {
					if got := req.Params.Get(name); got != mapping[name] {
						t.Errorf("ScriptIn: %s=%q, Mapping has %q", name, got, mapping[name])
					}
				}
				if _, ok := req.Params.Lookup("PATH_TRANSLATED"); ok {
					t.Error("F51: PATH_TRANSLATED is sent")
				}
			}
			// Through both proxies, the backend is not called for what is refused.
			called := false
			backend := gateway.RoundTripperFunc(func(_ context.Context, _ *gateway.Request, res *gateway.Response) error {
				called = true
				res.Reset()
				res.Status, res.Body = 200, http.NoBody
				return nil
			})
			w := httptest.NewRecorder()
			(&gatewayhttp.Proxy{Backend: backend, Mapping: &gatewayhttp.Mapping{Root: "/srv/www"}}).ServeHTTP(w, r)
			if want := map[error]int{nil: 200, fs.ErrNotExist: 404, gateway.ErrParam: 400}[c.err]; w.Code != want || called != (c.err == nil) {
				t.Errorf("status %d, called %v", w.Code, called)
			}
		})
	}
}

// TestFiles checks that a script must be a file below Root.
func TestFiles(t *testing.T) {
	root := filepath.Join(t.TempDir(), "www")
	for name, text := range map[string]string{"x.php": "", "upload/x.jpg": "<?php", "../outside.php": "", "d.php/y.txt": ""} {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	link := os.Symlink("../outside.php", filepath.Join(root, "link.php")) == nil
	missing := []string{"/upload/x.jpg/y.php", "/upload/x.jpg/.php", "/upload/x.jpg%00.php", "/y.php", "/d.php", "/upload//x.jpg//y.php", "/upload/x.jpg/x.php/x.php"}
	t.Run("nil means the folder Root [054 463 F50]", func(t *testing.T) {
		m := &gatewayhttp.Mapping{Root: root}
		if got, err := mapped(m, get("/x.php/i")); err != nil || got["SCRIPT_FILENAME"] != root+"/x.php" {
			t.Errorf("%v, %v", got, err)
		}
		for _, path := range missing {
			if got, err := mapped(m, get(path)); err == nil {
				t.Errorf("%s: %q", path, got["SCRIPT_FILENAME"])
			}
		}
		if got, err := mapped(m, get("/link.php")); link && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a link that leads out: %q, %v", got["SCRIPT_FILENAME"], err)
		}
	})
	t.Run("a folder that is removed later", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "www")
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(dir+"/x.php", nil, 0o644)); err != nil {
			t.Fatal(err)
		}
		m := &gatewayhttp.Mapping{Root: dir}
		if _, err := mapped(m, get("/x.php")); err != nil {
			t.Fatal(err)
		}
		os.RemoveAll(dir)
		if _, err := mapped(m, get("/y.php")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a folder that is made later [F50]", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "www")
		m := &gatewayhttp.Mapping{Root: dir}
		if _, err := mapped(m, get("/y.php")); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.MkdirAll(dir+"/upload", 0o755), os.WriteFile(dir+"/upload/x.jpg", nil, 0o644)); err != nil {
			t.Fatal(err)
		}
		if _, err := mapped(m, get("/upload/x.jpg/y.php")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a folder of another machine, and NoFiles", func(t *testing.T) {
		for _, m := range []*gatewayhttp.Mapping{{Root: root + "/not-here"}, {Root: root, Files: gatewayhttp.NoFiles}} {
			if got, err := mapped(m, get("/y.php")); err != nil || got["SCRIPT_FILENAME"] != m.Root+"/y.php" {
				t.Errorf("%v, %v", got, err)
			}
		}
	})
	t.Run("links are followed by choice", func(t *testing.T) {
		m := &gatewayhttp.Mapping{Root: root, Files: os.DirFS(root)}
		if _, err := mapped(m, get("/link.php")); link && err != nil {
			t.Error(err)
		}
	})
	t.Run("a folder that may not be read is a 403", func(t *testing.T) {
		if os.Getuid() == 0 {
			m := &gatewayhttp.Mapping{Root: "/srv/www", Files: denied{}}
			_, err := m.Request(get("/x.php"))
			if got := gateway.ErrorStatus(&gateway.Error{Phase: gateway.PhaseRequest, Err: err}); got != 403 {
				t.Errorf("%d, %v", got, err)
			}
		}
	})
}

type denied struct{}

func (denied) Open(string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Err: fs.ErrPermission}
}

func TestPrefixIsTrimmed(t *testing.T) {
	for _, prefix := range []string{"/app", "/app/", "/app//"} {
		got, err := mapped(&gatewayhttp.Mapping{Prefix: prefix}, get("/app/x"))
		if err != nil || got["SCRIPT_NAME"] != "/app" || got["PATH_INFO"] != "/x" {
			t.Errorf("%s: %v, %v", prefix, got, err)
		}
	}
	got, err := mapped(&gatewayhttp.Mapping{Prefix: "/app", Root: "/srv/www"}, get("//app/./x.php//i"))
	if err != nil || got["SCRIPT_NAME"] != "/app/x.php" || got["PATH_INFO"] != "/i" || got["SCRIPT_FILENAME"] != "/srv/www/x.php" {
		t.Errorf("%v, %v", got, err)
	}
}

// TestForwarded checks which fields about a client in front are passed.
func TestForwarded(t *testing.T) {
	fields := []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Ssl", "X-Real-IP"}
	request := func(change func(string) string) *http.Request {
		r := get("/", "X-Other", "1")
		for _, f := range fields {
			r.Header[change(f)] = []string{"evil"}
		}
		return r
	}
	sent := func(got map[string]string) (n int) {
		for name, value := range got {
			if strings.HasPrefix(name, "HTTP_") && value == "evil" {
				n++
			}
		}
		return n
	}
	t.Run("a Proxy drops them [455 F52]", func(t *testing.T) {
		for _, change := range []func(string) string{http.CanonicalHeaderKey, strings.ToLower, strings.ToUpper} {
			got, err := mapped(&gatewayhttp.Mapping{}, request(change))
			if err != nil || sent(got) != 0 || got["HTTP_X_OTHER"] != "1" {
				t.Errorf("%v, %v", got, err)
			}
		}
	})
	t.Run("TrustForwarded passes them [456]", func(t *testing.T) {
		got, err := mapped(&gatewayhttp.Mapping{TrustForwarded: true}, request(http.CanonicalHeaderKey))
		if err != nil || sent(got) != len(fields) {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("a Transport passes them [456]", func(t *testing.T) {
		var got gateway.Params
		backend := gateway.RoundTripperFunc(func(_ context.Context, r *gateway.Request, res *gateway.Response) error {
			got.CopyFrom(&r.Params)
			res.Reset()
			res.Status, res.Body = 200, http.NoBody
			return nil
		})
		r := request(http.CanonicalHeaderKey)
		r.RequestURI = ""
		if _, err := (&gatewayhttp.Transport{Backend: backend}).RoundTrip(r); err != nil {
			t.Fatal(err)
		}
		all := make(map[string]string)
		for name, value := range got.All() {
			all[string(name)] = string(value)
		}
		if sent(all) != len(fields) {
			t.Errorf("%v", all)
		}
	})
}

// TestConnectionParams checks the params that describe the client's connection.
func TestConnectionParams(t *testing.T) {
	params := func(t *testing.T, m *gatewayhttp.Mapping, r *http.Request) map[string]string {
		t.Helper()
		got, err := mapped(m, r)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	t.Run("UWSGI_SCHEME is REQUEST_SCHEME [457 F53]", func(t *testing.T) {
		r := get("/", "X-Forwarded-Proto", "https")
		if got := params(t, &gatewayhttp.Mapping{}, r); got["UWSGI_SCHEME"] != "http" || got["REQUEST_SCHEME"] != "http" {
			t.Errorf("%v", got)
		}
		r.TLS = new(tls.ConnectionState)
		if got := params(t, &gatewayhttp.Mapping{}, r); got["UWSGI_SCHEME"] != "https" || got["REQUEST_SCHEME"] != "https" {
			t.Errorf("%v", got)
		}
		if _, ok := params(t, &gatewayhttp.Mapping{TrustForwarded: true}, r)["UWSGI_SCHEME"]; ok {
			t.Error("UWSGI_SCHEME is sent with TrustForwarded")
		}
	})
	t.Run("SERVER_ADDR [458]", func(t *testing.T) {
		for addr, want := range map[net.Addr]string{
			&net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 80}: "192.0.2.1", &net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 80, Zone: "eth0"}: "fe80::1",
			&net.UnixAddr{Name: "/run/x.sock", Net: "unix"}: "", nil: "",
		} {
			r := get("/")
			if addr != nil {
				r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, addr))
			}
			got, ok := params(t, &gatewayhttp.Mapping{}, r)["SERVER_ADDR"]
			if got != want || ok != (want != "") {
				t.Errorf("%v: %q %v", addr, got, ok)
			}
		}
	})
	t.Run("REMOTE_ADDR without a port", func(t *testing.T) {
		for remote, want := range map[string][2]string{
			"192.0.2.7": {"192.0.2.7", ""}, "2001:db8::7": {"2001:db8::7", ""}, "[2001:db8::7]": {"2001:db8::7", ""},
			"[fe80::7%eth0]:80": {"fe80::7", "80"}, "192.0.2.7:99": {"192.0.2.7", "99"}, "@": {"", ""}, "": {"", ""},
		} {
			r := get("/")
			r.RemoteAddr = remote
			if got := params(t, &gatewayhttp.Mapping{}, r); got["REMOTE_ADDR"] != want[0] || got["REMOTE_PORT"] != want[1] {
				t.Errorf("%q: %q %q", remote, got["REMOTE_ADDR"], got["REMOTE_PORT"])
			}
		}
	})
	t.Run("REDIRECT_STATUS [459]", func(t *testing.T) {
		if got := params(t, &gatewayhttp.Mapping{Root: "/srv/www"}, get("/x.php")); got["REDIRECT_STATUS"] != "200" {
			t.Errorf("%v", got)
		}
		if _, ok := params(t, &gatewayhttp.Mapping{}, get("/x.php"))["REDIRECT_STATUS"]; ok {
			t.Error("it is sent without Root")
		}
	})
	t.Run("SSL_PROTOCOL and SSL_CIPHER [460]", func(t *testing.T) {
		for version, want := range map[uint16]string{tls.VersionTLS12: "TLSv1.2", tls.VersionTLS13: "TLSv1.3"} {
			r := get("/")
			r.TLS = &tls.ConnectionState{Version: version, CipherSuite: tls.TLS_AES_128_GCM_SHA256}
			if got := params(t, &gatewayhttp.Mapping{}, r); got["SSL_PROTOCOL"] != want || got["SSL_CIPHER"] != "TLS_AES_128_GCM_SHA256" || got["HTTPS"] != "on" {
				t.Errorf("%v", got)
			}
			if diff := cmp.Diff(map[string]string{}, params(t, &gatewayhttp.Mapping{Minimal: true, Root: "/r"}, r)); diff != "" {
				t.Error(diff)
			}
		}
		got := params(t, &gatewayhttp.Mapping{}, get("/"))
		for _, name := range []string{"SSL_PROTOCOL", "SSL_CIPHER", "HTTPS"} {
			if v, ok := got[name]; ok {
				t.Errorf("%s=%q without TLS", name, v)
			}
		}
	})
}
