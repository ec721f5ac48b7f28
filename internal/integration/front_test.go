package integration_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/internal/integration"
)

// app is the application that the front ends are put before.
func app() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Query", r.URL.RawQuery)
		w.Header().Set("X-Big", strconv.Itoa(len(r.Header.Get("X-Big-11"))))
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(body)
	})
	mux.HandleFunc("/down", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(tenMiB)
	})
	mux.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		fmt.Fprintf(w, "%d %x %v", n, sum.Sum(nil), err)
	})
	mux.HandleFunc("/fields", func(w http.ResponseWriter, r *http.Request) {
		for i := range 80 {
			w.Header().Set(fmt.Sprintf("X-Field-%02d", i), strings.Repeat("v", 95))
		}
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		io.WriteString(w, "fields")
	})
	mux.HandleFunc("/path/", func(w http.ResponseWriter, r *http.Request) {
		cookie := strings.ReplaceAll(r.Header.Get("Cookie"), ";b", "; b") // h2o joins without the space
		fmt.Fprintf(w, "%s %s %s", r.URL.Path, r.RequestURI, cookie)
	})
	mux.HandleFunc("/500", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "five hundred", http.StatusInternalServerError)
	})
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("on purpose") })
	return mux
}

var tenMiB = func() []byte {
	b := make([]byte, 10<<20)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}()

// unknownLength hides the length of a body, so that it is sent in chunks.
type unknownLength struct{ io.Reader }

// frontCases are the exchanges that run through every web server.
var frontCases = []struct {
	name string
	run  func(t *testing.T, url string) error
}{
	{"get", func(t *testing.T, url string) error {
		res, _, err := do("GET", url+"/echo?a=1&b=%20;c", nil, nil)
		if err == nil && res.Header.Get("X-Query") != "a=1&b=%20;c" {
			err = fmt.Errorf("query %q", res.Header.Get("X-Query"))
		}
		return err
	}},
	{"post", echoCase(bytes.Repeat([]byte("p"), 1000), false)},
	{"echo10m", echoCase(tenMiB, false)},
	{"chunked64k", echoCase(tenMiB[:64<<10], true)},
	{"chunked10m", echoCase(tenMiB, true)},
	{"up10m", func(t *testing.T, url string) error {
		_, body, err := do("POST", url+"/sum", bytes.NewReader(tenMiB), nil)
		want := fmt.Sprintf("%d %x <nil>", len(tenMiB), sha256.Sum256(tenMiB))
		if err == nil && string(body) != want {
			err = fmt.Errorf("got %q", body)
		}
		return err
	}},
	{"down10m", func(t *testing.T, url string) error {
		_, body, err := do("GET", url+"/down", nil, nil)
		if err == nil && !bytes.Equal(body, tenMiB) {
			err = fmt.Errorf("%d bytes, not the ones that were sent", len(body))
		}
		return err
	}},
	{"head", func(t *testing.T, url string) error {
		res, body, err := do("HEAD", url+"/down", nil, nil)
		if err == nil && (res.StatusCode != 200 || len(body) > 0) {
			err = fmt.Errorf("status %d, %d bytes", res.StatusCode, len(body))
		}
		return err
	}},
	{"cookies", pathCase("/path/", "/path/", "a=1", "b=2")},
	{"bytes", pathCase("/path/caf%C3%A9", "/path/caf\xc3\xa9")},
	{"slash", pathCase("/path/a%2Fb", "/path/a/b")},
	{"404", statusCase("/nowhere", 404)},
	{"500", statusCase("/500", 500)},
	{"panic", statusCase("/panic", 500)},
	{"bigrequest", func(t *testing.T, url string) error {
		header := http.Header{}
		for i := range 12 {
			header.Set(fmt.Sprintf("X-Big-%d", i), strings.Repeat("h", 1000))
		}
		res, _, err := do("GET", url+"/echo", nil, header)
		if err == nil && res.Header.Get("X-Big") != "1000" {
			err = fmt.Errorf("status %d, X-Big %q", res.StatusCode, res.Header.Get("X-Big"))
		}
		return err
	}},
	{"bigresponse", func(t *testing.T, url string) error {
		res, body, err := do("GET", url+"/fields", nil, nil)
		if err == nil && (string(body) != "fields" || len(res.Header.Get("X-Field-79")) != 95 || len(res.Header["Set-Cookie"]) != 2) {
			err = fmt.Errorf("status %d, %d fields, %q", res.StatusCode, len(res.Header), body)
		}
		return err
	}},
}

