package fastcgi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

// sent is what a client sends for r, as far as it sends it.
func sent(t testing.TB, c *fastcgi.Client, r *gateway.Request) string {
	t.Helper()
	got := make(chan string, 1)
	c.Addr = script(t, func(conn net.Conn) {
		var b bytes.Buffer
		readRequest(fastcgi.NewReader(io.TeeReader(conn, &b)))
		io.WriteString(conn, response(1, okHead))
		got <- b.String()
	})
	o := ask(t, c, r)
	if o.err != nil {
		t.Fatal(o.err)
	}
	return <-got
}

// TestClientConformance is items 72 to 120 of the conformance list, but for 103 and 110 to 112, which are of later work.
func TestClientConformance(t *testing.T) {
	t.Run("bytes of a GET [072 073]", func(t *testing.T) {
		r := new(gateway.Request)
		r.Params.Add("REQUEST_METHOD", "GET")
		expect := rec(fastcgi.TypeBegin, 1, "\x00\x01\x00\x00\x00\x00\x00\x00") +
			rec(fastcgi.TypeParams, 1, pairs("REQUEST_METHOD", "GET", "CONTENT_LENGTH", "0")) +
			rec(fastcgi.TypeParams, 1, "") + rec(fastcgi.TypeStdin, 1, "")
		expect = strings.ReplaceAll(expect, "\x00\x5a", "\x00\x00") // reserved bytes are written as 0
		if got := sent(t, new(fastcgi.Client), r); got != expect {
			t.Errorf("got  %q\nwant %q", got, expect)
		}
	})
	t.Run("whole pairs in records of 65528 at most [074 076]", func(t *testing.T) {
		r := request(t, "GET", "")
		for i := range 40 {
			r.Params.Add(fmt.Sprintf("HTTP_X_%d", i), strings.Repeat("v", 7000))
		}
		b, err := fastcgi.AppendRequest(nil, 1, false, r)
		if err != nil {
			t.Fatal(err)
		}
		records := 0
		for len(b) > 0 {
			rec, n := fastcgi.ConsumeRecord(b)
			b = b[n:]
			if rec.Type != fastcgi.TypeParams {
				continue
			}
			records++
			var p gateway.Params
			if n, err := fastcgi.ConsumeParams(rec.Content, &p); n != len(rec.Content) || err != nil || n > 65528 || rec.Padding != 0 {
				t.Errorf("record of %d bytes holds %d bytes of whole pairs, %v", len(rec.Content), n, err)
			}
		}
		if records != 6 {
			t.Errorf("%d records", records)
		}
	})
	t.Run("ids count up on a kept connection [077]", func(t *testing.T) {
		ids := make(chan uint16, 3)
		addr := script(t, func(c net.Conn) {
			r := fastcgi.NewReader(c)
			for {
				if _, _, err := readRequest(r); err != nil {
					return
				}
				id, _ := r.Begin()
				ids <- id
				io.WriteString(c, response(id, okHead+"x"))
			}
		})
		c := &fastcgi.Client{Addr: addr, MaxIdleConns: 1}
		defer c.Close()
		for want := uint16(1); want <= 3; want++ {
			if o := ask(t, c, request(t, "GET", "")); o.err != nil || o.body != "x" {
				t.Fatal(o.err)
			}
			if got := <-ids; got != want {
				t.Errorf("id %d, want %d", got, want)
			}
		}
	})
	t.Run("no keep-alive by default [078]", func(t *testing.T) {
		for idle, flag := range map[int]byte{0: 0, 1: 1} {
			if got := sent(t, &fastcgi.Client{MaxIdleConns: idle}, request(t, "GET", "")); got[10] != flag {
				t.Errorf("MaxIdle %d: flags %d", idle, got[10])
			}
		}
	})
	t.Run("a body of another length [079 F2 F33]", func(t *testing.T) {
		for _, length := range []int64{3, 20000} {
			for _, have := range []int{int(length) - 1, int(length) + 1} {
				for name, wrap := range map[string]func(io.Reader) io.Reader{"memory": func(r io.Reader) io.Reader { return r }, "stream": iotest.OneByteReader} {
					excess := atomic.Int64{}
					addr := script(t, func(c net.Conn) {
						_, body, err := readRequest(fastcgi.NewReader(c))
						if int64(len(body)) > length {
							excess.Add(1)
						}
						if err == nil {
							io.WriteString(c, response(1, okHead))
						}
					})
					r := request(t, "POST", "")
					r.Body, r.ContentLength = wrap(strings.NewReader(strings.Repeat("b", have))), length
					c := &fastcgi.Client{Addr: addr, MaxIdleConns: 1}
					o := ask(t, c, r)
					// The application may response when it has its bytes, before one too many is found.
					early := name == "stream" && have > int(length)
					if o.err == nil && !early || excess.Load() > 0 || c.Stats().Idle > 0 {
						t.Errorf("length %d, body %d: %v, idle %d, excess %d", length, have, o.err, c.Stats().Idle, excess.Load())
					}
				}
			}
		}
		_, err := fromBytes(head(1, 1, true, "CONTENT_LENGTH", "5") + stdin(1, "helloBEGIN") + stdin(1, ""))
		if err != nil {
			t.Fatal(err)
		}
	})
	t.Run("unknown length [080 F33]", func(t *testing.T) {
		r := request(t, "POST", "")
		r.Body, r.ContentLength = strings.NewReader("streamed"), -1
		want(t, ask(t, &fastcgi.Client{Addr: "127.0.0.1:1"}, r).err, gateway.ErrLengthRequired)
		got := sent(t, &fastcgi.Client{UnknownLength: true}, r)
		if strings.Contains(got, "CONTENT_LENGTH") || !strings.Contains(got, "streamed") {
			t.Errorf("sent %q", got)
		}
		r.Body = strings.NewReader("streamed")
		c := &fastcgi.Client{}
		addr := script(t, func(conn net.Conn) {
			req, body, _ := readRequest(fastcgi.NewReader(conn))
			fmt.Fprint(conn, response(1, okHead+req.Params.Get("CONTENT_LENGTH")+string(body)))
		})
		c.Addr = addr
		res := new(gateway.Response)
		if err := (&gateway.Spool{Backend: c}).RoundTrip(t.Context(), r, res); err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if b, err := io.ReadAll(res.Body); err != nil || string(b) != "8streamed" {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("no body [081]", func(t *testing.T) {
		got := sent(t, new(fastcgi.Client), request(t, "GET", ""))
		if !strings.Contains(got, "\x0e\x01CONTENT_LENGTH0") || !strings.HasSuffix(got, string([]byte{1, 5, 0, 1, 0, 0, 0, 0})) {
			t.Errorf("sent %q", got)
		}
	})
	t.Run("a response before the body is read [082 F34]", func(t *testing.T) {
		const up, down = 8 << 20, 4 << 20
		addr := script(t, func(c net.Conn) {
			r := fastcgi.NewReader(c)
			var req gateway.Request
			if r.ReadRequest(&req) != nil {
				return
			}
			w := fastcgi.NewWriter(c)
			w.WriteRecord(fastcgi.TypeStdout, 1, []byte(okHead))
			w.WriteRecord(fastcgi.TypeStdout, 1, make([]byte, down))
			n, _ := io.Copy(io.Discard, req.Body)
			fmt.Fprint(c, response(1, fmt.Sprint(n)))
		})
		o := ask(t, &fastcgi.Client{Addr: addr}, request(t, "POST", strings.Repeat("u", up)))
		if o.err != nil || len(o.body) != down+len("8388608") {
			t.Errorf("%d bytes, %v", len(o.body), o.err)
		}
	})
	t.Run("a response that ends before the body is sent [083]", func(t *testing.T) {
		var conns atomic.Int64
		over := make(chan struct{})
		defer close(over)
		addr := script(t, func(c net.Conn) {
			conns.Add(1)
			var req gateway.Request
			if fastcgi.NewReader(c).ReadRequest(&req) != nil {
				return
			}
			io.WriteString(c, response(1, "Status: 413 Too Large\r\n\r\nno"))
			<-over // reads no more, so that the body cannot be sent whole
		})
		c := &fastcgi.Client{Addr: addr, MaxIdleConns: 1}
		for range 2 {
			o := ask(t, c, request(t, "POST", strings.Repeat("u", 8<<20)))
			if o.err != nil || o.body != "no" || o.res.Status != 413 {
				t.Errorf("%d %q, %v", o.res.Status, o.body, o.err)
			}
		}
		if s := c.Stats(); s.Idle > 0 || conns.Load() != 2 {
			t.Errorf("the connection was kept: %+v", s)
		}
	})
	t.Run("a response after a write error [084]", func(t *testing.T) {
		addr := script(t, func(c net.Conn) {
			var req gateway.Request
			if fastcgi.NewReader(c).ReadRequest(&req) != nil {
				return
			}
			io.WriteString(c, response(1, "Status: 413 Too Large\r\n\r\nno"))
			c.(*net.TCPConn).CloseWrite()
			time.Sleep(50 * time.Millisecond) // long enough for the response to be there when the reset comes
		})
		r := request(t, "POST", "")
		r.Body, r.ContentLength = iotest.OneByteReader(strings.NewReader(strings.Repeat("u", 1<<20))), 1<<20
		if o := ask(t, &fastcgi.Client{Addr: addr}, r); o.err != nil || o.body != "no" {
			t.Errorf("%q, %v", o.body, o.err)
		}
	})
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
	t.Run("the end without either [087]", func(t *testing.T) {
		for _, b := range []string{okHead + "x", okHead, "Status: 200 OK\r\n", "Status: 200 OK\r\nContent-Length: 1\r\n\r\nx"} {
			want(t, received(t, rec(fastcgi.TypeStdout, 1, b)).err, gateway.ErrTruncated)
		}
	})
	t.Run("the end without a byte [088 260]", func(t *testing.T) {
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
	t.Run("what is sent again [089 105]", retries)
	t.Run("a head cut at every byte, STDERR between [090]", func(t *testing.T) {
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
	t.Run("a record of another request [092]", func(t *testing.T) {
		for _, b := range []string{response(2, okHead+"other"), rec(fastcgi.TypeStdout, 1, okHead+"x") + response(2, "other"), end(2, 0, 0)} {
			c := &fastcgi.Client{Addr: responding(t, b), MaxIdleConns: 1}
			o := ask(t, c, request(t, "GET", ""))
			want(t, o.err, gateway.ErrMalformed)
			if strings.Contains(o.body, "other") || c.Stats().Idle > 0 {
				t.Errorf("%q", o.body)
			}
		}
	})
	t.Run("ids and types that do not go together [093 F6]", func(t *testing.T) {
		for _, b := range []string{rec(fastcgi.TypeStdout, 0, okHead), rec(fastcgi.TypeEnd, 0, "12345678"), rec(fastcgi.TypeUnknown, 1, "12345678"), rec(fastcgi.TypeGetValuesResult, 1, "")} {
			want(t, received(t, b+response(1, okHead)).err, gateway.ErrMalformed)
		}
	})
	t.Run("management records [094]", func(t *testing.T) {
		b := rec(fastcgi.TypeUnknown, 0, "\x09\x00\x00\x00\x00\x00\x00\x00") + rec(fastcgi.TypeGetValuesResult, 0, pairs("FCGI_MPXS_CONNS", "0")) +
			rec(200, 0, "future") + response(1, okHead+"x")
		if o := received(t, b); o.err != nil || o.body != "x" {
			t.Errorf("%q, %v", o.body, o.err)
		}
	})
	t.Run("unknown types [095]", func(t *testing.T) {
		if o := received(t, rec(99, 1, "future")+response(1, okHead+"x")); o.err != nil || o.body != "x" {
			t.Errorf("%q, %v", o.body, o.err)
		}
		want(t, received(t, strings.Repeat(rec(99, 1, strings.Repeat("f", 60000)), 2)+response(1, okHead)).err, gateway.ErrMalformed)
		want(t, received(t, rec(fastcgi.TypeStdin, 1, "x")+response(1, okHead)).err, gateway.ErrMalformed)
	})
	t.Run("STDERR [096 F7]", func(t *testing.T) {
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
	t.Run("refusals [097]", func(t *testing.T) {
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
	t.Run("appStatus [099]", func(t *testing.T) {
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
	t.Run("bytes after END_REQUEST [101 104 F2]", func(t *testing.T) {
		for _, idle := range []int{0, 1} {
			c := &fastcgi.Client{Addr: responding(t, response(1, okHead+"x")+"excess"), MaxIdleConns: idle}
			for range 2 {
				if o := ask(t, c, request(t, "GET", "")); o.err != nil || o.body != "x" {
					t.Errorf("%q, %v", o.body, o.err)
				}
			}
			if s := c.Stats(); s.Reused > 0 || s.Idle > 0 {
				t.Errorf("kept: %+v", s)
			}
		}
	})
	t.Run("a context that ends [102 296]", cancellation)
	t.Run("idle connections expire [106]", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := piped(func(c net.Conn, r *fastcgi.Reader) {
				for {
					if _, _, err := readRequest(r); err != nil {
						return
					}
					id, _ := r.Begin()
					io.WriteString(c, response(id, okHead+"x"))
				}
			})
			c.MaxIdleConns, c.IdleConnTimeout = 2, time.Minute
			if o := ask(t, c, request(t, "GET", "")); o.err != nil || c.Stats().Idle != 1 {
				t.Fatalf("%v, %+v", o.err, c.Stats())
			}
			time.Sleep(59 * time.Second)
			synctest.Wait()
			if c.Stats().Idle != 1 {
				t.Error("gone too soon")
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if s := c.Stats(); s.Idle != 0 || s.Dialed != 1 {
				t.Errorf("%+v", s)
			}
			c.MaxLifetime = time.Second
			ask(t, c, request(t, "GET", ""))
			time.Sleep(2 * time.Second)
			ask(t, c, request(t, "GET", ""))
			if s := c.Stats(); s.Reused != 0 || s.Dialed != 3 {
				t.Errorf("a connection outlived its time: %+v", s)
			}
			c.Close()
		})
	})
	t.Run("the client closes after END_REQUEST [107]", func(t *testing.T) {
		closed := make(chan error, 1)
		addr := script(t, func(c net.Conn) {
			r := fastcgi.NewReader(c)
			readRequest(r)
			io.WriteString(c, response(1, okHead))
			var err error
			for err == nil {
				_, err = r.Next() // the empty STDIN, then the end
			}
			closed <- err
		})
		o := ask(t, &fastcgi.Client{Addr: addr}, request(t, "GET", ""))
		if err := <-closed; err != io.EOF || o.err != nil {
			t.Errorf("%v, %v", err, o.err)
		}
	})
	t.Run("GET_VALUES [109]", func(t *testing.T) {
		if got := sent(t, new(fastcgi.Client), request(t, "GET", "")); strings.Contains(got, "FCGI_MAX") {
			t.Error("it is sent with a request")
		}
		junk := rec(fastcgi.TypeGetValuesResult, 0, "\xff\xff\xff\xff\x01junk")
		if o := received(t, junk+response(1, okHead+"x")); o.err != nil || o.body != "x" {
			t.Errorf("%q, %v", o.body, o.err)
		}
	})
	t.Run("Authorizer [113]", func(t *testing.T) {
		r := request(t, "GET", "")
		r.Role = gateway.RoleAuthorizer
		r.Params.Add("PATH_TRANSLATED", "/x")
		got := sent(t, new(fastcgi.Client), r)
		for _, name := range []string{"CONTENT_LENGTH", "PATH_INFO", "PATH_TRANSLATED", "SCRIPT_NAME"} {
			if strings.Contains(got, name) {
				t.Errorf("%s is sent", name)
			}
		}
		if got[9] != 2 || !strings.HasSuffix(got, string([]byte{1, 5, 0, 1, 0, 0, 0, 0})) {
			t.Errorf("sent %q", got)
		}
	})
	t.Run("an authorizer's response without Status [115]", func(t *testing.T) {
		r := request(t, "GET", "")
		r.Role = gateway.RoleAuthorizer
		o := ask(t, &fastcgi.Client{Addr: responding(t, response(1, "Variable-A: 1\r\n\r\n"))}, r)
		if o.err != nil || o.res.Status != 200 || o.res.Header.Get("Variable-A") != "1" {
			t.Errorf("%d, %v", o.res.Status, o.err)
		}
		if o := ask(t, &fastcgi.Client{Addr: responding(t, rec(fastcgi.TypeStdout, 1, "Variable-A: 1\r\n\r\n"))}, r); o.err == nil {
			t.Error("a response that broke off lets in")
		}
	})
	t.Run("Filter [116]", func(t *testing.T) {
		r := request(t, "POST", "body")
		r.Role = gateway.RoleFilter
		r.Data = strings.NewReader("the file")
		r.Params.Add("FCGI_DATA_LAST_MOD", "1700000000")
		r.Params.Add("FCGI_DATA_LENGTH", "8")
		got := sent(t, new(fastcgi.Client), r)
		var types []fastcgi.Type
		for b := []byte(got); len(b) > 0; {
			rec, n := fastcgi.ConsumeRecord(b)
			b = b[n:]
			types = append(types, rec.Type)
		}
		s := fmt.Sprint(types)
		if !strings.HasSuffix(s, "PARAMS STDIN STDIN]") && !strings.Contains(s, "STDIN STDIN DATA") {
			t.Errorf("sent %v", s)
		}
		r.Data = strings.NewReader("short")
		r.SetBody([]byte("body"))
		addr := script(t, func(c net.Conn) {
			var req gateway.Request
			if fastcgi.NewReader(c).ReadRequest(&req) != nil {
				return
			}
			body, _ := io.ReadAll(req.Body)
			data, err := io.ReadAll(req.Data)
			if err == nil {
				io.WriteString(c, response(1, okHead+string(body)+string(data)))
			}
		})
		if o := ask(t, &fastcgi.Client{Addr: addr}, r); o.err == nil {
			t.Error("a file shorter than FCGI_DATA_LENGTH was taken")
		}
		r.Data = strings.NewReader("the file")
		r.SetBody([]byte("body"))
		if o := ask(t, &fastcgi.Client{Addr: addr}, r); o.err != nil || o.body != "bodythe file" {
			t.Errorf("%q, %v", o.body, o.err)
		}
	})
	t.Run("no proxy: prefix [117]", func(t *testing.T) {
		if got := sent(t, new(fastcgi.Client), request(t, "GET", "")); strings.Contains(got, "proxy:") {
			t.Errorf("sent %q", got)
		}
	})
	t.Run("sockets and time-outs [120]", func(t *testing.T) {
		path := socketDir(t) + "/s"
		s := &fastcgi.Server{Handler: echo, Logger: quiet}
		l, err := new(fastcgi.Server).Listen("unix:" + path)
		if err != nil {
			t.Fatal(err)
		}
		go s.Serve(l)
		defer s.Close()
		if o := ask(t, &fastcgi.Client{Addr: "unix:" + path}, request(t, "GET", "")); o.err != nil {
			t.Error(o.err)
		}
		for _, addr := range []string{"", "nowhere", "unix:", ":"} {
			o := ask(t, &fastcgi.Client{Addr: addr, DialTimeout: time.Second}, request(t, "GET", ""))
			if o.err == nil {
				t.Errorf("%q: no error", addr)
			}
		}
		o := ask(t, &fastcgi.Client{Addr: "unix:" + path + "-not"}, request(t, "GET", ""))
		if e, ok := errors.AsType[*gateway.Error](o.err); !ok || e.Phase != gateway.PhaseDial || e.Sent || !gateway.Retryable(o.err) {
			t.Errorf("%+v", o.err)
		}
		synctest.Test(t, func(t *testing.T) {
			c := piped(func(c net.Conn, r *fastcgi.Reader) {
				readRequest(r)
				time.Sleep(time.Hour)
			})
			c.HeadTimeout = time.Second
			o := ask(t, c, request(t, "GET", ""))
			if e, ok := errors.AsType[*gateway.Error](o.err); !ok || !e.Timeout() || e.Phase != gateway.PhaseHead || gateway.ErrorStatus(o.err) != 504 {
				t.Errorf("%+v", o.err)
			}
			c = piped(func(c net.Conn, r *fastcgi.Reader) {
				readRequest(r)
				for range 3 {
					time.Sleep(900 * time.Millisecond)
					io.WriteString(c, rec(fastcgi.TypeStdout, 1, okHead))
				}
				time.Sleep(time.Hour)
			})
			c.BodyTimeout = time.Second
			o = ask(t, c, request(t, "GET", ""))
			if e, ok := errors.AsType[*gateway.Error](o.err); !ok || !e.Timeout() || e.Phase != gateway.PhaseBody || len(o.body) != 2*len(okHead) {
				t.Errorf("%+v after %d bytes", o.err, len(o.body))
			}
			time.Sleep(2 * time.Hour)
		})
	})
}

// piped is a client of an application at the other end of a pipe.
func piped(app func(c net.Conn, r *fastcgi.Reader)) *fastcgi.Client {
	return &fastcgi.Client{Logger: quiet, Dial: func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			app(theirs, fastcgi.NewReader(theirs))
		}()
		return ours, nil
	}}
}

// retries kills a kept connection under the client and looks what it does.
func retries(t *testing.T) {
	for _, c := range []struct {
		name, method, body string
		replay, again      bool
		partial            bool // the application responds a part before it closes
	}{
		{"GET", "GET", "", true, true, false},
		{"HEAD", "HEAD", "", true, true, false},
		{"OPTIONS with a body", "OPTIONS", "body", true, true, false},
		{"GET with a body that is gone", "GET", "body", false, false, false},
		{"POST", "POST", "body", true, false, false},
		{"GET with part of a response", "GET", "", true, false, true},
	} {
		var conns atomic.Int64
		addr := script(t, func(conn net.Conn) {
			n := conns.Add(1)
			r := fastcgi.NewReader(conn)
			for i := uint16(1); ; i++ {
				if _, _, err := readRequest(r); err != nil {
					return
				}
				if n == 1 && i == 2 {
					if c.partial {
						io.WriteString(conn, rec(fastcgi.TypeStdout, i, "Status: 200 OK\r\n"))
					}
					return
				}
				io.WriteString(conn, response(i, okHead))
			}
		})
		client := &fastcgi.Client{Addr: addr, MaxIdleConns: 1}
		if o := ask(t, client, request(t, "GET", "")); o.err != nil {
			t.Fatal(o.err)
		}
		r := request(t, c.method, c.body)
		if !c.replay {
			r.GetBody = nil
		}
		o := ask(t, client, r)
		if again := conns.Load() == 2; again != c.again || (o.err == nil) != c.again {
			t.Errorf("%s: sent again %v, %v", c.name, again, o.err)
		}
		client.Close()
	}
	// A connection that was closed while it was idle is not even tried (105).
	closed := make(chan struct{})
	addr := script(t, func(conn net.Conn) {
		readRequest(fastcgi.NewReader(conn))
		io.WriteString(conn, response(1, okHead))
		conn.Close()
		closed <- struct{}{}
	})
	client := &fastcgi.Client{Addr: addr, MaxIdleConns: 1}
	for range 3 {
		if o := ask(t, client, request(t, "POST", "body")); o.err != nil {
			t.Error(o.err)
		}
		<-closed
		time.Sleep(time.Millisecond)
	}
	if s := client.Stats(); s.Reused > 0 || s.Dialed != 3 {
		t.Errorf("%+v", s)
	}
	client.Close()
}

// cancellation ends the context at every part of an exchange.
func cancellation(t *testing.T) {
	for _, part := range []string{"", rec(fastcgi.TypeStdout, 1, "Status: 200"), rec(fastcgi.TypeStdout, 1, okHead), rec(fastcgi.TypeStdout, 1, okHead+"x")} {
		synctest.Test(t, func(t *testing.T) {
			gone := make(chan struct{})
			c := piped(func(c net.Conn, r *fastcgi.Reader) {
				readRequest(r)
				io.WriteString(c, part)
				c.Read(make([]byte, 1)) // until the client closes
				close(gone)
			})
			c.MaxIdleConns = 1
			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("the reason")
			time.AfterFunc(time.Second, func() { cancel(why) })
			var res gateway.Response
			err := c.RoundTrip(ctx, request(t, "GET", ""), &res)
			if err == nil {
				_, err = io.ReadAll(res.Body)
				res.Body.Close()
			}
			want(t, err, why)
			<-gone
			if s := c.Stats(); s.Idle != 0 || s.InFlight != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
	// While the body is being sent.
	synctest.Test(t, func(t *testing.T) {
		c := piped(func(c net.Conn, r *fastcgi.Reader) { time.Sleep(time.Minute) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var res gateway.Response
		want(t, c.RoundTrip(ctx, request(t, "POST", strings.Repeat("b", 1<<20)), &res), context.DeadlineExceeded)
		time.Sleep(time.Hour)
	})
}

// TestPool bounds the connections.
func TestPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var open, most atomic.Int64
		c := piped(func(c net.Conn, r *fastcgi.Reader) {
			most.Store(max(most.Load(), open.Add(1)))
			defer open.Add(-1)
			for {
				if _, _, err := readRequest(r); err != nil {
					return
				}
				time.Sleep(time.Second)
				id, _ := r.Begin()
				io.WriteString(c, response(id, okHead+"x"))
			}
		})
		c.MaxConns, c.MaxIdleConns = 2, 2
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if o := ask(t, c, request(t, "GET", "")); o.err != nil {
					t.Error(o.err)
				}
			})
		}
		synctest.Wait()
		if s := c.Stats(); s.InFlight != 10 || s.Waiting != 8 {
			t.Errorf("%+v", s)
		}
		wg.Wait()
		if s := c.Stats(); most.Load() != 2 || s.Dialed != 2 || s.Reused != 8 || s.Waiting != 0 {
			t.Errorf("%d at once, %+v", most.Load(), s)
		}
		// One who waits gives up with its context.
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		for range 2 {
			wg.Go(func() { ask(t, c, request(t, "GET", "")) })
		}
		synctest.Wait()
		var res gateway.Response
		err := c.RoundTrip(ctx, request(t, "GET", ""), &res)
		if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Phase != gateway.PhaseWait || gateway.ErrorStatus(err) != 503 {
			t.Errorf("%v", err)
		}
		wg.Wait()
		c.Close()
	})
}

// TestEnv: configuration beats the request.
func TestEnv(t *testing.T) {
	r := request(t, "GET", "")
	r.Params.Add("PHP_VALUE", "of the request")
	got := sent(t, &fastcgi.Client{Env: []string{"PHP_VALUE=a=b", "NEW=1"}}, r)
	if !strings.Contains(got, pairs("PHP_VALUE", "a=b")) || !strings.Contains(got, pairs("NEW", "1")) || strings.Contains(got, "of the request") {
		t.Errorf("sent %q", got)
	}
	for _, env := range []string{"", "NOVALUE", "=x", "A=\x00"} {
		if o := ask(t, &fastcgi.Client{Addr: "127.0.0.1:1", Env: []string{env}}, r); !errors.Is(o.err, gateway.ErrParam) {
			t.Errorf("%q: %v", env, o.err)
		}
	}
}

// TestObserve: each RoundTrip is observed once.
func TestObserve(t *testing.T) {
	var seen []gateway.Exchange
	c := &fastcgi.Client{
		Addr:         gatewaytest.Start(t, &fastcgi.Server{Handler: echo, Logger: quiet}),
		MaxIdleConns: 1,
		Observe:      func(_ context.Context, x *gateway.Exchange) { seen = append(seen, *x) },
	}
	defer c.Close()
	for range 2 {
		ask(t, c, request(t, "POST", strings.Repeat("b", 20000)))
	}
	bad := request(t, "POST", "")
	bad.Params.Add("A\x00", "")
	ask(t, c, bad)
	if len(seen) != 3 {
		t.Fatalf("%d exchanges", len(seen))
	}
	if x := seen[1]; !x.Reused || x.Status != 200 || x.Sent != 20000 || x.Received == 0 || x.Err != nil || x.Total < x.Head {
		t.Errorf("%+v", x)
	}
	if x := seen[2]; x.Err == nil {
		t.Errorf("%+v", x)
	}
}

// TestStaleBody: what is kept of a response after its end cannot touch the next.
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
