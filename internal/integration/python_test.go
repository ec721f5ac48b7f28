package integration_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/internal/integration"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// seenWSGI responds with the values of its environ in a field, so that a response to HEAD has them
// too. wsgiref.validate checks both sides. It reads more of the body than there is.
const seenWSGI = `
import json, warnings
from wsgiref.validate import validator, WSGIWarning
warnings.simplefilter('error', WSGIWarning)
keys = %s
def seen(env, start):
    body = env['wsgi.input'].read(int(env.get('CONTENT_LENGTH') or 0) + 100)
    values = {key: env[key] for key in keys if key in env}
    values['body'] = body.decode('latin-1')
    start('200 OK', [('Content-Type', 'text/plain'), ('X-Seen', json.dumps(values))])
    return [b'seen']
application = validator(seen)
`

// seenASGI is seenWSGI for ASGI. Of the fields it responds with those that a WSGI application would
// see under these names.
const seenASGI = `
import asyncio, json, os
async def application(scope, receive, send):
    if scope['type'] == 'lifespan':
        while True:
            m = await receive()
            await send({'type': m['type'] + '.complete'})
            if m['type'] == 'lifespan.shutdown': return
    if scope['path'] == '/pieces': return await pieces(send)
    if scope['path'] == '/leave': return await leave(receive, send)
    body, more = b'', True
    while more:
        m = await receive()
        body += m.get('body', b'')
        more = m.get('more_body', False)
    values = {key: scope.get(key) for key in ('method', 'root_path', 'path', 'scheme', 'client', 'server', 'http_version')}
    values['raw_path'] = scope['raw_path'].decode('latin-1')
    values['query_string'] = scope['query_string'].decode('latin-1')
    values['server'] = str(scope.get('server') or '')
    values['client'] = '%%s %%s' %% tuple(scope['client'] or ('', ''))
    values['body'] = body.decode('latin-1')
    for name, value in scope['headers']: values[name.decode('latin-1')] = value.decode('latin-1')
    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-type', b'text/plain'), (b'x-seen', json.dumps(values).encode())]})
    await send({'type': 'http.response.body', 'body': b'seen'})

async def pieces(send):
    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-type', b'text/plain')]})
    for i in range(5):
        while i > 0 and not os.path.exists('%[1]s/go-%%d' %% i): await asyncio.sleep(0.01)
        await send({'type': 'http.response.body', 'body': b'piece %%d' %% i, 'more_body': i < 4})

async def leave(receive, send):
    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-type', b'text/plain')]})
    await send({'type': 'http.response.body', 'body': b'begun', 'more_body': True})
    while True:
        m = await receive()
        if m['type'] == 'http.disconnect': break
    open('%[1]s/left', 'w').close()
`

// A pythonRequest is one of the twelve requests of PYTHON.md.
type pythonRequest struct {
	name, method, target string
	body                 string
	chunked              bool // the body is sent without its length
	bytes                string
	tls                  bool
	user                 string
}

// everyByte holds each byte that the value of a field may have.
var everyByte = func() string {
	b := []byte{'a', '\t'}
	for c := 0x20; c < 0x100; c++ {
		if c != 0x7f {
			b = append(b, byte(c))
		}
	}
	return string(b)
}()

var pythonRequests = []pythonRequest{
	{name: "plain", method: "GET", target: "/plain"},
	{name: "query", method: "GET", target: "/query?a=1&b=%20%ff+"},
	{name: "encoded slash", method: "GET", target: "/a%2Fb"},
	{name: "UTF-8", method: "GET", target: "/caf%C3%A9/x"},
	{name: "no UTF-8", method: "GET", target: "/%ff/x"},
	{name: "every byte", method: "GET", target: "/bytes", bytes: everyByte},
	{name: "POST", method: "POST", target: "/post", body: "a\x00\xffz"},
	{name: "chunked POST", method: "POST", target: "/chunked", body: strings.Repeat("body\n", 500), chunked: true},
	{name: "HEAD", method: "HEAD", target: "/head"},
	{name: "mounted", method: "GET", target: "/app/below?q"},
	{name: "TLS", method: "GET", target: "/tls", tls: true},
	{name: "REMOTE_USER", method: "GET", target: "/user", user: "ada"},
}

