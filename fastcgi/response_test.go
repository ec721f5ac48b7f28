package fastcgi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

// TestForeignRecords checks that records of another id reach neither the head nor the body of a
// response, and that a truncated response keeps its error.
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

// TestReadResponse the response as the client reads it from records
func TestReadResponse(t *testing.T) {
	t.Run("END_REQUEST without an empty STDOUT [085]", func(t *testing.T) {
		if o := received(t, rec(fastcgi.TypeStdout, 1, okHead+"x")+end(1, 0, 0)); o.err != nil || o.body != "x" {
			t.Errorf("%q, %v", o.body, o.err)
		}
	})
	t.Run("an empty STDOUT without END_REQUEST [086]", func(t *testing.T) {
		c := &fastcgi.Client{Addr: responding(t, rec(fastcgi.TypeStdout, 1, okHead+"x")+rec(fastcgi.TypeStdout, 1, "")), MaxIdleConns: 1}
		if o := ask(t, c, request(t, "GET", "")); o.err != nil || o.body != "x" || c.Stats().Idle != 0 {
			t.Errorf("%q, %v, %+v", o.body, o.err, c.Stats())
		}
	})
	t.Run("the connection ends without either [087]", func(t *testing.T) {
		for _, b := range []string{okHead + "x", okHead, "Status: 200 OK\r\n", "Status: 200 OK\r\nContent-Length: 1\r\n\r\nx"} {
			want(t, received(t, rec(fastcgi.TypeStdout, 1, b)).err, gateway.ErrTruncated)
		}
	})
	t.Run("the connection ends without a byte [088 260]", func(t *testing.T) {
		o := received(t, "")
		want(t, o.err, gateway.ErrNoResponse)
		if e, ok := errors.AsType[*gateway.Error](o.err); !ok || e.Phase != gateway.PhaseHead || e.Received || !e.Sent || e.Reused {
			t.Errorf("%+v", e)
		}
		reset := script(t, func(c net.Conn) {
			var b [1]byte
			c.Read(b[:])
			c.(*net.TCPConn).SetLinger(0)
		})
		want(t, ask(t, &fastcgi.Client{Addr: reset}, request(t, "GET", "")).err, gateway.ErrNoResponse)
	})
	t.Run("a head split at every byte, with STDERR between [090]", func(t *testing.T) {
		for i := range len(okHead) {
			b := rec(fastcgi.TypeStderr, 1, "e1") + rec(fastcgi.TypeStdout, 1, okHead[:i]+"") + rec(fastcgi.TypeStderr, 1, "e2") + rec(fastcgi.TypeStdout, 1, okHead[i:]+"x")
			if i == 0 {
				b = rec(fastcgi.TypeStderr, 1, "e1e2") + rec(fastcgi.TypeStdout, 1, okHead+"x")
			}
			var stderr bytes.Buffer
			r := request(t, "GET", "")
			r.Stderr = &stderr
			o := ask(t, &fastcgi.Client{Addr: responding(t, b+response(1, "y"))}, r)
			if o.err != nil || o.body != "xy" || o.res.Status != 200 || o.res.Header.Get("Content-Type") != "text/plain" || stderr.String() != "e1e2" {
				t.Fatalf("cut at %d: %q %q %v", i, o.body, stderr.String(), o.err)
			}
		}
	})
	t.Run("STDOUT after its end [091]", func(t *testing.T) {
		b := rec(fastcgi.TypeStdout, 1, okHead+"x") + rec(fastcgi.TypeStdout, 1, "") + rec(fastcgi.TypeStdout, 1, "y") + end(1, 0, 0)
		want(t, received(t, b).err, gateway.ErrMalformed)
	})
	t.Run("a record of another request [092 F6]", func(t *testing.T) {
		for _, b := range []string{response(2, okHead+"other"), rec(fastcgi.TypeStdout, 1, okHead+"x") + response(2, "other"), end(2, 0, 0)} {
			c := &fastcgi.Client{Addr: responding(t, b), MaxIdleConns: 1}
			o := ask(t, c, request(t, "GET", ""))
			want(t, o.err, gateway.ErrMalformed)
			if strings.Contains(o.body, "other") || c.Stats().Idle > 0 {
				t.Errorf("%q", o.body)
			}
		}
	})
	t.Run("ids and types that do not match [093 F6]", func(t *testing.T) {
		for _, b := range []string{rec(fastcgi.TypeStdout, 0, okHead), rec(fastcgi.TypeEnd, 0, "12345678"), rec(fastcgi.TypeUnknown, 1, "12345678"), rec(fastcgi.TypeGetValuesResult, 1, "")} {
			want(t, received(t, b+response(1, okHead)).err, gateway.ErrMalformed)
		}
	})
	t.Run("management records are skipped [094]", func(t *testing.T) {
		b := rec(fastcgi.TypeUnknown, 0, "\x09\x00\x00\x00\x00\x00\x00\x00") + rec(fastcgi.TypeGetValuesResult, 0, pairs("FCGI_MPXS_CONNS", "0")) +
			rec(200, 0, "future") + response(1, okHead+"x")
		if o := received(t, b); o.err != nil || o.body != "x" {
			t.Errorf("%q, %v", o.body, o.err)
		}
	})
	t.Run("unknown types are skipped [095]", func(t *testing.T) {
		if o := received(t, rec(99, 1, "future")+response(1, okHead+"x")); o.err != nil || o.body != "x" {
			t.Errorf("%q, %v", o.body, o.err)
		}
		want(t, received(t, strings.Repeat(rec(99, 1, strings.Repeat("f", 60000)), 2)+response(1, okHead)).err, gateway.ErrMalformed)
		want(t, received(t, rec(fastcgi.TypeStdin, 1, "x")+response(1, okHead)).err, gateway.ErrMalformed)
	})
	t.Run("STDERR is delivered in lines [096 F7]", func(t *testing.T) {
		var lines []string
		c := &fastcgi.Client{Stderr: func(_ context.Context, line []byte) { lines = append(lines, string(line)) }}
		c.Addr = responding(t, rec(fastcgi.TypeStderr, 1, "x\r\nFA")+rec(fastcgi.TypeStderr, 1, "KE \x1b[31m\x00\nlast")+response(1, okHead+"body"))
		if o := ask(t, c, request(t, "GET", "")); o.err != nil || o.body != "body" {
			t.Errorf("%q, %v", o.body, o.err)
		}
		if got := strings.Join(lines, "|"); got != `x|FAKE \x1b[31m\x00|last` {
			t.Errorf("lines %q", got)
		}
		var all bytes.Buffer
		r := request(t, "GET", "")
		r.Stderr = &all
		flood := strings.Repeat(rec(fastcgi.TypeStderr, 1, strings.Repeat("e", 60000)), 3)
		if o := ask(t, &fastcgi.Client{Addr: responding(t, flood+response(1, okHead+"body"))}, r); o.err != nil || o.body != "body" {
			t.Errorf("%q, %v", o.body, o.err)
		}
		if all.Len() != 64<<10 {
			t.Errorf("%d bytes of STDERR", all.Len())
		}
	})
	t.Run("refusals by protocolStatus [097]", func(t *testing.T) {
		for status, expect := range map[fastcgi.ProtocolStatus]int{fastcgi.StatusCantMultiplex: 503, fastcgi.StatusOverloaded: 503, fastcgi.StatusUnknownRole: 502} {
			o := received(t, end(1, 0, status))
			e, ok := errors.AsType[*fastcgi.End](o.err)
			if !ok || e.Status != status || gateway.ErrorStatus(o.err) != expect {
				t.Errorf("%v: %v, status %d", status, o.err, gateway.ErrorStatus(o.err))
			}
			if refused := errors.Is(o.err, gateway.ErrRefused); refused != (expect == 503) || gateway.Retryable(o.err) != refused {
				t.Errorf("%v: refused %v", status, refused)
			}
		}
	})
	t.Run("a protocolStatus after output [098]", func(t *testing.T) {
		o := received(t, rec(fastcgi.TypeStdout, 1, okHead+"x")+end(1, 0, fastcgi.StatusOverloaded))
		if _, ok := errors.AsType[*fastcgi.End](o.err); !ok || o.body != "x" {
			t.Errorf("%q, %v", o.body, o.err)
		}
	})
	t.Run("a non-zero appStatus [099]", func(t *testing.T) {
		for _, status := range []uint32{938, 0xffffffff} {
			o := received(t, rec(fastcgi.TypeStdout, 1, okHead+"x")+end(1, status, 0))
			if o.err != nil || o.res.AppStatus != status {
				t.Errorf("%d, %v", o.res.AppStatus, o.err)
			}
		}
	})
	t.Run("END_REQUEST of another length [100]", func(t *testing.T) {
		for _, content := range []string{"", "1234567", "\x00\x00\x00\x00\x00\x00\x00\x009"} {
			want(t, received(t, rec(fastcgi.TypeStdout, 1, okHead)+rec(fastcgi.TypeEnd, 1, content)).err, gateway.ErrMalformed)
		}
	})
	t.Run("lengths of bodies that the response must not have [118 119]", func(t *testing.T) {
		for _, c := range []struct{ method, status string }{{"HEAD", "200 OK"}, {"GET", "304 Not Modified"}} {
			addr := responding(t, response(1, "Status: "+c.status+"\r\nContent-Length: 5\r\n\r\n"))
			if o := ask(t, &fastcgi.Client{Addr: addr}, request(t, c.method, "")); o.err != nil || o.res.ContentLength != 5 {
				t.Errorf("%s: %d, %v", c.method, o.res.ContentLength, o.err)
			}
		}
	})
	t.Run("a 101 is not an interim response [250 F31]", func(t *testing.T) {
		r := request(t, "GET", "")
		r.Interim = func(status int, h *gateway.Header) error {
			t.Errorf("interim %d", status)
			return nil
		}
		o := ask(t, &fastcgi.Client{Addr: responding(t, response(1, "Status: 101 Switching Protocols\r\n\r\n"+okHead))}, r)
		want(t, o.err, gateway.ErrMalformed)
	})
	t.Run("more interim responses than the limit [249 F30]", func(t *testing.T) {
		o := received(t, response(1, strings.Repeat("Status: 103 Early Hints\r\n\r\n", 17)+okHead))
		want(t, o.err, gateway.ErrMalformed)
		if o := received(t, response(1, strings.Repeat("Status: 103 Early Hints\r\n\r\n", 15)+okHead)); o.err != nil {
			t.Error(o.err)
		}
	})
	t.Run("the limit of a head [257 258 F17]", func(t *testing.T) {
		const limit = 1000
		make := func(n int) string {
			head := "Status: 200 OK\r\nX: "
			return head + strings.Repeat("v", n-len(head)-4) + "\r\n\r\n"
		}
		for name, cut := range map[string]func(b string) string{
			"one record":  func(b string) string { return response(1, b) },
			"two records": func(b string) string { return rec(fastcgi.TypeStdout, 1, b[:500]) + response(1, b[500:]) },
		} {
			ask := func(n int) error {
				return ask(t, &fastcgi.Client{Addr: responding(t, cut(make(n))), MaxHeadBytes: limit}, request(t, "GET", "")).err
			}
			if err := ask(limit); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			want(t, ask(limit+1), gateway.ErrTooLarge)
		}
		want(t, received(t, rec(fastcgi.TypeStdout, 1, make(40000)[:30000])+response(1, strings.Repeat("X: v\r\n", 6000)+"\r\n")).err, gateway.ErrTooLarge)
	})
	t.Run("END_REQUEST inside the head [115]", func(t *testing.T) {
		want(t, received(t, rec(fastcgi.TypeStdout, 1, "Status: 200 OK\r\n")+end(1, 0, 0)).err, gateway.ErrTruncated)
	})
	t.Run("long lines and DEL in STDERR [096 F7]", func(t *testing.T) {
		var lines []string
		c := &fastcgi.Client{
			Addr:   responding(t, rec(fastcgi.TypeStderr, 1, strings.Repeat("e", 5000)+"\na\x7fb\n")+response(1, okHead)),
			Stderr: func(_ context.Context, line []byte) { lines = append(lines, string(line)) },
		}
		ask(t, c, request(t, "GET", ""))
		if len(lines) != 3 || len(lines[0]) != 4096 || len(lines[1]) != 904 || lines[2] != `a\x7fb` {
			t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
		}
	})
	t.Run("a reset in the middle of a response [087]", func(t *testing.T) {
		addr := script(t, func(c net.Conn) {
			var req gateway.Request
			fastcgi.NewReader(c).ReadRequest(&req)
			io.WriteString(c, rec(fastcgi.TypeStdout, 1, okHead+"x"))
			time.Sleep(20 * time.Millisecond)
			c.(*net.TCPConn).SetLinger(0)
		})
		want(t, ask(t, &fastcgi.Client{Addr: addr}, request(t, "GET", "")).err, gateway.ErrTruncated)
	})
}

