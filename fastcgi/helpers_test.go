package fastcgi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

// This file has the helpers of the tests: records as bytes, a server that receives bytes, and a
// client that receives bytes.

var quiet = slog.New(slog.DiscardHandler)

// rec is a record, unpadded.
func rec(typ fastcgi.Type, id uint16, content string) string {
	return padded(typ, id, content, 0)
}

// padded is a record with padding that means nothing.
func padded(typ fastcgi.Type, id uint16, content string, padding int) string {
	return string([]byte{1, byte(typ), byte(id >> 8), byte(id), byte(len(content) >> 8), byte(len(content)), byte(padding), 0x5a}) +
		content + strings.Repeat("\xdb", padding)
}

func begin(id uint16, role gateway.Role, keep bool) string {
	flags := "\x00"
	if keep {
		flags = "\x01"
	}
	return rec(fastcgi.TypeBegin, id, string([]byte{byte(role >> 8), byte(role)})+flags+"\xde\xad\xbe\xef\x00")
}

func end(id uint16, appStatus uint32, status fastcgi.ProtocolStatus) string {
	b, err := fastcgi.AppendEnd(nil, id, fastcgi.End{AppStatus: appStatus, Status: status})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// pairs is the content of PARAMS: name, value, name, value.
func pairs(nv ...string) string {
	var b []byte
	for i := 0; i < len(nv); i += 2 {
		var err error
		if b, err = fastcgi.AppendParam(b, nv[i], nv[i+1]); err != nil {
			panic(err)
		}
	}
	return string(b)
}

// head is BEGIN_REQUEST and PARAMS.
func head(id uint16, role gateway.Role, keep bool, nv ...string) string {
	return begin(id, role, keep) + rec(fastcgi.TypeParams, id, pairs(nv...)) + rec(fastcgi.TypeParams, id, "")
}

func stdin(id uint16, content string) string { return rec(fastcgi.TypeStdin, id, content) }

// get is a whole request without a body.
func get(id uint16, keep bool) string {
	return head(id, gateway.RoleResponder, keep, "REQUEST_METHOD", "GET", "PATH_INFO", "/") + stdin(id, "")
}

const okHead = "Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n"

// response is a whole response.
func response(id uint16, content string) string {
	return rec(fastcgi.TypeStdout, id, content) + rec(fastcgi.TypeStdout, id, "") + end(id, 0, fastcgi.StatusComplete)
}

// echo responds with the method, the ContentLength, the body and the error that ended it.
var echo = gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
	var body []byte
	var err error
	if r.Body != nil {
		body, err = io.ReadAll(r.Body)
	}
	w.Header().Set("Content-Type", "text/plain")
	_, werr := fmt.Fprintf(w, "%s %d %q %v", r.Method(), r.ContentLength, body, err)
	return werr
})

// limit is how long a test waits for an event that should take no time.
const limit = conformance.Limit

// session is a connection to a server, played by hand.
type session struct {
	t testing.TB
	c *net.TCPConn
	r *fastcgi.Reader
}

// serve starts s for the test and connects to it.
func serve(t testing.TB, s *fastcgi.Server) *session {
	t.Helper()
	if s.Logger == nil {
		s.Logger = quiet
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return connect(t, l.Addr().String())
}

func connect(t testing.TB, addr string) *session {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(limit))
	return &session{t, c.(*net.TCPConn), fastcgi.NewReader(c)}
}

// send writes b, and restarts the time limit: a long session is not a slow one.
func (s *session) send(b string) {
	s.t.Helper()
	s.c.SetDeadline(time.Now().Add(limit))
	if _, err := io.WriteString(s.c, b); err != nil {
		s.t.Fatal(err)
	}
}

// next is the next record from the server; ok is false at the end of the connection.
func (s *session) next() (rec fastcgi.Record, ok bool) {
	s.t.Helper()
	rec, err := s.r.Next()
	if errors.Is(err, io.EOF) || err != nil && strings.Contains(err.Error(), "reset") {
		return rec, false
	}
	if err != nil {
		s.t.Fatalf("reading from the server: %v", err)
	}
	return rec, true
}

// reply holds the records of a single id, up to END_REQUEST.
type reply struct {
	stdout, stderr string
	end            fastcgi.End
	ended          bool
	records        []fastcgi.Type
}

func (r *reply) add(rec fastcgi.Record) {
	r.records = append(r.records, rec.Type)
	switch rec.Type {
	case fastcgi.TypeStdout:
		r.stdout += string(rec.Content)
	case fastcgi.TypeStderr:
		r.stderr += string(rec.Content)
	case fastcgi.TypeEnd:
		r.end, _ = fastcgi.ConsumeEnd(rec.Content)
		r.ended = true
	}
}

// body returns the body of the reply, and status the status of its head.
func (r *reply) body() string {
	_, body, _ := strings.Cut(r.stdout, "\r\n\r\n")
	return body
}

func (r *reply) status() string {
	line, _, _ := strings.Cut(r.stdout, "\r\n")
	return strings.TrimPrefix(line, "Status: ")
}