// A pythonKey is a value that an application sees, under its names in WSGI and ASGI.
type pythonKey struct {
	wsgi, asgi string // empty means that there is none
	from       string // the params that it comes from
	value      func(r pythonRequest) string
	valueASGI  func(r pythonRequest) string // nil means value
}

const byRewrite = "REMOTE_USER, by Client.Rewrite"

var pythonKeys = []pythonKey{
	{wsgi: "REQUEST_METHOD", asgi: "method", from: "REQUEST_METHOD", value: func(r pythonRequest) string { return r.method }},
	{wsgi: "SCRIPT_NAME", asgi: "root_path", from: "SCRIPT_NAME", value: func(r pythonRequest) string { mount, _ := r.path(); return mount }},
	{wsgi: "PATH_INFO", asgi: "path", from: "PATH_INFO", value: func(r pythonRequest) string { _, path := r.path(); return path }, valueASGI: func(r pythonRequest) string {
		mount, path := r.path()
		return strings.ToValidUTF8(mount+path, "\ufffd")
	}},
	{asgi: "raw_path", from: "REQUEST_URI", value: func(r pythonRequest) string { raw, _, _ := strings.Cut(r.target, "?"); return raw }},
	{wsgi: "QUERY_STRING", asgi: "query_string", from: "QUERY_STRING", value: func(r pythonRequest) string { _, query, _ := strings.Cut(r.target, "?"); return query }},
	{wsgi: "CONTENT_TYPE", asgi: "content-type", from: "CONTENT_TYPE", value: func(r pythonRequest) string {
		if r.body == "" {
			return ""
		}
		return "text/x-seen"
	}},
	{wsgi: "CONTENT_LENGTH", asgi: "content-length", from: "CONTENT_LENGTH", value: func(r pythonRequest) string { return fmt.Sprint(len(r.body)) }},
	{wsgi: "body", asgi: "body", from: "the body", value: func(r pythonRequest) string { return r.body }},
	{
		wsgi: "SERVER_PROTOCOL", asgi: "http_version", from: "SERVER_PROTOCOL", value: func(pythonRequest) string { return "HTTP/1.1" },
		valueASGI: func(pythonRequest) string { return "1.1" },
	},
	{wsgi: "wsgi.url_scheme", asgi: "scheme", from: "HTTPS, REQUEST_SCHEME", value: func(r pythonRequest) string {
		if r.tls {
			return "https"
		}
		return "http"
	}},
	{
		wsgi: "REMOTE_ADDR", asgi: "client", from: "REMOTE_ADDR", value: func(pythonRequest) string { return "127.0.0.1" },
		valueASGI: func(pythonRequest) string { return "127.0.0.1 0" }, // and the port, which no field carries
	},
	{wsgi: "SERVER_NAME", from: "SERVER_NAME", value: func(pythonRequest) string { return "site.example" }},
	{wsgi: "SERVER_PORT", from: "SERVER_PORT", value: func(r pythonRequest) string {
		if r.tls {
			return "443"
		}
		return "80"
	}},
	{asgi: "server", from: "the socket", value: func(pythonRequest) string { return "" }},
	{wsgi: "REMOTE_USER", from: "REMOTE_USER", value: func(r pythonRequest) string { return r.user }},
	{wsgi: "HTTP_X_REMOTE_USER", asgi: "x-remote-user", from: byRewrite, value: func(r pythonRequest) string { return r.user }},
	{wsgi: "HTTP_REMOTE_USER", asgi: "remote-user", from: "HTTP_REMOTE_USER", value: func(pythonRequest) string { return "forged" }},
	{wsgi: "HTTP_X_BYTES", asgi: "x-bytes", from: "HTTP_X_BYTES", value: func(r pythonRequest) string { return r.bytes }},
	{wsgi: "HTTP_HOST", asgi: "host", from: "HTTP_HOST", value: func(pythonRequest) string { return "site.example" }},
}

