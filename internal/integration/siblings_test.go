package integration_test

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/websocket"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/internal/integration"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// isScript makes this program the application as a CGI script.
const isScript = "GATEHOUSE_TEST_SCRIPT"

func TestMain(m *testing.M) {
	if os.Getenv(isScript) == "" {
		flag.Parse()
		os.Exit(max(m.Run(), table.check()))
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.StripPrefix(gatewayhttp.Params(r).Get("SCRIPT_NAME"), app()).ServeHTTP(w, r)
	})
	if (&cgi.Server{Handler: gatewayhttp.Handler(h), Logger: quiet}).Serve(context.Background()) != nil {
		os.Exit(1)
	}
}

// script writes a CGI script that is the application: a front end gives it an environment of its
// own.
func script(t *testing.T, dir, name string) (path string) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Not every user may enter the folder that the tests were built in.
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "app.bin")
	if err := os.WriteFile(copied, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return integration.Write(t, dir, name, "#!/bin/sh\n"+strings.Join(conformance.Environ(t), " ")+" "+isScript+"=1 exec '"+copied+"'\n")
}

// serveSiblings starts our servers of SCGI and uwsgi on scgi.sock and uwsgi.sock in dir. They take
// WebSockets, too.
func serveSiblings(t *testing.T, dir string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/", app())
	mux.Handle("/socket", websocket.Handler(func(c *websocket.Conn) { io.Copy(c, c) }))
	h := gatewayhttp.Handler(mux)
	s := &scgi.Server{Handler: h, SocketMode: 0o666, Logger: quiet}
	u := &uwsgi.Server{Handler: h, SocketMode: 0o666, Logger: quiet}
	l, err := (&scgi.Server{SocketMode: 0o666}).Listen("unix:" + dir + "/scgi.sock")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	if l, err = (&uwsgi.Server{SocketMode: 0o666}).Listen("unix:" + dir + "/uwsgi.sock"); err != nil {
		t.Fatal(err)
	}
	go u.Serve(l)
	t.Cleanup(func() {
		s.Close()
		u.Close()
	})
}

// testSocket echoes over a WebSocket at url.
func testSocket(t *testing.T, url string) {
	t.Run("a WebSocket [174 187]", func(t *testing.T) {
		c, err := websocket.Dial(strings.Replace(url, "http", "ws", 1), "", "http://origin/")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, message := range []string{"one", strings.Repeat("two", 5000)} {
			var got string
			if err := websocket.Message.Send(c, message); err != nil {
				t.Fatal(err)
			}
			for len(got) < len(message) {
				var more string
				if err := websocket.Message.Receive(c, &more); err != nil {
					t.Fatal(err)
				}
				got += more
			}
			if got != message {
				t.Errorf("%d bytes of %d", len(got), len(message))
			}
		}
	})
}

func TestNginxSiblings(t *testing.T) {
	nginx := integration.Need(t, "nginx", "nginx-light")
	dir := integration.Dir(t)
	serveSiblings(t, dir)
	names := []string{"nginx-uwsgi", "nginx-uwsgi-unbuffered", "nginx-scgi", "nginx-scgi-unbuffered"}
	ports := []int{integration.Port(t), integration.Port(t), integration.Port(t), integration.Port(t)}
	conf := integration.Write(t, dir, "nginx.conf", fmt.Sprintf(`
daemon off;
pid ${DIR}/nginx.pid;
error_log ${DIR}/error.log;
worker_processes 1;
events { worker_connections 256; }
http {
	access_log off;
	client_max_body_size 64m;
	uwsgi_buffer_size 16k;
	uwsgi_buffers 8 16k;
	scgi_buffer_size 16k;
	scgi_buffers 8 16k;
	client_body_temp_path ${DIR}/t1;
	fastcgi_temp_path ${DIR}/t2;
	proxy_temp_path ${DIR}/t3;
	uwsgi_temp_path ${DIR}/t4;
	scgi_temp_path ${DIR}/t5;
	include /etc/nginx/uwsgi_params;
	include /etc/nginx/scgi_params;
	server { listen 127.0.0.1:%d; location / { uwsgi_pass unix:${DIR}/uwsgi.sock; } }
	server { listen 127.0.0.1:%d; location / { uwsgi_pass unix:${DIR}/uwsgi.sock; uwsgi_buffering off; uwsgi_request_buffering off; } }
	server { listen 127.0.0.1:%d; location / { scgi_pass unix:${DIR}/scgi.sock; } }
	server { listen 127.0.0.1:%d; location / { scgi_pass unix:${DIR}/scgi.sock; scgi_buffering off; scgi_request_buffering off; } }
}
`, ports[0], ports[1], ports[2], ports[3]))
	integration.Start(t, dir, loopback(ports[3]), nginx, "-c", conf, "-e", dir+"/error.log")
	for i, name := range names {
		t.Run(name, func(t *testing.T) {
			testFront(t, name, "http://"+loopback(ports[i]))
			testSocket(t, "http://"+loopback(ports[i])+"/socket")
		})
	}
}

