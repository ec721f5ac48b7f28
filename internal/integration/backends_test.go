package integration_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/internal/integration"
	"github.com/gatehouse-go/gatehouse/scgi"
)

// A backend is an application of a framework, in a server that speaks HTTP on a Unix socket. It is
// mounted at /app, and responds with what the framework says of the request: path, below root, and
// root, scheme, client and body.
type backend struct {
	name  string
	app   string // its source
	below bool   // it is to receive the path below the mount
	start func(t *testing.T, dir, socket string)
}

const djangoApp = `
import django
from django.conf import settings
settings.configure(SECRET_KEY='x', ALLOWED_HOSTS=['*'], ROOT_URLCONF=__name__, MIDDLEWARE=[])
django.setup()
from django.http import JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
@csrf_exempt
def view(r, name=None):
    root = r.META.get('SCRIPT_NAME') or r.scope['root_path'] # the latter in ASGI
    client = r.META['REMOTE_ADDR'] or r.META['HTTP_X_FORWARDED_FOR']
    return JsonResponse({'path': r.path_info, 'root': root, 'scheme': r.scheme, 'client': client, 'body': r.body.decode(), 'query': r.META['QUERY_STRING']})
urlpatterns = [path('café/<name>', view), path('x', view)]
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
asgi, wsgi = get_asgi_application(), get_wsgi_application()
`

const starletteApp = `
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
async def view(r):
    path = r.scope['path'].removeprefix(r.scope['root_path'])
    return JSONResponse({'path': path, 'root': r.scope['root_path'], 'scheme': r.url.scheme, 'client': r.client.host, 'body': (await r.body()).decode(), 'query': r.url.query})
async def echo(socket):
    await socket.accept()
    async for text in socket.iter_text(): await socket.send_text(text)
application = Starlette(routes=[Route('/café/{name}', view, methods=['GET', 'POST']), Route('/x', view), WebSocketRoute('/socket', echo)])
`

const flaskApp = `
from flask import Flask, jsonify, request
from werkzeug.middleware.proxy_fix import ProxyFix
application = Flask(__name__)
application.wsgi_app = ProxyFix(application.wsgi_app)
@application.route('/café/<name>', methods=['GET', 'POST'])
def view(name):
    return jsonify(path=request.path, root=request.script_root, scheme=request.scheme, client=request.remote_addr, body=request.get_data(as_text=True), query=request.query_string.decode())
`

const nodeApp = `
require('http').createServer((r, w) => {
	let body = ''
	r.on('data', piece => body += piece).on('end', () => {
		const [path, query] = r.url.split('?'), root = r.headers['x-script-name']
		w.end(JSON.stringify({path: decodeURIComponent(path.slice(root.length)), root, scheme: r.headers['x-forwarded-proto'], client: r.headers['x-forwarded-for'], body, query}))
	})
}).listen(process.argv[2])
`

var backends = []backend{
	{"Django (ASGI), uvicorn", djangoApp, false, startUvicorn("asgi", "python3-django")},
	{"Django (ASGI), daphne", djangoApp, false, func(t *testing.T, dir, socket string) {
		needModule(t, "django", "python3-django")
		integration.Start(t, dir, socket, integration.Need(t, "daphne", "daphne"), "-u", socket, "--root-path", "/app", "--proxy-headers", "-v", "0", "app:asgi")
	}},
	{"Django (WSGI), gunicorn", djangoApp, false, startGunicorn("wsgi", "python3-django")},
	{"Starlette, uvicorn", starletteApp, true, startUvicorn("application", "python3-starlette")},
	{"Flask, gunicorn", flaskApp, false, startGunicorn("application", "python3-flask")},
	{"node", nodeApp, false, func(t *testing.T, dir, socket string) {
		integration.Start(t, dir, socket, integration.Need(t, "node", "nodejs"), "app.py", socket)
	}},
}