// path returns the path below which the application is mounted, and the rest of the path.
func (r pythonRequest) path() (mount, rest string) {
	raw, _, _ := strings.Cut(r.target, "?")
	path, _ := url.PathUnescape(raw)
	if rest, found := strings.CutPrefix(path, "/app"); found {
		return "/app", rest
	}
	return "", path
}

// A difference is what a server makes of a value of the table, for every request.
type difference struct{ value, why string }

// A pythonServer runs an application. It starts two if HTTP cannot carry SCRIPT_NAME.
type pythonServer struct {
	name        string
	http        bool // the protocol is HTTP
	asgi        bool
	start       func(t *testing.T, dir string) (root, mounted gateway.RoundTripper)
	differences map[string]difference // by the key
}

var pythonServers = []pythonServer{
	{name: "CGI", start: func(t *testing.T, dir string) (root, mounted gateway.RoundTripper) {
		python(t)
		integration.Write(t, dir, "run.cgi", "#!/usr/bin/python3\nimport sys\nsys.path.insert(0, '${DIR}')\nfrom app import application\nfrom wsgiref.handlers import CGIHandler\nCGIHandler().run(application)\n")
		c := &cgi.Client{Path: dir + "/run.cgi", Logger: quiet}
		return c, c
	}},
	{name: "SCGI script", start: func(t *testing.T, dir string) (root, mounted gateway.RoundTripper) {
		script, err := os.ReadFile("testdata/scgi_wsgi.py")
		if err != nil {
			t.Fatal(err)
		}
		integration.Write(t, dir, "scgi_wsgi.py", string(script))
		onStdin(t, dir, dir+"/scgi.sock", python(t), "scgi_wsgi.py", "app:application")
		c := &scgi.Client{Addr: "unix:" + dir + "/scgi.sock"}
		return c, c
	}},
	{name: "uWSGI", start: func(t *testing.T, dir string) (root, mounted gateway.RoundTripper) {
		startUWSGI(t, dir, "app:application")
		c := &uwsgi.Client{Addr: "unix:" + dir + "/u.sock"}
		return c, c
	}},
	{name: "gunicorn", http: true, start: func(t *testing.T, dir string) (root, mounted gateway.RoundTripper) {
		program := integration.Need(t, "gunicorn", "gunicorn")
		return overHTTP(t, dir, func(socket, mount string) []string {
			return []string{program, "--bind", "unix:" + socket, "--env", "SCRIPT_NAME=" + mount, "app:application"}
		})
	}, differences: map[string]difference{
		"REMOTE_ADDR": {"", "it is empty on a Unix socket; HTTP_X_FORWARDED_FOR has the address"},
		"REMOTE_USER": {"", "HTTP has no place for it; Client.Rewrite can send a field, here X-Remote-User"},
	}},
	{name: "uvicorn", http: true, asgi: true, start: func(t *testing.T, dir string) (root, mounted gateway.RoundTripper) {
		program := integration.Need(t, "uvicorn", "uvicorn")
		return overHTTP(t, dir, func(socket, mount string) []string {
			return []string{program, "--uds", socket, "--root-path", mount, "--forwarded-allow-ips", "*", "--log-level", "warning", "app:application"}
		})
	}},
	{name: "daphne", http: true, asgi: true, start: func(t *testing.T, dir string) (root, mounted gateway.RoundTripper) {
		program := integration.Need(t, "daphne", "daphne")
		return overHTTP(t, dir, func(socket, mount string) []string {
			return []string{program, "-u", socket, "--root-path", mount, "--proxy-headers", "-v", "0", "app:application"}
		})
	}},
}

// python returns the system's interpreter: another one may be another user's.
func python(t *testing.T) string {
	const program = "/usr/bin/python3"
	integration.NeedFile(t, program, "python3")
	return program
}

