//go:build unix

package conformance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

var quiet = slog.New(slog.DiscardHandler)

var protocols = []string{"cgi", "fastcgi", "scgi", "uwsgi", "http"}

// Variables that make this program a CGI script: one that is a handler of the suite, or one that
// passes requests on.
const (
	isHandler = "GATEHOUSE_TEST_HANDLER"
	isProxy   = "GATEHOUSE_TEST_PROXY"
	isBench   = "GATEHOUSE_TEST_BENCH"
)

func TestMain(m *testing.M) {
	if lib := os.Getenv(isBench); lib != "" {
		if script(lib) != nil {
			os.Exit(1)
		}
		return
	}
	name, proxy := os.Getenv(isHandler), os.Getenv(isProxy)
	os.Unsetenv(isHandler)
	os.Unsetenv(isProxy)
	h := conformance.Handlers[name]
	if proxy != "" {
		protocol, addr, _ := strings.Cut(proxy, " ")
		h = passing(client(nil, protocol, addr))
	}
	if h == nil {
		os.Exit(m.Run())
	}
	err := (&cgi.Server{Handler: h, Logger: quiet}).Serve(context.Background())
	if status, ok := errors.AsType[cgi.ExitStatus](err); ok {
		os.Exit(int(status))
	}
	if err != nil {
		os.Exit(1)
	}
}

// passing is a proxy that takes bodies of unknown length, too.
func passing(b gateway.RoundTripper) gateway.Handler {
	return &gateway.Proxy{Backend: &gateway.Spool{Backend: b}}
}

// client is that of a protocol: at an address, or, of CGI, of a handler.
func client(t testing.TB, protocol, addr string) gateway.RoundTripper {
	switch protocol {
	case "fastcgi":
		return &fastcgi.Client{Addr: addr, UnknownLength: true, Logger: quiet}
	case "scgi":
		return &scgi.Client{Addr: addr}
	case "uwsgi":
		return &uwsgi.Client{Addr: addr}
	case "http":
		return &gatewayhttp.Client{Addr: addr}
	}
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return &cgi.Client{Path: path, Env: append(conformance.Environ(t), isHandler+"="+addr), Logger: quiet}
}

func server(protocol string, h gateway.Handler) gatewaytest.Server {
	switch protocol {
	case "fastcgi":
		return &fastcgi.Server{Handler: h, Logger: quiet}
	case "scgi":
		return &scgi.Server{Handler: h, Logger: quiet}
	case "http":
		return overHTTP(gateway.InProcess(h), 500)
	}
	return &uwsgi.Server{Handler: h, Logger: quiet}
}

// overHTTP serves HTTP before a backend. failed is the status for a response that cannot be passed
// on.
func overHTTP(b gateway.RoundTripper, failed int) gatewaytest.Server {
	p := &gatewayhttp.Proxy{Backend: b, Logger: quiet, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
		status := gateway.ErrorStatus(err)
		if status == http.StatusBadGateway {
			status = failed
		}
		w.WriteHeader(status)
	}}
	return httpServer{&http.Server{Handler: p, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}}
}

type httpServer struct{ *http.Server }

func (s httpServer) Serve(l net.Listener) error {
	if err := s.Server.Serve(l); err != http.ErrServerClosed {
		return err
	}
	return gateway.ErrServerClosed
}

// application serves a handler over a protocol and returns the client of it.
func application(t *testing.T, protocol, handler string) (addr string) {
	if protocol == "cgi" {
		return handler
	}
	return gatewaytest.Start(t, server(protocol, conformance.Handlers[handler]))
}

// chain is a client of one protocol, a proxy, and an application of another. inner is the proxy's
// client, nil if it is in another process.
func chain(t *testing.T, front, back, handler string) (outer, inner gateway.RoundTripper) {
	addr := application(t, back, handler)
	if front == "http" {
		inner = client(t, back, addr)
		return client(t, front, gatewaytest.Start(t, overHTTP(&gateway.Spool{Backend: inner}, 502))), inner
	}
	if front != "cgi" {
		inner = client(t, back, addr)
		return client(t, front, gatewaytest.Start(t, server(front, passing(inner)))), inner
	}
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &cgi.Client{Path: path, Env: append(conformance.Environ(t), isProxy+"="+back+" "+addr), Logger: quiet}, nil
}

