package integration_test

import (
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/internal/integration"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// asgiApp is wsgiApp for ASGI, with an echo of WebSockets.
const asgiApp = `
import hashlib
async def application(scope, receive, send):
    if scope['type'] == 'lifespan':
        while True:
            m = await receive()
            await send({'type': m['type'] + '.complete'})
            if m['type'] == 'lifespan.shutdown': return
    if scope['type'] == 'websocket':
        await receive()
        await send({'type': 'websocket.accept'})
        while True:
            m = await receive()
            if m['type'] != 'websocket.receive': return
            await send({'type': 'websocket.send', 'text': m.get('text') or ''})
    headers = scope['headers']
    path = scope['path']
    async def body():
        more = True
        while more:
            m = await receive()
            if m['type'] != 'http.request': raise IOError('the body is cut')
            more = m.get('more_body', False)
            yield m.get('body', b'')
    async def respond(status, fields, content):
        await send({'type': 'http.response.start', 'status': status, 'headers': fields})
        await send({'type': 'http.response.body', 'body': content})
    text = [(b'content-type', b'text/plain')]
    binary = [(b'content-type', b'application/octet-stream')]
    field = lambda name: b'; '.join(v for n, v in headers if n == name)
    if path == '/echo':
        b = b''.join([piece async for piece in body()])
        await respond(200, binary + [(b'x-query', scope['query_string']), (b'x-big', str(len(field(b'x-big-11'))).encode()), (b'content-length', str(len(b)).encode())], b)
    elif path == '/down':
        await respond(200, binary, open('${DIR}/ten.bin', 'rb').read())
    elif path == '/sum':
        sum, n = hashlib.sha256(), 0
        async for piece in body():
            sum.update(piece)
            n += len(piece)
        await respond(200, text, ('%d %s <nil>' % (n, sum.hexdigest())).encode())
    elif path == '/fields':
        await respond(200, text + [(b'set-cookie', b'a=1'), (b'set-cookie', b'b=2')] + [(b'x-field-%02d' % i, b'v' * 95) for i in range(80)], b'fields')
    elif path in ('/500', '/panic'):
        await respond(500, text, b'five hundred')
    elif path.startswith('/path'):
        target = scope['raw_path'] + (b'?' + scope['query_string'] if scope['query_string'] else b'')
        await respond(200, text, path.encode() + b' ' + target + b' ' + field(b'cookie'))
    elif path == '/client':
        await respond(200, text, repr((scope['client'], scope['scheme'])).encode())
    else:
        await respond(404, text, b'not here')
`

// httpBacks start HTTP applications on a Unix socket in dir.
var httpBacks = map[string]func(t *testing.T, dir string){
	"uvicorn": func(t *testing.T, dir string) {
		integration.Write(t, dir, "app.py", asgiApp)
		integration.Start(t, dir, dir+"/http.sock", integration.Need(t, "uvicorn", "uvicorn"), "--uds", dir+"/http.sock", "--forwarded-allow-ips", "*", "--log-level", "warning", "app:application")
	},
	"daphne": func(t *testing.T, dir string) {
		integration.Write(t, dir, "app.py", asgiApp)
		integration.Start(t, dir, dir+"/http.sock", integration.Need(t, "daphne", "daphne"), "-u", dir+"/http.sock", "--proxy-headers", "-v", "0", "app:application")
	},
	"gunicorn": func(t *testing.T, dir string) {
		integration.Write(t, dir, "app.py", wsgiApp)
		integration.Start(t, dir, dir+"/http.sock", integration.Need(t, "gunicorn", "gunicorn"), "--bind", "unix:"+dir+"/http.sock", "--threads", "4", "--worker-class", "gthread",
			"--limit-request-field_size", "0", "app:application")
	},
}

// TestHTTPBacks runs the cases of the front ends over gatewayhttp.Client.
func TestHTTPBacks(t *testing.T) {
	for name, start := range httpBacks {
		t.Run(name, func(t *testing.T) {
			dir := integration.Dir(t)
			writeTen(t, dir)
			start(t, dir)
			c := &gatewayhttp.Client{Addr: "unix:" + dir + "/http.sock"}
			t.Cleanup(func() { c.Close() })
			url := before(t, c, nil)
			testFront(t, name, url)
			if name == "gunicorn" {
				testPaths(t, url)
				return
			}
			testSocket(t, url+"/socket")
			s := httptest.NewServer(reverse(c))
			defer s.Close()
			testSocket(t, s.URL+"/socket")
			if o := conformance.Ask(t, c, gatewaytest.NewRequest("GET", "/client", nil)); o.Err != nil || o.Body != `(['127.0.0.1', 0], 'http')` && o.Body != `(('127.0.0.1', 0), 'http')` {
				t.Errorf("%q, %v", o.Body, o.Err)
			}
		})
	}
}

// TestIdleGunicorn sends POSTs after pauses around the 2 s for which gunicorn keeps a connection.
func TestIdleGunicorn(t *testing.T) {
	t.Run("no POST meets a connection that is being closed [371]", func(t *testing.T) {
		dir := integration.Dir(t)
		writeTen(t, dir)
		httpBacks["gunicorn"](t, dir)
		c := &gatewayhttp.Client{Addr: "unix:" + dir + "/http.sock"}
		done := make(chan struct{})
		for i := range 40 {
			go func() {
				defer func() { done <- struct{}{} }()
				for j := range 3 {
					r := gatewaytest.NewRequest("POST", "/echo", []byte("hello"))
					if o := conformance.Ask(t, c, r); o.Err != nil || o.Body != "hello" {
						t.Errorf("%q, %v", o.Body, o.Err)
					}
					time.Sleep(time.Duration((i*3+j)%40) * 50 * time.Millisecond)
				}
			}()
		}
		for range 40 {
			<-done
		}
	})
}

// TestFrames sends 10,000 frames of a WebSocket in each direction, and then ends one direction.
func TestFrames(t *testing.T) {
	for _, name := range []string{"uvicorn", "daphne"} {
		t.Run(name, func(t *testing.T) {
			dir := integration.Dir(t)
			httpBacks[name](t, dir)
			c := &gatewayhttp.Client{Addr: "unix:" + dir + "/http.sock"}
			t.Cleanup(func() { c.Close() })
			serveProxies(t, dir, &gateway.Proxy{Backend: c})
			for way, c := range map[string]gateway.RoundTripper{
				"http":  c,
				"scgi":  &scgi.Client{Addr: "unix:" + dir + "/front-s.sock"},
				"uwsgi": &uwsgi.Client{Addr: "unix:" + dir + "/front-u.sock"},
			} {
				t.Run(way+" [369]", func(t *testing.T) { frames(t, before(t, c, nil)+"/socket") })
			}
			t.Run("FastCGI has no room for it [369]", func(t *testing.T) {
				url := before(t, &fastcgi.Client{Addr: "unix:" + dir + "/front-f.sock", Logger: quiet}, nil) + "/socket"
				if c, err := websocket.Dial(strings.Replace(url, "http", "ws", 1), "", "http://origin/"); err == nil {
					c.Close()
					t.Error("a WebSocket through FastCGI")
				}
			})
		})
	}
}

// frames sends 10,000 messages while it receives their echoes, and ends its direction: the server
// ends the other.
func frames(t *testing.T, url string) {
	raw, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(time.Minute))
	config, err := websocket.NewConfig(strings.Replace(url, "http", "ws", 1), "http://origin/")
	if err != nil {
		t.Fatal(err)
	}
	c, err := websocket.NewClient(config, raw)
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		for i := range 10000 {
			if err := websocket.Message.Send(c, fmt.Sprint("message ", i)); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for i := range 10000 {
		var got string
		if err := websocket.Message.Receive(c, &got); err != nil || got != fmt.Sprint("message ", i) {
			t.Fatalf("message %d is %q, %v", i, got, err)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	raw.(*net.TCPConn).CloseWrite()
	if _, err := io.Copy(io.Discard, raw); err != nil {
		t.Errorf("the server does not end its direction: %v", err)
	}
}
