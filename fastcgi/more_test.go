package fastcgi_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

// TestCloseBody closes a response's Body before its end.
func TestCloseBody(t *testing.T) {
	more := make(chan struct{})
	addr := script(t, func(c net.Conn) {
		r := fastcgi.NewReader(c)
		for {
			req, _, err := readRequest(r)
			if err != nil {
				return
			}
			id, _ := r.Begin()
			switch req.PathInfo() {
			case "/whole":
				io.WriteString(c, response(id, okHead+strings.Repeat("x", 3000)))
			case "/slow":
				io.WriteString(c, rec(fastcgi.TypeStdout, id, okHead+"x"))
				<-more
				io.WriteString(c, response(id, "y"))
			}
		}
	})
	c := &fastcgi.Client{Addr: addr, MaxIdleConns: 1, Logger: quiet}
	defer c.Close()
	var res gateway.Response
	open := func(path string) {
		t.Helper()
		if err := c.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", path, nil), &res); err != nil {
			t.Fatal(err)
		}
	}
	// All of it has come: the connection can be used again.
	open("/whole")
	time.Sleep(10 * time.Millisecond)
	res.Body.Close()
	if s := c.Stats(); s.Idle != 1 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
	// The rest has not arrived, and is not waited for.
	open("/slow")
	res.Body.Close()
	res.Body.Close()
	if n, err := res.Body.Read(make([]byte, 1)); n > 0 || err == nil || err == io.EOF {
		t.Errorf("%d, %v", n, err)
	}
	if s := c.Stats(); s.Idle != 0 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
	// Close ends a Read that waits.
	open("/slow")
	body := res.Body
	read := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(body)
		read <- err
	}()
	time.Sleep(10 * time.Millisecond)
	body.Close()
	if err := <-read; err == nil {
		t.Error("a Read that was cut short looks whole")
	}
	if s := c.Stats(); s.Idle != 0 || s.InFlight != 0 || s.Dialed != 2 {
		t.Errorf("%+v", s)
	}
	close(more)
}

// TestBesideABody: a request that comes while another's handler reads its body is served at once.
func TestBesideABody(t *testing.T) {
	s := serve(t, &fastcgi.Server{Handler: echo})
	s.send(head(1, 1, true, "REQUEST_METHOD", "PUT", "CONTENT_LENGTH", "6") + stdin(1, "abc"))
	s.send(get(2, true))
	if r := s.reply(2); r.status() != "200 OK" {
		t.Errorf("%+v", r)
	}
	s.send(rec(fastcgi.TypeGetValues, 0, ""))
	if rec, _ := s.next(); rec.Type != fastcgi.TypeGetValuesResult {
		t.Errorf("%v", rec.Type)
	}
	s.send(stdin(1, "def") + stdin(1, ""))
	if r := s.reply(1); r.body() != `PUT 6 "abcdef" <nil>` {
		t.Errorf("%+v", r)
	}
}