// TestMatrix puts every protocol before every other: what DESIGN calls all that may change on the
// way is all that does.
func TestMatrix(t *testing.T) {
	for _, front := range protocols {
		for _, back := range protocols {
			item := ""
			if front == "http" || back == "http" {
				item = " [376]"
			}
			t.Run(front+" to "+back+item, func(t *testing.T) {
				t.Parallel()
				t.Run("params", func(t *testing.T) { paramsPass(t, front, back) })
				t.Run("bodies", func(t *testing.T) { bodiesPass(t, front, back) })
				t.Run("responses", func(t *testing.T) { responsesPass(t, front, back) })
				t.Run("ends", func(t *testing.T) { endsPass(t, front, back) })
			})
		}
	}
}

// paramsPass compares the params that arrive with those that were sent.
func paramsPass(t *testing.T, front, back string) {
	c, _ := chain(t, front, back, "params")
	r := gatewaytest.NewRequest("GET", "/caf%C3%A9/a%2Fb?x=%20&y", nil)
	for _, nv := range [][2]string{
		{"HTTP_HOST", "h:8080"}, {"HTTP_X_LATIN", "caf\xe9 \xff"}, {"HTTP_EMPTY", ""}, {"HTTP_COOKIE", "a=1"}, {"HTTP_X", "1"},
		{"SSL_CLIENT_CERT", "-----BEGIN\nline\n"}, {"HTTPS", "on"}, {"REMOTE_USER", ""}, {"HTTP_COOKIE", "b=2"}, {"HTTP_X", "2"},
	} {
		r.Params.Add(nv[0], nv[1])
	}
	want := []string{
		`REQUEST_METHOD="GET"`, `REQUEST_URI="/caf%C3%A9/a%2Fb?x=%20&y"`, `SCRIPT_NAME=""`, `PATH_INFO="/café/a/b"`, `QUERY_STRING="x=%20&y"`,
		`HTTP_HOST="h:8080"`, `HTTP_X_LATIN="caf\xe9 \xff"`, `HTTP_EMPTY=""`, `HTTP_COOKIE="a=1; b=2"`, `HTTP_X="1, 2"`,
		`SSL_CLIENT_CERT="-----BEGIN\nline\n"`, `HTTPS="on"`, `REMOTE_USER=""`,
	}
	dropped := []string{"HTTP_PROXY", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_TE", "HTTP_TRAILER", "HTTP_KEEP_ALIVE",
		"HTTP_CONNECTION", "HTTP_UPGRADE"}
	for _, name := range dropped {
		r.Params.Set(name, "dropped")
	}
	o := conformance.Ask(t, c, r)
	if o.Err != nil || o.Res.Status != 200 {
		t.Fatalf("%d %q, %v", o.Res.Status, o.Body, o.Err)
	}
	var got []string
	for line := range strings.Lines(o.Body) {
		line = strings.TrimSuffix(line, "\n")
		if slices.Contains(want, line) {
			got = append(got, line)
		}
		if strings.Contains(line, "dropped") || strings.HasPrefix(line, "SCGI=") && back != "scgi" {
			t.Errorf("016 %s is passed on", line)
		}
	}
	if front == "http" || back == "http" { // HTTP has no place for these
		want = slices.DeleteFunc(want, func(line string) bool {
			return strings.HasPrefix(line, "SSL_") || strings.HasPrefix(line, "HTTPS=") || strings.HasPrefix(line, "REMOTE_USER=") || strings.HasPrefix(line, "SCRIPT_NAME=")
		})
		got = slices.DeleteFunc(got, func(line string) bool { return !slices.Contains(want, line) })
	}
	// Values come as they were sent, and, where the wire has an order, so do names.
	if !ordered(front) || !ordered(back) {
		slices.Sort(got)
		slices.Sort(want)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v\nof %s", got, want, o.Body)
	}
}

// ordered reports whether a protocol keeps the order of params.
func ordered(protocol string) bool { return protocol != "cgi" && protocol != "http" }

func bodiesPass(t *testing.T, front, back string) {
	c, inner := chain(t, front, back, "echo")
	for _, size := range []int{0, 5, 20000, 300000} {
		body := bytes.Repeat([]byte{'b'}, size)
		if o := conformance.Ask(t, c, gatewaytest.NewRequest("POST", "/", body)); o.Err != nil || o.Body != string(body) || o.Res.Header.Get("X-Length") != fmt.Sprint(size) {
			t.Errorf("%d bytes: %d, %d bytes, %v", size, o.Res.Status, len(o.Body), o.Err)
		}
	}
	if front != "fastcgi" {
		return
	}
	r := gatewaytest.NewRequest("POST", "/", nil)
	r.Body, r.ContentLength, r.GetBody = io.MultiReader(strings.NewReader("no"), strings.NewReader(" length")), -1, nil
	if o := conformance.Ask(t, c, r); o.Err != nil || o.Body != "no length" || o.Res.Header.Get("X-Length") != "9" {
		t.Errorf("080 %q, %v", o.Body, o.Err)
	}
	settled(t, inner)
}

