package fuzz_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/fuzz"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

func TestSeeds(t *testing.T) {
	for _, p := range protocols {
		count := make(map[string]int)
		for name, b := range fuzz.Seeds(p) {
			side, _, _ := strings.Cut(name, "/")
			count[side]++
			if strings.HasSuffix(name, ".bad") {
				count["bad "+side]++
			}
			clear(b) // they are ours
		}
		if count["request"] < 15 || count["response"] < 5 || count["bad request"] < 2 || count["bad response"] < 1 || len(count) != 4 {
			t.Errorf("%s: %v", p, count)
		}
		for _, b := range fuzz.Seeds(p) {
			if len(b) > 0 && !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) {
				t.Fatalf("%s: what a caller did to a seed stays", p)
			}
			break
		}
	}
	for range fuzz.Seeds("gopher") {
		t.Error("a seed of no protocol")
	}
}

// requests are the seeds of one side.
func seeds(p fuzz.Protocol, side string) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for name, b := range fuzz.Seeds(p) {
			if strings.HasPrefix(name, side) && !yield(b) {
				return
			}
		}
	}
}

// read uses the Reader of a protocol as the decoder under test.
func read(p fuzz.Protocol) fuzz.Decode {
	return func(b []byte) (map[string]string, int, error) {
		var r gateway.Request
		var err error
		var n int64
		src := bytes.NewReader(b)
		switch p {
		case fuzz.FastCGI:
			rd := fastcgi.NewReader(src)
			err = rd.ReadRequest(&r)
			n = rd.Offset()
		case fuzz.SCGI:
			rd := scgi.NewReader(src)
			err = rd.ReadRequest(&r)
			n = rd.Offset()
		case fuzz.UWSGI:
			rd := uwsgi.NewReader(src)
			err = rd.ReadRequest(&r)
			n = rd.Offset()
		}
		m := make(map[string]string)
		for name, value := range r.Params.All() {
			m[string(name)] = string(value)
		}
		return m, int(n), err
	}
}

// FuzzDecoder holds each Reader against its protocol's ConsumeRequest.
func FuzzDecoder(f *testing.F) {
	for i, p := range wires {
		for b := range seeds(p, "request/") {
			f.Add(uint8(i), b)
		}
	}
	f.Fuzz(func(t *testing.T, i uint8, b []byte) {
		p := wires[int(i)%len(wires)]
		fuzz.Decoder(t, p, b, read(p))
	})
}

// FuzzServer plays to each of our servers.
func FuzzServer(f *testing.F) {
	var servers []*fuzz.Server
	for i, p := range wires {
		servers = append(servers, &fuzz.Server{Protocol: p, Dial: dialer(gatewaytest.Start(f, server(p, echo)))})
		for b := range seeds(p, "request/") {
			f.Add(uint8(i), b)
		}
	}
	f.Fuzz(func(t *testing.T, i uint8, b []byte) {
		servers[int(i)%len(servers)].Play(t, b)
	})
}

// call uses a client of this module as the client under test.
func call(p fuzz.Protocol) func(ctx context.Context, addr string) (io.ReadCloser, error) {
	return func(ctx context.Context, addr string) (io.ReadCloser, error) {
		var res gateway.Response
		if err := client(p, addr).RoundTrip(ctx, gatewaytest.NewRequest("GET", "/", nil), &res); err != nil {
			return nil, err
		}
		return res.Body, nil
	}
}

// FuzzClient responses each of our clients.
func FuzzClient(f *testing.F) {
	for i, p := range protocols {
		for b := range seeds(p, "response/") {
			f.Add(uint8(i), b)
		}
	}
	f.Fuzz(func(t *testing.T, i uint8, b []byte) {
		p := protocols[int(i)%len(protocols)]
		c := &fuzz.Client{Protocol: p, Call: call(p)}
		c.Play(t, b)
	})
}

// TestClientAddresses plays more often than there are ports to spend.
func TestClientAddresses(t *testing.T) {
	seen := make(map[string]bool)
	c := &fuzz.Client{Protocol: fuzz.SCGI, Call: func(_ context.Context, addr string) (io.ReadCloser, error) {
		seen[addr] = true
		return nil, errOther
	}}
	for range 1000 {
		c.Play(t, nil)
	}
	if len(seen) > 500 {
		t.Errorf("%d addresses for 1000 plays", len(seen))
	}
}