// pathCase asks for a path with cookies. The response has the path decoded, as it was sent, and the
// cookies.
func pathCase(path, decoded string, cookies ...string) func(t *testing.T, url string) error {
	return func(t *testing.T, url string) error {
		res, body, err := do("GET", url+path, nil, http.Header{"Cookie": cookies})
		if err != nil {
			return err
		}
		where, rest, _ := strings.Cut(string(body), " ")
		uri, cookie, _ := strings.Cut(rest, " ")
		if !strings.HasSuffix(where, decoded) || !strings.HasSuffix(uri, path) || cookie != strings.Join(cookies, "; ") {
			return fmt.Errorf("status %d, %q", res.StatusCode, body)
		}
		return nil
	}
}

func echoCase(body []byte, chunked bool) func(t *testing.T, url string) error {
	return func(t *testing.T, url string) error {
		var src io.Reader = bytes.NewReader(body)
		if chunked {
			src = unknownLength{src}
		}
		res, got, err := do("POST", url+"/echo", src, nil)
		if err == nil && !bytes.Equal(got, body) {
			err = fmt.Errorf("status %d, %d bytes, not the ones that were sent", res.StatusCode, len(got))
		}
		return err
	}
}

func statusCase(path string, status int) func(t *testing.T, url string) error {
	return func(t *testing.T, url string) error {
		res, _, err := do("GET", url+path, nil, nil)
		if err == nil && res.StatusCode != status {
			err = fmt.Errorf("status %d", res.StatusCode)
		}
		return err
	}
}

func do(method, url string, body io.Reader, header http.Header) (*http.Response, []byte, error) {
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return nil, nil, err
	}
	maps.Copy(req.Header, header)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res, b, err
}

// ownFault names the cells in which the front end fails by itself, and why. The failure is
// asserted, so that a peer that mends its ways is noticed.
var ownFault = map[string]string{
	"haproxy/chunked64k":      "400: it requires the length of a body in advance",
	"haproxy/chunked10m":      "400: it requires the length of a body in advance",
	"haproxy-mpxs/chunked64k": "400: it requires the length of a body in advance",
	"haproxy-mpxs/chunked10m": "400: it requires the length of a body in advance",

	"nginx-scgi-unbuffered/echo10m": "its CONTENT_LENGTH is the length that has arrived so far, 0; the body follows",
	"nginx-scgi-unbuffered/up10m":   "its CONTENT_LENGTH is the length that has arrived so far, 0; the body follows",
	"apache-uwsgi/chunked64k":       "411",
	"apache-uwsgi/chunked10m":       "411",
	"apache-scgi/chunked64k":        "411",
	"apache-scgi/chunked10m":        "411",
	"apache-cgid/chunked64k":        "it sends the body without CONTENT_LENGTH, which RFC 3875 section 4.1.2 requires for a body (item 235)",
	"apache-cgid/chunked10m":        "it sends the body without CONTENT_LENGTH, which RFC 3875 section 4.1.2 requires for a body (item 235)",
	"apache/cookies":                joined,
	"apache/slash":                  "404 unless AllowEncodedSlashes is set",
	"apache-reuse/cookies":          joined,
	"apache-reuse/slash":            "404 unless AllowEncodedSlashes is set",
	"apache-uwsgi/cookies":          joined,
	"apache-uwsgi/slash":            "404 unless AllowEncodedSlashes is set",
	"apache-scgi/cookies":           joined,
	"apache-scgi/slash":             "404 unless AllowEncodedSlashes is set",
	"apache-cgid/cookies":           joined,
	"apache-cgid/slash":             "404 unless AllowEncodedSlashes is set",
	"caddy/cookies":                 joined,
	"uwsgi-http/cookies":            joined,
	"uwsgi-http/chunked64k":         "it sends neither the length nor the framing of the body",
	"uwsgi-http/chunked10m":         "it sends neither the length nor the framing of the body",
}