// TestStaleBody checks that a Body that is kept after its end cannot read the next response.
func TestStaleBody(t *testing.T) {
	c := &fastcgi.Client{Addr: gatewaytest.Start(t, &fastcgi.Server{Handler: echo, Logger: quiet}), MaxIdleConns: 1}
	defer c.Close()
	var res gateway.Response
	if err := c.RoundTrip(t.Context(), request(t, "GET", ""), &res); err != nil {
		t.Fatal(err)
	}
	first := res.Body
	io.Copy(io.Discard, first)
	first.Close()
	if err := c.RoundTrip(t.Context(), request(t, "GET", ""), &res); err != nil {
		t.Fatal(err)
	}
	if n, err := first.Read(make([]byte, 100)); n != 0 || err != io.EOF {
		t.Errorf("a dead body gave %d bytes, %v", n, err)
	}
	first.Close()
	if b, err := io.ReadAll(res.Body); err != nil || !strings.HasPrefix(string(b), "GET") {
		t.Errorf("%q, %v", b, err)
	}
	res.Body.Close()
	if s := c.Stats(); s.Dialed != 1 || s.Idle != 1 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
}

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

// A body that pauses at its end once kept its last piece back.
func TestBodyThatDoesNotEnd(t *testing.T) {
	got := make(chan int, 1)
	addr := script(t, func(c net.Conn) {
		_, body, _ := readRequest(fastcgi.NewReader(c))
		got <- len(body)
		io.WriteString(c, response(1, okHead))
	})
	for _, n := range []int{100, 40000} {
		pr, pw := io.Pipe()
		r := request(t, "POST", "")
		r.Body, r.ContentLength = pr, int64(n)
		go pw.Write(make([]byte, n)) // and never closes
		c := &fastcgi.Client{Addr: addr}
		if o := ask(t, c, r); o.err != nil || <-got != n {
			t.Errorf("%d: %v", n, o.err)
		}
		pr.Close()
	}
}