func TestApacheSiblings(t *testing.T) {
	apache := integration.Need(t, "apache2", "apache2")
	dir := integration.Dir(t)
	serveSiblings(t, dir)
	script(t, dir, "app.cgi")
	names := []string{"apache-uwsgi", "apache-scgi", "apache-cgid"}
	ports := []int{integration.Port(t), integration.Port(t), integration.Port(t)}
	conf := integration.Write(t, dir, "apache.conf", apacheConf+fmt.Sprintf(`
LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so
LoadModule cgid_module /usr/lib/apache2/modules/mod_cgid.so
LoadModule proxy_uwsgi_module /usr/lib/apache2/modules/mod_proxy_uwsgi.so
LoadModule proxy_scgi_module /usr/lib/apache2/modules/mod_proxy_scgi.so
ScriptSock ${DIR}/cgid.sock
Listen 127.0.0.1:%[1]d
Listen 127.0.0.1:%[2]d
Listen 127.0.0.1:%[3]d
<VirtualHost 127.0.0.1:%[1]d>
	ProxyPass / unix:${DIR}/uwsgi.sock|uwsgi://uapp/
</VirtualHost>
<VirtualHost 127.0.0.1:%[2]d>
	ProxyPass / unix:${DIR}/scgi.sock|scgi://sapp/
</VirtualHost>
<VirtualHost 127.0.0.1:%[3]d>
	ScriptAlias /app ${DIR}/app.cgi
	<Directory ${DIR}>
		Require all granted
	</Directory>
</VirtualHost>
`, ports[0], ports[1], ports[2]))
	integration.Start(t, dir, loopback(ports[2]), apache, "-X", "-f", conf)
	for i, name := range names {
		t.Run(name, func(t *testing.T) {
			url := "http://" + loopback(ports[i])
			if name == "apache-cgid" {
				url += "/app"
			}
			testFront(t, name, url)
		})
	}
}

func TestLighttpdSiblings(t *testing.T) {
	lighttpd := integration.Need(t, "lighttpd", "lighttpd")
	dir := integration.Dir(t)
	serveSiblings(t, dir)
	script(t, dir, "app.cgi")
	for name, conf := range map[string]string{
		"lighttpd-scgi":  `server.modules = ( "mod_scgi" ) scgi.server = ( "/" => (( "socket" => "${DIR}/scgi.sock", "check-local" => "disable" )))`,
		"lighttpd-uwsgi": `server.modules = ( "mod_scgi" ) scgi.protocol = "uwsgi" scgi.server = ( "/" => (( "socket" => "${DIR}/uwsgi.sock", "check-local" => "disable" )))`,
		"lighttpd-cgi":   `server.modules = ( "mod_cgi" ) cgi.assign = ( ".cgi" => "" )`,
	} {
		t.Run(name, func(t *testing.T) {
			port := integration.Port(t)
			file := integration.Write(t, dir, name+".conf", fmt.Sprintf(`
server.document-root = "${DIR}"
server.bind = "127.0.0.1"
server.port = %d
server.errorlog = "${DIR}/error.log"
server.upload-dirs = ( "${DIR}" )
server.max-request-field-size = 65536
`, port)+strings.NewReplacer(") scgi.", ")\nscgi.", `" scgi.`, "\"\nscgi.", ") cgi.", ")\ncgi.").Replace(conf)+"\n")
			integration.Start(t, dir, loopback(port), lighttpd, "-D", "-f", file)
			url := "http://" + loopback(port)
			if name == "lighttpd-cgi" {
				url += "/app.cgi"
			}
			testFront(t, name, url)
		})
	}
}

func TestUWSGIRouter(t *testing.T) {
	program := integration.Need(t, "uwsgi-core", "uwsgi-core")
	dir := integration.Dir(t)
	serveSiblings(t, dir)
	port := integration.Port(t)
	integration.Start(t, dir, loopback(port), program, "--plugins", "http", "--http", loopback(port), "--http-to", dir+"/uwsgi.sock", "--http-timeout", "60", "--master", "--die-on-term")
	testFront(t, "uwsgi-http", "http://"+loopback(port))
}

// reverse puts httputil.ReverseProxy before a client.
func reverse(c gateway.RoundTripper) http.HandlerFunc {
	p := &httputil.ReverseProxy{
		Transport: &gatewayhttp.Transport{Backend: c},
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: "application"})
			p.Out.Host, p.Out.URL.RawQuery = p.In.Host, p.In.URL.RawQuery
		},
	}
	return p.ServeHTTP
}

// sumOf describes a body.
func sumOf(b []byte) string { return fmt.Sprintf("%d %x", len(b), sha256.Sum256(b)) }