// onStdin starts a program whose standard input is a listening socket.
func onStdin(t *testing.T, dir, socket string, argv ...string) {
	t.Helper()
	const launch = "import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(64); os.dup2(s.fileno(), 0); os.execv(sys.argv[2], sys.argv[2:])"
	integration.Start(t, dir, socket, append([]string{python(t), "-c", launch, socket}, argv...)...)
}

// overHTTP starts a server for the root and one that is told the path at which it is mounted.
func overHTTP(t *testing.T, dir string, argv func(socket, mount string) []string) (root, mounted gateway.RoundTripper) {
	start := func(name, mount string) gateway.RoundTripper {
		socket := dir + "/" + name
		integration.Start(t, dir, socket, argv(socket, mount)...)
		c := &gatewayhttp.Client{Addr: "unix:" + socket, Rewrite: func(out *http.Request, r *gateway.Request) error {
			out.Header.Del("X-Remote-User")
			if user := r.Params.Get("REMOTE_USER"); user != "" {
				out.Header.Set("X-Remote-User", user)
			}
			return nil
		}}
		t.Cleanup(func() { c.Close() })
		return c
	}
	return start("root.sock", ""), start("mounted.sock", "/app")
}

// pythonFront is a Proxy before both, over HTTP and HTTPS. The field Test-User is the user that it
// has authenticated.
func pythonFront(t *testing.T, root, mounted gateway.RoundTripper) (plain, secure *httptest.Server) {
	t.Helper()
	p := &gatewayhttp.Proxy{
		Mapping: &gatewayhttp.Mapping{Prefix: "/app", Body: gatewayhttp.SpoolBody},
		Logger:  quiet,
		Backend: gateway.RoundTripperFunc(func(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
			if r.ScriptName() == "/app" {
				return mounted.RoundTrip(ctx, r, res)
			}
			return root.RoundTrip(ctx, r, res)
		}),
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user := r.Header.Get("Test-User"); user != "" {
			r = r.WithContext(gatewayhttp.WithParam(r.Context(), "REMOTE_USER", user))
		}
		p.ServeHTTP(w, r)
	})
	plain, secure = httptest.NewServer(h), httptest.NewTLSServer(h)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	return plain, secure
}

// send returns the values that the application has seen.
func (r pythonRequest) send(t *testing.T, plain, secure *httptest.Server) (seen map[string]string) {
	t.Helper()
	s := plain
	if r.tls {
		s = secure
	}
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(r.body)
	}
	req, err := http.NewRequest(r.method, s.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	path, query, _ := strings.Cut(r.target, "?")
	req.URL.Opaque, req.URL.RawQuery = path, query
	req.Host = "site.example"
	req.Header = http.Header{"Remote-User": {"forged"}, "REMOTE_USER": {"forged"}, "X-Remote-User": {"forged"}, "Test-User": {r.user}, "X-Bytes": {r.bytes}}
	if r.chunked {
		req.ContentLength = -1
	}
	if r.body != "" {
		req.Header.Set("Content-Type", "text/x-seen")
	}
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 || r.method != "HEAD" && string(b) != "seen" {
		t.Fatalf("%d %q, %v", res.StatusCode, b, err)
	}
	if err := json.Unmarshal([]byte(res.Header.Get("X-Seen")), &seen); err != nil {
		t.Fatalf("%q: %v", res.Header.Get("X-Seen"), err)
	}
	return seen
}

// TestPython compares what an application sees with the table of PYTHON.md.
func TestPython(t *testing.T) {
	for _, s := range pythonServers {
		items := " [277 278 279 286 287 378 380 381 384]"
		if s.asgi {
			items = " [278 279 280 281 282 283 284 285 379 380]"
		}
		t.Run(s.name+items, func(t *testing.T) {
			dir := integration.Dir(t)
			var keys []string
			for _, k := range pythonKeys {
				if k.wsgi != "" && k.wsgi != "body" {
					keys = append(keys, k.wsgi)
				}
			}
			list, err := json.Marshal(keys)
			if err != nil {
				t.Fatal(err)
			}
			app := fmt.Sprintf(seenWSGI, list)
			if s.asgi {
				app = fmt.Sprintf(seenASGI, dir)
			}
			integration.Write(t, dir, "app.py", app)
			root, mounted := s.start(t, dir)
			plain, secure := pythonFront(t, root, mounted)
			for _, r := range pythonRequests {
				t.Run(r.name, func(t *testing.T) { s.compare(t, r, r.send(t, plain, secure)) })
			}
			if s.asgi {
				t.Run("pieces [383]", func(t *testing.T) { pieces(t, dir, plain.URL) })
				t.Run("a client that leaves [383]", func(t *testing.T) { leaves(t, dir, plain.URL) })
			}
		})
	}
}