// TestReaderOdds is what remains of Reader's surface.
func TestReaderOdds(t *testing.T) {
	in := response(7, okHead+"first") + rec(fastcgi.TypeStdout, 8, okHead+"second") + rec(fastcgi.TypeStderr, 8, "err") + end(8, 9, 0) + "rest"
	r := fastcgi.NewReader(strings.NewReader(in))
	var stderr bytes.Buffer
	r.Stderr = &stderr
	var res gateway.Response
	if err := r.ReadResponse(&res); err != nil || r.Offset() == 0 {
		t.Fatal(err)
	}
	res.Body.Close() // drops what is left
	if err := r.ReadResponse(&res); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(res.Body); string(b) != "second" || err != nil || r.End().AppStatus != 9 || stderr.String() != "err" {
		t.Errorf("%q, %v, %+v, %q", b, err, r.End(), &stderr)
	}
	if string(r.Buffered()) != "rest" || r.Offset() != int64(len(in)-len("rest")) {
		t.Errorf("%q at %d of %d", r.Buffered(), r.Offset(), len(in))
	}
	r.Reset(strings.NewReader(get(1, true)))
	if _, _, err := readRequest(r); err != nil || r.Offset() == 0 {
		t.Error(err)
	}
	// Another request that begins inside a body, and records that make no sense.
	for _, b := range []string{begin(2, 1, true), rec(fastcgi.TypeParams, 1, "x"), rec(fastcgi.TypeStdin, 0, "x"), rec(fastcgi.TypeData, 1, "x")} {
		_, _, err := readRequest(fastcgi.NewReader(strings.NewReader(head(1, 1, true, "CONTENT_LENGTH", "9") + stdin(1, "a") + b + stdin(1, "b"))))
		want(t, err, gateway.ErrMalformed)
	}
	for _, b := range []string{begin(1, 0, true), begin(1, 1, true) + begin(2, 1, true), stdin(0, "")} {
		_, err := fromBytes(b + rec(fastcgi.TypeParams, 1, ""))
		want(t, err, gateway.ErrMalformed)
	}
	// ABORT_REQUEST before the params are whole: the next request counts.
	req, err := fromBytes(begin(1, 1, true) + rec(fastcgi.TypeParams, 1, pairs("A", "1")) + rec(fastcgi.TypeAbort, 1, "") + get(2, true))
	if err != nil || req.Method() != "GET" || req.Params.Get("A") != "" {
		t.Errorf("%v", err)
	}
}

// TestForeignRecords: what another id says is not the request's, in its head and in its body, and a cut says so for good.
func TestForeignRecords(t *testing.T) {
	foreign := rec(fastcgi.TypeParams, 9, pairs("EVIL", "1")) + rec(fastcgi.TypeStdin, 9, "evil") + rec(fastcgi.TypeAbort, 9, "") + rec(fastcgi.TypeGetValues, 0, "")
	in := begin(1, 1, true) + foreign + rec(fastcgi.TypeParams, 1, pairs("CONTENT_LENGTH", "4")) + foreign + rec(fastcgi.TypeParams, 1, "") +
		rec(fastcgi.TypeStdin, 1, "go") + foreign + rec(fastcgi.TypeStdin, 1, "od") + rec(fastcgi.TypeStdin, 1, "")
	req, body, err := readRequest(fastcgi.NewReader(strings.NewReader(in)))
	if err != nil || string(body) != "good" || req.Params.Len() != 1 {
		t.Errorf("%v, %q, %d params", err, body, req.Params.Len())
	}
	_, err = fromBytes(begin(1, 1, true) + rec(fastcgi.TypeStdin, 1, "x"))
	want(t, err, gateway.ErrMalformed)
	_, err = fromBytes(begin(1, 1, true) + rec(fastcgi.TypeStdout, 1, "x"))
	want(t, err, gateway.ErrMalformed)

	r := fastcgi.NewReader(strings.NewReader(head(1, 1, true, "CONTENT_LENGTH", "4") + stdin(1, "go")))
	if err := r.ReadRequest(req); err != nil {
		t.Fatal(err)
	}
	if n, err := req.Body.Read(nil); n != 0 || err != nil {
		t.Errorf("into nothing: %d, %v", n, err)
	}
	for range 2 {
		_, err = io.ReadAll(req.Body)
		want(t, err, io.ErrUnexpectedEOF)
	}
}