const joined = `it joins cookies with ", ", which is not allowed in a cookie`

// testFront runs the cases through a front end at url.
func testFront(t *testing.T, name, url string) {
	for _, c := range frontCases {
		t.Run(c.name+" [159 295]", func(t *testing.T) {
			err := c.run(t, url)
			table.add(name, c.name, err == nil)
			why, fails := ownFault[name+"/"+c.name]
			switch {
			case fails && err == nil:
				t.Errorf("works, but was known to fail: %s", why)
			case !fails && err != nil:
				t.Error(err)
			}
		})
	}
}

// serve starts our server on a Unix socket in dir that any user may connect to.
func serve(t *testing.T, dir string) (socket string) {
	t.Helper()
	socket = filepath.Join(dir, "app.sock")
	s := &fastcgi.Server{Handler: gatewayhttp.Handler(app()), SocketMode: 0o666, Logger: quiet}
	l, err := s.Listen("unix:" + socket)
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return socket
}

const nginxConf = `
daemon off;
pid ${DIR}/nginx.pid;
error_log ${DIR}/error.log;
worker_processes 1;
events { worker_connections 256; }
http {
	access_log off;
	client_max_body_size 64m;
	fastcgi_buffer_size 16k;
	fastcgi_buffers 8 16k;
	client_body_temp_path ${DIR}/t1;
	fastcgi_temp_path ${DIR}/t2;
	proxy_temp_path ${DIR}/t3;
	uwsgi_temp_path ${DIR}/t4;
	scgi_temp_path ${DIR}/t5;
	include /etc/nginx/fastcgi_params;
	upstream app { server unix:${DIR}/app.sock; keepalive 4; }
	server { listen 127.0.0.1:%[1]d; location / { fastcgi_pass unix:${DIR}/app.sock; } }
	server { listen 127.0.0.1:%[2]d; location / { fastcgi_pass app; fastcgi_keep_conn on; } }
	server { listen 127.0.0.1:%[3]d; location / {
		fastcgi_pass unix:${DIR}/app.sock; fastcgi_buffering off; fastcgi_request_buffering off; } }
}
`