// reply reads up to the END_REQUEST of id.
func (s *session) reply(id uint16) reply {
	s.t.Helper()
	var r reply
	for {
		rec, ok := s.next()
		if !ok {
			s.t.Fatalf("the connection ended before END_REQUEST of %d; got %+v", id, r)
		}
		if rec.ID != id {
			s.t.Fatalf("record %v of id %d, want %d", rec.Type, rec.ID, id)
		}
		if r.add(rec); r.ended {
			return r
		}
	}
}

// rest reads to the end of the connection.
func (s *session) rest() map[uint16]*reply {
	s.t.Helper()
	all := make(map[uint16]*reply)
	for {
		rec, ok := s.next()
		if !ok {
			return all
		}
		if all[rec.ID] == nil {
			all[rec.ID] = new(reply)
		}
		all[rec.ID].add(rec)
	}
}

// closed checks that the server closes without a byte.
func (s *session) closed() {
	s.t.Helper()
	if rec, ok := s.next(); ok {
		s.t.Errorf("got %v %q, want a close", rec.Type, rec.Content)
	}
}

// must checks that the connection still responses a request.
func (s *session) must(id uint16) {
	s.t.Helper()
	s.send(get(id, true))
	if r := s.reply(id); r.status() != "200 OK" {
		s.t.Errorf("the connection responses %+v", r)
	}
}

// alive checks that the connection still responses at all.
func (s *session) alive() {
	s.t.Helper()
	s.send(rec(fastcgi.TypeGetValues, 0, ""))
	if rec, _ := s.next(); rec.Type != fastcgi.TypeGetValuesResult {
		s.t.Errorf("the connection responses %v", rec.Type)
	}
}

// script starts an application that hands each connection to f.
var script = conformance.Script

// readRequest reads a whole request as an application does, and returns it with its body.
func readRequest(r *fastcgi.Reader) (*gateway.Request, []byte, error) {
	req := new(gateway.Request)
	if err := r.ReadRequest(req); err != nil {
		return nil, nil, err
	}
	if req.Body == gateway.NoBody {
		return req, nil, nil
	}
	body, err := io.ReadAll(req.Body)
	return req, body, err
}

// responding starts an application that responds the first request of each connection with those
// bytes, and closes.
func responding(t testing.TB, b string) (addr string) {
	return script(t, func(c net.Conn) {
		if _, _, err := readRequest(fastcgi.NewReader(c)); err != nil {
			return
		}
		io.WriteString(c, b)
	})
}

// outcome is the result of a client's request.
type outcome struct {
	res  gateway.Response
	body string
	err  error // of RoundTrip or of the body
}

// ask sends r and reads the whole response.
func ask(t testing.TB, c *fastcgi.Client, r *gateway.Request) *outcome {
	t.Helper()
	if c.Logger == nil {
		c.Logger = quiet
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	o := new(outcome)
	if o.err = c.RoundTrip(ctx, r, &o.res); o.err != nil {
		return o
	}
	defer o.res.Body.Close()
	var b []byte
	b, o.err = io.ReadAll(o.res.Body)
	o.body = string(b)
	return o
}

// request is a request for / with a body.
func request(t testing.TB, method, body string) *gateway.Request {
	t.Helper()
	r := new(gateway.Request)
	if err := r.SetTarget(method, "/"); err != nil {
		t.Fatal(err)
	}
	r.SetBody([]byte(body))
	return r
}

// received asks an application that responds with those bytes.
func received(t testing.TB, b string) *outcome {
	t.Helper()
	return ask(t, &fastcgi.Client{Addr: responding(t, b)}, request(t, "GET", ""))
}

// want checks that err is target.
func want(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("got error %v, want %v", err, target)
	}
}

// fromBytes reads one request from b.
func fromBytes(b string) (*gateway.Request, error) {
	req := new(gateway.Request)
	err := fastcgi.NewReader(strings.NewReader(b)).ReadRequest(req)
	return req, err
}

// responseFrom reads one response from b.
func responseFrom(b string) (*gateway.Response, string, error) {
	res := new(gateway.Response)
	r := fastcgi.NewReader(strings.NewReader(b))
	if err := r.ReadResponse(res); err != nil {
		return res, "", err
	}
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

// list is p as text.
func list(p *gateway.Params) string {
	var b bytes.Buffer
	for name, value := range p.All() {
		fmt.Fprintf(&b, "%s=%s;", name, value)
	}
	return b.String()
}

// socketDir is a folder with a path short enough for sockets.
func socketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// heapBytes is how many bytes have been allocated.
func heapBytes() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func handler(f func(w gateway.ResponseWriter, r *gateway.Request) error) *fastcgi.Server {
	return &fastcgi.Server{Handler: gateway.HandlerFunc(f), Logger: quiet}
}

func getPath(id uint16, keep bool, path string) string {
	return head(id, gateway.RoleResponder, keep, "REQUEST_METHOD", "GET", "PATH_INFO", path) + stdin(id, "")
}