// needModule skips the test without a module of Python, which is named as its package is.
func needModule(t *testing.T, module, pkg string) {
	t.Helper()
	integration.NeedFile(t, "/usr/lib/python3/dist-packages/"+module+"/__init__.py", pkg)
}

func startUvicorn(name, pkg string) func(t *testing.T, dir, socket string) {
	return func(t *testing.T, dir, socket string) {
		needModule(t, strings.TrimPrefix(pkg, "python3-"), pkg)
		integration.Start(t, dir, socket, integration.Need(t, "uvicorn", "uvicorn"), "--uds", socket, "--root-path", "/app", "--forwarded-allow-ips", "*", "--log-level", "warning", "app:"+name)
	}
}

func startGunicorn(name, pkg string) func(t *testing.T, dir, socket string) {
	return func(t *testing.T, dir, socket string) {
		needModule(t, strings.TrimPrefix(pkg, "python3-"), pkg)
		integration.Start(t, dir, socket, integration.Need(t, "gunicorn", "gunicorn"), "--bind", "unix:"+socket, "--env", "SCRIPT_NAME=/app", "app:"+name)
	}
}

// backFronts are the ways to a backend.
var backFronts = []string{"nginx fastcgi_pass", "nginx scgi_pass", "nginx uwsgi_pass", "our HTTP front"}

// frontsOf starts the ways to a client, over TLS, and returns their URLs.
func frontsOf(t *testing.T, dir string, c gateway.RoundTripper) map[string]string {
	t.Helper()
	p := httptest.NewTLSServer(&gatewayhttp.Proxy{Mapping: &gatewayhttp.Mapping{Prefix: "/app"}, Backend: c, Logger: quiet})
	t.Cleanup(p.Close)
	integration.Certificate(t, dir)
	serveProxies(t, dir, &gateway.Proxy{Backend: c, Rewrite: gateway.MountAt("/app")})
	urls := map[string]string{"our HTTP front": p.URL}
	var servers strings.Builder
	var port int
	for name, socket := range map[string]string{"fastcgi": "front-f.sock", "scgi": "front-s.sock", "uwsgi": "front-u.sock"} {
		port = integration.Port(t)
		urls["nginx "+name+"_pass"] = "https://" + loopback(port)
		fmt.Fprintf(&servers, "server { listen 127.0.0.1:%d ssl; ssl_certificate ${DIR}/cert.pem; ssl_certificate_key ${DIR}/key.pem; location / { include /etc/nginx/%[2]s_params; %[2]s_pass unix:${DIR}/%[3]s; } }\n",
			port, name, socket)
	}
	startNginx(t, dir, loopback(port), servers.String())
	return urls
}

// fromElsewhere is a client whose address is 127.0.0.2, which no other process here has.
func fromElsewhere(t *testing.T) *http.Client {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(integration.Host(t, 2))}}
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DialContext: d.DialContext}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// TestBackends compares what each framework says of a request with what was sent, and makes the
// table of BACKENDS.md.
func TestBackends(t *testing.T) {
	right := make(map[string]bool) // the cells
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			dir := integration.Dir(t)
			socket := dir + "/http.sock"
			integration.Write(t, dir, "app.py", b.app)
			b.start(t, dir, socket)
			c := &gatewayhttp.Client{Addr: "unix:" + socket, Rewrite: func(out *http.Request, r *gateway.Request) error {
				out.Header.Set("X-Script-Name", string(r.ScriptName()))
				if b.below {
					out.URL.Opaque = strings.TrimPrefix(out.URL.Opaque, string(r.ScriptName()))
				}
				return nil
			}}
			t.Cleanup(func() { c.Close() })
			for name, url := range frontsOf(t, dir, c) {
				right[b.name+name] = t.Run(name+" [462]", func(t *testing.T) { says(t, fromElsewhere(t), url) })
			}
			if strings.HasPrefix(b.name, "Starlette") {
				testSocket(t, before(t, c, &gatewayhttp.Mapping{Prefix: "/app"})+"/app/socket")
				testSocket(t, before(t, &scgi.Client{Addr: "unix:" + dir + "/front-s.sock"}, nil)+"/app/socket")
			}
		})
	}
	if len(right) < len(backends)*len(backFronts) && !*update {
		return // a peer is absent
	}
	if err := compareTable("BACKENDS.md", backTable(right)); err != nil {
		t.Error(err)
	}
}