// TestWriterOdds: what Writer refuses leaves nothing behind.
func TestWriterOdds(t *testing.T) {
	var out bytes.Buffer
	w := fastcgi.NewWriter(&out)
	large := make([]byte, 70000)
	for name, err := range map[string]error{
		"an id that is none":      w.WriteRecord(fastcgi.TypeStdout, 0, []byte("x")),
		"and much for it":         w.WriteRecord(fastcgi.TypeStdout, 0, large),
		"a field with a line end": w.WriteResponse(withField("X", "a\nb")),
	} {
		want(t, err, gateway.ErrMalformed)
		if out.Len() > 0 {
			t.Errorf("%s: %d bytes", name, out.Len())
		}
	}
	want(t, w.WriteRecord(fastcgi.TypeEnd, 1, large), gateway.ErrTooLarge) // is no stream
	want(t, w.WriteResponse(withField("X", string(bytes.Repeat([]byte("x"), 70000)))), gateway.ErrTooLarge)
	want(t, w.WriteRequest(&gateway.Request{ContentLength: 1}), io.ErrUnexpectedEOF)
	if out.Len() > 0 {
		t.Errorf("%d bytes", out.Len())
	}
	failed := errors.New("failed")
	w.Reset(writer(func(p []byte) (int, error) { return 0, failed }))
	want(t, w.WriteRecord(fastcgi.TypeStdout, 1, large), failed)
	want(t, w.WriteRecord(fastcgi.TypeStdout, 1, []byte("x")), failed)
	r := gatewaytest.NewRequest("POST", "/", large)
	want(t, w.WriteRequest(r), failed)
	res := withField("X", "1")
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(large)), int64(len(large))
	want(t, w.WriteResponse(res), failed)
	// What failed is not in the way of what comes next.
	w.Reset(&out)
	if err := w.WriteRecord(fastcgi.TypeStdout, 1, []byte("x")); err != nil || out.String() != "\x01\x06\x00\x01\x00\x01\x00\x00x" {
		t.Errorf("%v, %q", err, &out)
	}
}

func withField(name, value string) *gateway.Response {
	res := &gateway.Response{Status: 200, ContentLength: -1}
	res.Header.Add(name, value)
	return res
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestNames(t *testing.T) {
	for _, c := range [][2]string{
		{fastcgi.TypeBegin.String(), "BEGIN_REQUEST"}, {fastcgi.TypeUnknown.String(), "UNKNOWN_TYPE"}, {fastcgi.Type(0).String(), "Type(0)"},
		{fastcgi.Type(99).String(), "Type(99)"}, {fastcgi.StatusOverloaded.String(), "OVERLOADED"}, {fastcgi.ProtocolStatus(9).String(), "ProtocolStatus(9)"},
		{gateway.RoleAuthorizer.String(), "Authorizer"}, {gateway.RoleFilter.String(), "Filter"},
		{(&fastcgi.End{Status: fastcgi.StatusUnknownRole}).Error(), "fastcgi: application ended the request with UNKNOWN_ROLE"},
	} {
		if c[0] != c[1] {
			t.Errorf("%q, want %q", c[0], c[1])
		}
	}
	for _, f := range []func() ([]byte, error){
		func() ([]byte, error) { return fastcgi.AppendHeader([]byte("x"), fastcgi.RecordHeader{Version: 2}) },
		func() ([]byte, error) { return fastcgi.AppendBegin([]byte("x"), 0, fastcgi.Begin{}) },
		func() ([]byte, error) { return fastcgi.AppendEnd([]byte("x"), 0, fastcgi.End{}) },
		func() ([]byte, error) { return fastcgi.AppendRecord([]byte("x"), fastcgi.TypeStdin, 0, nil) },
		func() ([]byte, error) { return fastcgi.AppendRecord([]byte("x"), fastcgi.TypeGetValues, 1, nil) },
		func() ([]byte, error) {
			return fastcgi.AppendRecord([]byte("x"), fastcgi.TypeGetValues, 0, make([]byte, 70000))
		},
		func() ([]byte, error) { return fastcgi.AppendRequest([]byte("x"), 0, false, new(gateway.Request)) },
	} {
		if b, err := f(); err == nil || string(b) != "x" {
			t.Errorf("%q, %v", b, err)
		}
	}
}

// TestPeersAndEnvironment: both lists must let a peer in.
func TestPeersAndEnvironment(t *testing.T) {
	t.Setenv("FCGI_WEB_SERVER_ADDRS", "127.0.0.1,10.1.1.1")
	s := serve(t, &fastcgi.Server{Handler: echo, Peers: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	s.must(1)
	s = serve(t, &fastcgi.Server{Handler: echo, Peers: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	s.closed()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	none := &fastcgi.Server{Handler: echo, Peers: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	if err := none.Serve(l); err == nil || errors.Is(err, gateway.ErrServerClosed) {
		t.Errorf("%v", err)
	}
}