func responsesPass(t *testing.T, front, back string) {
	c, inner := chain(t, front, back, "responses")
	get := func(path string) *conformance.Outcome {
		return conformance.Ask(t, c, gatewaytest.NewRequest("GET", path, nil))
	}
	o := get("/fields")
	var fields []string
	for name, value := range o.Res.Header.All() {
		fields = append(fields, fmt.Sprintf("%s=%q", name, value))
	}
	want := []string{`Set-Cookie="a=1"`, `X-First="1"`, `Set-Cookie="b=2"`, `X-Bytes="café \xff"`, `X-Empty=""`}
	if front == "http" || back == "http" {
		fields = slices.DeleteFunc(fields, func(f string) bool { return strings.HasPrefix(f, "Date=") })
		slices.Sort(fields)
		slices.Sort(want)
	}
	if got := fmt.Sprint(fields); o.Err != nil || o.Res.Status != 207 || got != fmt.Sprint(want) {
		t.Errorf("%d %s, %v", o.Res.Status, got, o.Err)
	}
	for path, want := range map[string]string{
		"/404": "404 not here", "/error": "500 ", "/param": "400 ", "/panic": "500 ", "/204": "204 ", "/304": "304 ", "/unread": "200 not read", "/large": "200 large",
		"/pieces": "200 piece 0\npiece 1\npiece 2\n", "/bad-value": "500 ", "/interim": "200 none", "/hijack": "200 none",
	} {
		if o := get(path); o.Err != nil || fmt.Sprint(o.Res.Status, " ", o.Body) != want {
			t.Errorf("%s: %d %q, %v", path, o.Res.Status, o.Body, o.Err)
		}
	}
	if o := conformance.Ask(t, c, gatewaytest.NewRequest("HEAD", "/head", nil)); o.Err != nil || o.Res.ContentLength != 10 {
		t.Errorf("HEAD: %d, %v", o.Res.ContentLength, o.Err)
	}
	for _, path := range []string{"/late", "/short"} {
		if o := get(path); !errors.Is(o.Err, gateway.ErrTruncated) {
			t.Errorf("%s: %q, %v", path, o.Body, o.Err)
		}
	}
	r := gatewaytest.NewRequest("GET", "/stderr", nil)
	var errs bytes.Buffer
	r.Stderr = &errs
	o = conformance.Ask(t, c, r)
	has := func(p string) bool { return p == "fastcgi" || p == "cgi" }
	if both := has(front) && has(back); o.Err != nil || o.Body != "said" || both && (errs.String() != "a word\n" || o.Res.AppStatus != 7) {
		t.Errorf("STDERR %q, status %d, %v", errs.String(), o.Res.AppStatus, o.Err)
	}
	settled(t, inner)
}

func endsPass(t *testing.T, front, back string) {
	c, inner := chain(t, front, back, "responses")
	ctx, cancel := context.WithCancel(t.Context())
	var res gateway.Response
	if err := c.RoundTrip(ctx, gatewaytest.NewRequest("GET", "/wait", nil), &res); err != nil {
		t.Fatal(err)
	}
	io.ReadFull(res.Body, make([]byte, 5))
	cancel()
	if _, err := io.ReadAll(res.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	res.Body.Close()
	settled(t, inner)
	if back == "cgi" || front == "cgi" {
		return
	}
	// A backend that is not there, and one that closes without a word.
	s := server(front, passing(client(t, back, "127.0.0.1:1")))
	if front == "http" {
		s = overHTTP(client(t, back, "127.0.0.1:1"), 502)
	}
	gone := client(t, front, gatewaytest.Start(t, s))
	if o := conformance.Ask(t, gone, gatewaytest.NewRequest("GET", "/", nil)); o.Err != nil || o.Res.Status != 502 {
		t.Errorf("a backend that has ended: %d, %v", o.Res.Status, o.Err)
	}
}

// settled waits until the client has no exchange under way.
func settled(t *testing.T, c gateway.RoundTripper) {
	t.Helper()
	s, ok := c.(interface{ Stats() gateway.Stats })
	for i := 0; ok && s.Stats().InFlight > 0; i++ {
		if time.Sleep(time.Millisecond); i == 5000 {
			t.Fatalf("%+v", s.Stats())
		}
	}
}