// nameOf returns the name of a key for the application of s, or "" if it does not see it.
func (s *pythonServer) nameOf(k pythonKey) string {
	switch {
	case k.from == byRewrite && !s.http:
		return ""
	case s.asgi:
		return k.asgi
	}
	return k.wsgi
}

// compare compares the values with those of the table.
func (s *pythonServer) compare(t *testing.T, r pythonRequest, seen map[string]string) {
	for _, k := range pythonKeys {
		name := s.nameOf(k)
		if name == "" {
			continue
		}
		want, got := k.value(r), seen[name]
		if s.asgi && k.valueASGI != nil {
			want = k.valueASGI(r)
		}
		if d, different := s.differences[name]; different {
			want = d.value
		}
		if name != "path" { // which is decoded
			got = bytesOf(got)
		}
		if k.wsgi == "CONTENT_LENGTH" {
			got = cmp.Or(got, "0") // PEP 3333 allows it to be missing
		}
		if got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// bytesOf returns the bytes of a native string of PEP 3333, which has one character a byte.
func bytesOf(s string) string {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}

// pieces reads a response whose application sends a piece after the one before it has been read.
func pieces(t *testing.T, dir, url string) {
	res, err := http.Get(url + "/pieces")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for i := range 5 {
		piece := make([]byte, len("piece 0"))
		if _, err := io.ReadFull(res.Body, piece); err != nil || string(piece) != fmt.Sprintf("piece %d", i) {
			t.Fatalf("%q, %v", piece, err)
		}
		integration.Write(t, dir, fmt.Sprintf("go-%d", i+1), "")
	}
	if rest, err := io.ReadAll(res.Body); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
}

// leaves breaks off a request. The application receives http.disconnect.
func leaves(t *testing.T, dir, url string) {
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", url+"/leave", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(io.LimitReader(res.Body, 5)); string(b) != "begun" || err != nil {
		t.Fatalf("%q, %v", b, err)
	}
	cancel()
	for range 1000 {
		if _, err := os.Stat(dir + "/left"); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the application does not learn that the client has left")
}

// pythonTable returns the table of PYTHON.md.
func pythonTable() string {
	var b, why strings.Builder
	b.WriteString("| WSGI | ASGI | from |")
	for _, s := range pythonServers {
		fmt.Fprintf(&b, " %s |", s.name)
	}
	b.WriteString("\n|" + strings.Repeat("---|", 3+len(pythonServers)) + "\n")
	for _, k := range pythonKeys {
		fmt.Fprintf(&b, "| %s | %s | %s |", k.wsgi, k.asgi, k.from)
		for _, s := range pythonServers {
			name, word := s.nameOf(k), "ok"
			d, different := s.differences[name]
			switch {
			case name == "":
				word = "–"
			case different:
				word = "**D**"
				fmt.Fprintf(&why, "- %s, %s: %s\n", s.name, name, d.why)
			}
			fmt.Fprintf(&b, " %s |", word)
		}
		b.WriteString("\n")
	}
	var names []string
	for _, r := range pythonRequests {
		names = append(names, r.name)
	}
	return b.String() + "\n" + why.String() + "\nThe requests are: " + strings.Join(names, ", ") + ".\n"
}

// TestPythonTable compares PYTHON.md with the tests' table.
func TestPythonTable(t *testing.T) {
	if err := compareTable("PYTHON.md", pythonTable()); err != nil {
		t.Error(err)
	}
}