func TestNginx(t *testing.T) {
	nginx := integration.Need(t, "nginx", "nginx-light")
	dir := integration.Dir(t)
	serve(t, dir)
	ports := []int{integration.Port(t), integration.Port(t), integration.Port(t)}
	conf := integration.Write(t, dir, "nginx.conf", fmt.Sprintf(nginxConf, ports[0], ports[1], ports[2]))
	integration.Start(t, dir, loopback(ports[2]), nginx, "-c", conf, "-e", dir+"/error.log")
	for i, name := range []string{"nginx", "nginx-keepconn", "nginx-unbuffered"} {
		t.Run(name, func(t *testing.T) { testFront(t, name, "http://"+loopback(ports[i])) })
	}
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

const apacheConf = `
ServerRoot ${DIR}
PidFile ${DIR}/apache.pid
ErrorLog ${DIR}/error.log
Mutex file:${DIR} default
DefaultRuntimeDir ${DIR}
ServerName localhost
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authn_core_module /usr/lib/apache2/modules/mod_authn_core.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule authz_user_module /usr/lib/apache2/modules/mod_authz_user.so
LoadModule auth_basic_module /usr/lib/apache2/modules/mod_auth_basic.so
LoadModule authnz_fcgi_module /usr/lib/apache2/modules/mod_authnz_fcgi.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_fcgi_module /usr/lib/apache2/modules/mod_proxy_fcgi.so
`

func TestApache(t *testing.T) {
	apache := integration.Need(t, "apache2", "apache2")
	dir := integration.Dir(t)
	serve(t, dir)
	ports := []int{integration.Port(t), integration.Port(t)}
	conf := integration.Write(t, dir, "apache.conf", apacheConf+fmt.Sprintf(`
Listen 127.0.0.1:%[1]d
Listen 127.0.0.1:%[2]d
<VirtualHost 127.0.0.1:%[1]d>
	ProxyPass / unix:${DIR}/app.sock|fcgi://app/
</VirtualHost>
<VirtualHost 127.0.0.1:%[2]d>
	ProxyPass / unix:${DIR}/app.sock|fcgi://kept/ enablereuse=on
</VirtualHost>
`, ports[0], ports[1]))
	integration.Start(t, dir, loopback(ports[1]), apache, "-X", "-f", conf)
	for i, name := range []string{"apache", "apache-reuse"} {
		t.Run(name, func(t *testing.T) { testFront(t, name, "http://"+loopback(ports[i])) })
	}
}

func TestLighttpd(t *testing.T) {
	lighttpd := integration.Need(t, "lighttpd", "lighttpd")
	dir := integration.Dir(t)
	serve(t, dir)
	port := integration.Port(t)
	conf := integration.Write(t, dir, "lighttpd.conf", fmt.Sprintf(`
server.document-root = "${DIR}"
server.bind = "127.0.0.1"
server.port = %d
server.errorlog = "${DIR}/error.log"
server.upload-dirs = ( "${DIR}" )
server.max-request-field-size = 65536
server.modules = ( "mod_fastcgi" )
fastcgi.server = ( "/" => (( "socket" => "${DIR}/app.sock", "check-local" => "disable" )))
`, port))
	integration.Start(t, dir, loopback(port), lighttpd, "-D", "-f", conf)
	testFront(t, "lighttpd", "http://"+loopback(port))
}

func TestHAProxy(t *testing.T) {
	haproxy := integration.Need(t, "haproxy", "haproxy")
	dir := integration.Dir(t)
	serve(t, dir)
	ports := []int{integration.Port(t), integration.Port(t)}
	conf := integration.Write(t, dir, "haproxy.cfg", fmt.Sprintf(`
global
	maxconn 256
	tune.bufsize 32768
defaults
	mode http
	timeout connect 5s
	timeout client 30s
	timeout server 30s
fcgi-app keep
	docroot /srv/www
	option keep-conn
fcgi-app mpxs
	docroot /srv/www
	option keep-conn
	option get-values
	option mpxs-conns
frontend f1
	bind 127.0.0.1:%[1]d
	default_backend b1
frontend f2
	bind 127.0.0.1:%[2]d
	default_backend b2
backend b1
	use-fcgi-app keep
	server s unix@${DIR}/app.sock proto fcgi
backend b2
	use-fcgi-app mpxs
	http-reuse always
	server s unix@${DIR}/app.sock proto fcgi
`, ports[0], ports[1]))
	integration.Start(t, dir, loopback(ports[1]), haproxy, "-db", "-f", conf)
	for i, name := range []string{"haproxy", "haproxy-mpxs"} {
		t.Run(name, func(t *testing.T) { testFront(t, name, "http://"+loopback(ports[i])) })
	}
}

func TestCaddy(t *testing.T) {
	caddy := integration.Need(t, "caddy", "caddy")
	dir := integration.Dir(t)
	serve(t, dir)
	port := integration.Port(t)
	conf := integration.Write(t, dir, "Caddyfile", fmt.Sprintf(`{
	admin off
	auto_https off
}
http://127.0.0.1:%d {
	request_body {
		max_size 64MB
	}
	reverse_proxy unix/${DIR}/app.sock {
		transport fastcgi
	}
}
`, port))
	integration.Start(t, dir, loopback(port), caddy, "run", "--config", conf, "--adapter", "caddyfile")
	testFront(t, "caddy", "http://"+loopback(port))
}

func TestH2O(t *testing.T) {
	h2o := integration.Need(t, "h2o", "h2o")
	dir := integration.Dir(t)
	serve(t, dir)
	port := integration.Port(t)
	conf := integration.Write(t, dir, "h2o.conf", fmt.Sprintf(`
listen:
  host: 127.0.0.1
  port: %d
error-log: ${DIR}/error.log
temp-buffer-path: ${DIR}
hosts:
  default:
    paths:
      /:
        fastcgi.connect:
          type: unix
          port: ${DIR}/app.sock
`, port))
	integration.Start(t, dir, loopback(port), h2o, "-c", conf)
	testFront(t, "h2o", "http://"+loopback(port))
}

var quiet = slog.New(slog.DiscardHandler)