// TestDecoderFinds plants a fault for each rule in a decoder that is right.
func TestDecoderFinds(t *testing.T) {
	good := "24:CONTENT_LENGTH\x000\x00SCGI\x001\x00,"
	right := read(fuzz.SCGI)
	if said := failures(t, func(t testing.TB) { fuzz.Decoder(t, fuzz.SCGI, []byte(good), right) }); said != "" {
		t.Fatal(said)
	}
	for _, c := range []struct {
		words, input string
		decode       fuzz.Decode
	}{
		{"refused, and should be accepted", good, func([]byte) (map[string]string, int, error) { return nil, 0, errOther }},
		{"cut, and should be accepted", good, func([]byte) (map[string]string, int, error) { return nil, 0, io.ErrUnexpectedEOF }},
		{"accepted, and should be cut", good[:20], func([]byte) (map[string]string, int, error) { return nil, 0, nil }},
		{"accepted, and should be refused", "0" + good, func(b []byte) (map[string]string, int, error) { return right(b[1:]) }},
		{"cut, and should be refused", "+" + good, func(b []byte) (map[string]string, int, error) { return nil, 0, io.ErrUnexpectedEOF }},
		{"used 5 bytes, and should have used 28", good, func(b []byte) (map[string]string, int, error) {
			m, _, err := right(b)
			return m, 5, err
		}},
		{`"SCGI" is missing`, good, func(b []byte) (map[string]string, int, error) {
			m, _, err := right(b)
			delete(m, "SCGI")
			return m, -1, err
		}},
		{`"SCGI" has another value`, good, func(b []byte) (map[string]string, int, error) {
			m, n, err := right(b)
			m["SCGI"] = "2"
			return m, n, err
		}},
		{`"X" was not sent`, good, func(b []byte) (map[string]string, int, error) {
			m, n, err := right(b)
			m["X"] = ""
			return m, n, err
		}},
	} {
		expect(t, c.words, func(t testing.TB) { fuzz.Decoder(t, fuzz.SCGI, []byte(c.input), c.decode) })
	}
	// What is left to a decoder.
	for name, c := range map[string]struct {
		p      fuzz.Protocol
		input  string
		decode fuzz.Decode
	}{
		"a cut head that is refused": {fuzz.SCGI, good[:20], func([]byte) (map[string]string, int, error) { return nil, 0, errOther }},
		"a head that was aborted": {fuzz.FastCGI, fcgi(fastcgi.TypeBegin, 1, keep, fastcgi.TypeAbort, 1, "", fastcgi.TypeBegin, 1, keep, fastcgi.TypeParams, 1, ""),
			read(fuzz.FastCGI)},
		"a head that was aborted, and no other": {fuzz.FastCGI, fcgi(fastcgi.TypeBegin, 1, keep, fastcgi.TypeAbort, 1, "", fastcgi.TypeParams, 1, ""),
			func([]byte) (map[string]string, int, error) { return nil, 0, io.ErrUnexpectedEOF }},
		"a rule of params":              {fuzz.CGI, "CONTENT_LENGTH=+1\x00\x00", func([]byte) (map[string]string, int, error) { return nil, 0, errOther }},
		"a name twice":                  {fuzz.CGI, "A=1\x00A=1\x00\x00", func([]byte) (map[string]string, int, error) { return nil, 0, errOther }},
		"SCGI to be seen whole":         {fuzz.SCGI, "024:CONT", func([]byte) (map[string]string, int, error) { return nil, 0, io.ErrUnexpectedEOF }},
		"CGI to be seen whole":          {fuzz.CGI, "=x\x00", func([]byte) (map[string]string, int, error) { return nil, 0, io.ErrUnexpectedEOF }},
		"uwsgi to be seen whole":        {fuzz.UWSGI, "\x00\x05\x00\x00\x00\x00", func([]byte) (map[string]string, int, error) { return nil, 0, io.ErrUnexpectedEOF }},
		"HTTP_PROXY":                    {fuzz.CGI, "HTTP_PROXY=1\x00\x00", func([]byte) (map[string]string, int, error) { return nil, -1, nil }},
		"a name that comes twice":       {fuzz.CGI, "A=1\x00A=2\x00\x00", func([]byte) (map[string]string, int, error) { return map[string]string{"A": "2"}, 9, nil }},
		"a name that comes twice, both": {fuzz.CGI, "A=1\x00A=2\x00\x00", func([]byte) (map[string]string, int, error) { return map[string]string{"A": "1, 2"}, 9, nil }},
		"records of several ids": {fuzz.FastCGI, "\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01\x01\x00\x02\x00\x08\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00",
			func([]byte) (map[string]string, int, error) { return nil, 3, nil }},
	} {
		if said := failures(t, func(t testing.TB) { fuzz.Decoder(t, c.p, []byte(c.input), c.decode) }); said != "" {
			t.Errorf("%s: %s", name, said)
		}
	}
	for p, b := range map[fuzz.Protocol]string{fuzz.CGI: "A=1\x00\x00", fuzz.UWSGI: "\x00\x06\x00\x00\x01\x00A\x01\x001"} {
		expect(t, "refused, and should be accepted", func(t testing.TB) {
			fuzz.Decoder(t, p, []byte(b), func([]byte) (map[string]string, int, error) { return nil, 0, errOther })
		})
	}
	for p, b := range map[fuzz.Protocol]string{fuzz.CGI: "=1\x00\x00", fuzz.UWSGI: "\x00\x06\x00\x00\x00\x00A\x01\x001", fuzz.FastCGI: fcgi(fastcgi.TypeBegin, 1, keep, fastcgi.TypeParams, 1, "\x00\x00", fastcgi.TypeParams, 1, "")} {
		expect(t, "cut, and should be refused", func(t testing.TB) {
			fuzz.Decoder(t, p, []byte(b), func([]byte) (map[string]string, int, error) { return nil, 0, io.ErrUnexpectedEOF })
		})
	}
	expect(t, "should be refused", func(t testing.TB) {
		fuzz.Decoder(t, "gopher", nil, func([]byte) (map[string]string, int, error) { return nil, 0, nil })
	})
}