// backTable returns the table of BACKENDS.md.
func backTable(right map[string]bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| application | %s |\n|---|%s\n", strings.Join(backFronts, " | "), strings.Repeat("---|", len(backFronts)))
	for _, back := range backends {
		fmt.Fprintf(&b, "| %s |", back.name)
		for _, front := range backFronts {
			word := "ok"
			if !right[back.name+front] {
				word = "**F**"
			}
			fmt.Fprintf(&b, " %s |", word)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// says sends a request that claims to be another's, and compares what the framework says of it.
func says(t *testing.T, c *http.Client, url string) {
	body := strings.Repeat("the body ", 1000)
	req, err := http.NewRequest("POST", url+"/app/caf%C3%A9/x?q=%20", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {"other"}, "Forwarded": {"for=192.0.2.1;proto=http"}, "X-Real-Ip": {"192.0.2.1"}, "X-Script-Name": {"/other"}}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	var said map[string]string
	if err != nil || json.Unmarshal(b, &said) != nil || res.StatusCode != 200 {
		t.Fatalf("%d %q, %v", res.StatusCode, b, err)
	}
	want := map[string]string{"path": "/café/x", "root": "/app", "scheme": "https", "client": "127.0.0.2", "body": body, "query": "q=%20"}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if said[key] != want[key] {
			t.Errorf("%s is %q, want %q", key, said[key], want[key])
		}
	}
}

// TestForwarded sends the fields of a proxy over plain HTTP. Without TrustForwarded an application
// believes none of them, with it all.
func TestForwarded(t *testing.T) {
	fields := http.Header{"X-Forwarded-For": {"192.0.2.7"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Ssl": {"on"}, "X-Forwarded-Host": {"other"}}
	ask := func(t *testing.T, c gateway.RoundTripper, path string, trust bool) (said map[string]string) {
		t.Helper()
		_, body := fetch(t, before(t, c, &gatewayhttp.Mapping{Prefix: "/app", TrustForwarded: trust})+path, fields)
		if err := json.Unmarshal([]byte(body), &said); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		return said
	}
	schemes := map[bool]string{false: "http", true: "https"}
	t.Run("Django in uWSGI [455 456 457 F53]", func(t *testing.T) {
		needModule(t, "django", "python3-django")
		dir := integration.Dir(t)
		integration.Write(t, dir, "app.py", djangoApp)
		startUWSGI(t, dir, "app:wsgi")
		for name, c := range threeWays(dir) {
			for trust, scheme := range schemes {
				if said := ask(t, c, "/app/x", trust); said["scheme"] != scheme || said["client"] != "127.0.0.1" {
					t.Errorf("%s, trusted %v: %v", name, trust, said)
				}
			}
		}
	})
	t.Run("Starlette in uvicorn [361 455 456]", func(t *testing.T) {
		dir := integration.Dir(t)
		socket := dir + "/http.sock"
		integration.Write(t, dir, "app.py", starletteApp)
		startUvicorn("application", "python3-starlette")(t, dir, socket)
		clients := map[bool]string{false: "127.0.0.1", true: "192.0.2.7"}
		for trust, scheme := range schemes {
			c := &gatewayhttp.Client{Addr: "unix:" + socket, TrustForwarded: trust}
			if said := ask(t, c, "/x", trust); said["scheme"] != scheme || said["client"] != clients[trust] {
				t.Errorf("trusted %v: %v", trust, said)
			}
			c.Close()
		}
	})
}