// fcgi is records of the types and ids given as type, id, content.
func fcgi(records ...any) string {
	var b []byte
	for i := 0; i < len(records); i += 3 {
		b, _ = fastcgi.AppendRecord(b, records[i].(fastcgi.Type), uint16(records[i+1].(int)), []byte(records[i+2].(string)))
	}
	return string(b)
}

const keep = "\x00\x01\x01\x00\x00\x00\x00\x00"

// TestServerFinds plays to servers with a fault each.
func TestServerFinds(t *testing.T) {
	begin := fcgi(fastcgi.TypeBegin, 1, keep)
	whole := begin + fcgi(fastcgi.TypeParams, 1, "", fastcgi.TypeStdin, 1, "")
	end := fcgi(fastcgi.TypeEnd, 1, "\x00\x00\x00\x00\x00\x00\x00\x00")
	fine := fcgi(fastcgi.TypeStdout, 1, "Status: 200 OK\r\n\r\n", fastcgi.TypeStdout, 1, "") + end
	for _, c := range []struct {
		words string
		p     fuzz.Protocol
		input string
		serve func(c net.Conn, first bool) // what it does, once it has read something
	}{
		{"", fuzz.FastCGI, whole, func(c net.Conn, _ bool) { io.WriteString(c, fine) }},
		{"neither a response nor an end in time", fuzz.FastCGI, whole, func(c net.Conn, first bool) {
			if first {
				time.Sleep(time.Second)
				return
			}
			io.WriteString(c, fine)
		}},
		{"neither a response nor an end in time", fuzz.UWSGI, "\x00\x06\x00\x00\x01\x00A\x01\x001", func(c net.Conn, _ bool) { time.Sleep(time.Second) }},
		{"keeps a connection whose input has ended", fuzz.FastCGI, whole, func(c net.Conn, _ bool) {
			io.WriteString(c, fine)
			time.Sleep(time.Second)
		}},
		{"was begun 1 times and has 2 END_REQUESTs", fuzz.FastCGI, whole, func(c net.Conn, _ bool) { io.WriteString(c, fine+end) }},
		{"was begun 0 times", fuzz.FastCGI, whole, func(c net.Conn, _ bool) {
			io.WriteString(c, fcgi(fastcgi.TypeEnd, 2, "\x00\x00\x00\x00\x00\x00\x00\x00")+fine)
		}},
		{"records of request 1, which was never begun or is over", fuzz.FastCGI, whole, func(c net.Conn, _ bool) {
			io.WriteString(c, fine+fcgi(fastcgi.TypeStdout, 1, "late"))
		}},
		{"the response is not FastCGI", fuzz.FastCGI, whole, func(c net.Conn, _ bool) { io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n") }},
		{"a record of type", fuzz.FastCGI, whole, func(c net.Conn, _ bool) { io.WriteString(c, fcgi(fastcgi.TypeBegin, 1, keep)+fine) }},
		{"whose params are malformed, has a response with status 200", fuzz.FastCGI, begin + fcgi(fastcgi.TypeParams, 1, "\x05\x05A", fastcgi.TypeParams, 1, "", fastcgi.TypeStdin, 1, ""),
			func(c net.Conn, _ bool) { io.WriteString(c, fine) }},
		{"a malformed request has a response with status 204", fuzz.SCGI, "+1:A,", func(c net.Conn, _ bool) { io.WriteString(c, "Status: 204\n\n") }},
		{"no longer responds to a GET", fuzz.FastCGI, whole, func(c net.Conn, first bool) {
			if first {
				io.WriteString(c, fine)
			}
		}},
		{"no longer responds to a GET", fuzz.SCGI, "24:CONTENT_LENGTH\x000\x00SCGI\x001\x00,", func(c net.Conn, _ bool) { io.WriteString(c, "x") }},
		{"no longer responds to a GET", fuzz.FastCGI, whole, func(c net.Conn, _ bool) { io.WriteString(c, fine[:len(fine)-3]) }},
		{"", fuzz.FastCGI, fcgi(fastcgi.TypeBegin, 1, "\x00\x03\x01\x00\x00\x00\x00\x00", fastcgi.TypeParams, 1, "", fastcgi.TypeStdin, 1, ""), func(c net.Conn, first bool) {
			if !first { // a Filter waits for DATA
				io.WriteString(c, fine)
			}
		}},
		{"", fuzz.FastCGI, whole + fcgi(fastcgi.TypeParams, 1, "\x05\x05A", fastcgi.TypeParams, 1, ""), func(c net.Conn, _ bool) { io.WriteString(c, fine) }},
		{"", fuzz.FastCGI, whole, func(c net.Conn, first bool) {
			io.WriteString(c, fcgi(fastcgi.TypeStdout, 1, "Status: 200 OK\r\n\r\n"))
			for range 3000 {
				io.WriteString(c, fcgi(fastcgi.TypeStdout, 1, strings.Repeat("v", 1024)))
			}
			io.WriteString(c, fcgi(fastcgi.TypeStdout, 1, "")+end)
		}},
		{"made it allocate", fuzz.FastCGI, whole, func(c net.Conn, _ bool) {
			sink = make([]byte, 80<<20)
			io.WriteString(c, fine)
		}},
	} {
		t.Run(c.words, func(t *testing.T) {
			s := &fuzz.Server{Protocol: c.p, Dial: faulty(t, c.serve), Wait: 300 * time.Millisecond}
			if c.words == "" {
				s.Wait = 3 * time.Second // more than what is right can take
				if said := failures(t, func(t testing.TB) { s.Play(t, []byte(c.input)) }); said != "" {
					t.Error(said)
				}
				return
			}
			expect(t, c.words, func(t testing.TB) { s.Play(t, []byte(c.input)) })
		})
	}
	t.Run("a head in pieces", func(t *testing.T) {
		dial := faulty(t, func(c net.Conn, _ bool) {
			left := make(chan struct{}) // it ends its handler when the client seems to leave
			go func() {
				defer close(left)
				c.Read(make([]byte, 1))
			}()
			io.WriteString(c, "Status: 200 OK\r\n")
			select {
			case <-left:
			case <-time.After(50 * time.Millisecond):
				io.WriteString(c, "\r\n")
			}
		})
		for _, dial := range []func(context.Context) (net.Conn, error){dial, func(ctx context.Context) (net.Conn, error) {
			c, err := dial(ctx)
			return struct{ net.Conn }{c}, err // without CloseWrite
		}} {
			s := &fuzz.Server{Protocol: fuzz.SCGI, Dial: dial}
			if said := failures(t, func(t testing.TB) { s.Play(t, []byte("24:CONTENT_LENGTH\x000\x00SCGI\x001\x00,")) }); said != "" {
				t.Error(said)
			}
		}
	})
	t.Run("bytes of another request", func(t *testing.T) {
		var kept string
		s := &fuzz.Server{Protocol: fuzz.SCGI, Dial: faultyRead(t, func(c net.Conn, in string) {
			io.WriteString(c, "Status: 200 OK\r\n\r\n"+kept)
			kept = in
		})}
		s.Play(t, []byte("24:CONTENT_LENGTH\x000\x00SCGI\x001\x00,"))
		expect(t, "bytes of another request", func(t testing.TB) { s.Play(t, []byte("24:CONTENT_LENGTH\x000\x00SCGI\x001\x00,")) })
	})
	t.Run("several requests", func(t *testing.T) {
		second := fcgi(fastcgi.TypeBegin, 2, keep, fastcgi.TypeParams, 2, "", fastcgi.TypeStdin, 2, "")
		values := map[bool]string{true: fcgi(fastcgi.TypeGetValuesResult, 0, "\x0f\x01FCGI_MPXS_CONNS1"), false: fcgi(fastcgi.TypeUnknown, 0, "\x09\x00\x00\x00\x00\x00\x00\x00")}
		for claims, result := range values {
			s := &fuzz.Server{Protocol: fuzz.FastCGI, Wait: 300 * time.Millisecond, Dial: faultyRead(t, func(c net.Conn, in string) {
				if in[1] == byte(fastcgi.TypeGetValues) {
					io.WriteString(c, result)
					return
				}
				io.WriteString(c, fine)
				io.Copy(io.Discard, c) // the second request, among others
			})}
			play := func(t testing.TB) { s.Play(t, []byte(whole+second)) }
			if claims { // a Dial that fails is not a response
				dial := s.Dial
				s.Dial = func(context.Context) (net.Conn, error) { return nil, errOther }
				expect(t, "dial: refused", play)
				s.Dial = dial
				expect(t, "neither a response nor an end in time", play)
			} else if said := failures(t, play); said != "" {
				t.Error(said)
			}
		}
	})
	t.Run("what cannot be played", func(t *testing.T) {
		expect(t, "no connection carries", func(t testing.TB) { (&fuzz.Server{Protocol: fuzz.CGI}).Play(t, nil) })
		expect(t, "dial: refused", func(t testing.TB) {
			(&fuzz.Server{Protocol: fuzz.SCGI, Dial: func(context.Context) (net.Conn, error) { return nil, errOther }}).Play(t, nil)
		})
	})
}

var sink []byte

// faulty is the dial function of a server that reads once, does as serve says, and closes.
func faulty(t *testing.T, serve func(c net.Conn, first bool)) func(context.Context) (net.Conn, error) {
	first := true
	return faultyRead(t, func(c net.Conn, _ string) {
		was := first
		first = false
		serve(c, was)
	})
}

func faultyRead(t *testing.T, serve func(c net.Conn, in string)) func(context.Context) (net.Conn, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	t.Cleanup(func() {
		l.Close()
		<-over
	})
	go func() {
		defer close(over)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 64<<10)
			n, _ := c.Read(buf)
			serve(c, string(buf[:n]))
			c.Close()
		}
	}()
	return dialer(l.Addr().String())
}

// TestClientFinds responses clients with a fault each.
func TestClientFinds(t *testing.T) {
	// raw sends a GET of SCGI and gives all that follows the head.
	raw := func(ctx context.Context, addr string) (io.ReadCloser, error) {
		conn, err := dialer(addr)(ctx)
		if err != nil {
			return nil, err
		}
		io.WriteString(conn, "24:CONTENT_LENGTH\x000\x00SCGI\x001\x00,")
		b, _ := io.ReadAll(conn)
		conn.Close()
		_, body, _ := bytes.Cut(b, []byte("\n\n"))
		return io.NopCloser(bytes.NewReader(body)), nil
	}
	play := func(call func(ctx context.Context, addr string) (io.ReadCloser, error), response string) func(t testing.TB) {
		c := &fuzz.Client{Protocol: fuzz.SCGI, Call: call, Wait: 200 * time.Millisecond}
		return func(t testing.TB) { c.Play(t, []byte(response)) }
	}
	if said := failures(t, play(raw, "Status: 200\n\nbody")); said != "" {
		t.Error(said)
	}
	expect(t, "there was no response", play(raw, ""))
	expect(t, "the response was cut", play(raw, "Content-Length: 9\n\nbody"))
	expect(t, "the response was cut", play(raw, "Content-Len"))
	expect(t, "the response was cut behind its head", play(raw, "Content-Length: 9\n\n"))
	expect(t, "the body has 4 bytes, and it gave 0", play(func(ctx context.Context, addr string) (io.ReadCloser, error) {
		raw(ctx, addr)
		return nil, nil
	}, "Status: 200\n\nbody"))
	expect(t, "the call was not over in time", play(func(ctx context.Context, addr string) (io.ReadCloser, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}, "Status: 200\n\nbody"))
	stop := make(chan struct{})
	expect(t, "does not return", play(func(ctx context.Context, addr string) (io.ReadCloser, error) {
		<-stop
		return nil, nil
	}, "Status: 200\n\nbody"))
	close(stop)
	for _, fine := range []string{"Status: 204\n\nbody", "HTTP/1.1 304 Not Modified\nContent-Length: 9\n\n", "Status: 205\n\nbody", "Location: /x\n\nbody",
		"Status: 103 Early Hints\n\nStatus: 200\n\nbody"} {
		if said := failures(t, play(func(ctx context.Context, addr string) (io.ReadCloser, error) {
			raw(ctx, addr)
			return nil, nil
		}, fine)); said != "" {
			t.Errorf("%q: %s", fine, said)
		}
	}
	expect(t, "unknown protocol", func(t testing.TB) { (&fuzz.Client{Protocol: "gopher", Call: raw}).Play(t, nil) })
}
