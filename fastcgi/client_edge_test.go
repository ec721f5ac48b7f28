package fastcgi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

// The tests here hold single lines of the client and the codec: each was written because the line could be taken out and
// nothing failed.

// recorded starts an application that keeps every byte it is sent and responds nothing.
func recorded(t *testing.T) (addr string, sent func() string) {
	t.Helper()
	var mu sync.Mutex
	var got bytes.Buffer
	done := make(chan struct{}, 8)
	addr = script(t, func(c net.Conn) {
		b, _ := io.ReadAll(c)
		mu.Lock()
		got.Write(b)
		mu.Unlock()
		done <- struct{}{}
	})
	return addr, func() string {
		select {
		case <-done:
		case <-time.After(limit):
			t.Fatal("the client keeps its connection open")
		}
		mu.Lock()
		defer mu.Unlock()
		return got.String()
	}
}

// content is what the records of a type hold in b, and whether the empty one came.
func content(typ fastcgi.Type, b string) (content string, ended bool) {
	for rest := []byte(b); ; {
		rec, n := fastcgi.ConsumeRecord(rest)
		if n <= 0 {
			return content, ended
		}
		if rec.Type == typ {
			content += string(rec.Content)
			ended = ended || len(rec.Content) == 0
		}
		rest = rest[n:]
	}
}

func TestClientEdges(t *testing.T) {
	t.Run("what leaves of a body of another length [079 F2 F33]", func(t *testing.T) {
		large := strings.Repeat("b", 40000)
		for _, c := range []struct {
			name, body string
			length     int64
			stream     bool
		}{
			{"short, in memory", "hell", 5, false},
			{"long, in memory", "hello!", 5, false},
			{"short, streamed", "hell", 5, true},
			{"long, streamed", "hello!", 5, true},
			{"large and short, in memory", large, 40001, false},
			{"large and long, in memory", large, 39999, false},
			{"large and short, streamed", large, 40001, true},
			{"large and long, streamed", large, 39999, true},
			{"missing", "", 5, false},
		} {
			t.Run(c.name, func(t *testing.T) {
				addr, sent := recorded(t)
				r := request(t, "POST", "")
				r.ContentLength, r.GetBody = c.length, nil
				switch {
				case c.name == "missing":
					r.Body = nil
				case c.stream:
					r.Body = struct{ io.Reader }{strings.NewReader(c.body)}
				default:
					r.Body = strings.NewReader(c.body)
				}
				o := ask(t, &fastcgi.Client{Addr: addr, Logger: quiet}, r)
				e, ok := errors.AsType[*gateway.Error](o.err)
				if !ok || e.Phase > gateway.PhaseHead || errors.Is(o.err, gateway.ErrNoResponse) {
					t.Errorf("got %v", o.err)
				}
				if short := int64(len(c.body)) < c.length; short != errors.Is(o.err, io.ErrUnexpectedEOF) {
					t.Errorf("got %v", o.err)
				}
				if c.name == "missing" {
					return // nothing was dialed
				}
				got, ended := content(fastcgi.TypeStdin, sent())
				if int64(len(got)) > c.length || ended || !strings.HasPrefix(c.body, got) {
					t.Errorf("%d bytes of STDIN left, its end %v", len(got), ended)
				}
			})
		}
	})
	t.Run("connections that are not kept [104 F2]", func(t *testing.T) {
		stdout := func(b string) string { return rec(fastcgi.TypeStdout, 1, b) }
		hold := func(c net.Conn) { io.Copy(io.Discard, c) }
		for name, b := range map[string]string{
			"excess beyond Content-Length": stdout(okHead[:len(okHead)-2]+"Content-Length: 1\r\n\r\nxy") + stdout("") + end(1, 0, 0),
			"END with a refusal":           stdout(okHead+"x") + stdout("") + end(1, 0, fastcgi.StatusOverloaded),
			"padding that is missing":      stdout(okHead+"x") + stdout("") + padded(fastcgi.TypeEnd, 1, "\x00\x00\x00\x00\x00\x00\x00\x00", 8)[:20],
			"bytes after END":              response(1, okHead+"x") + "\x01",
		} {
			t.Run(name, func(t *testing.T) {
				addr := script(t, func(c net.Conn) {
					var req gateway.Request
					fastcgi.NewReader(c).ReadRequest(&req)
					io.WriteString(c, b)
					hold(c)
				})
				c := &fastcgi.Client{Addr: addr, MaxIdleConns: 1, Logger: quiet}
				defer c.Close()
				ask(t, c, request(t, "GET", ""))
				if s := c.Stats(); s.Idle != 0 {
					t.Errorf("%+v", s)
				}
			})
		}
		t.Run("an empty STDOUT and no END", func(t *testing.T) {
			addr := script(t, func(c net.Conn) {
				var req gateway.Request
				fastcgi.NewReader(c).ReadRequest(&req)
				io.WriteString(c, stdout(okHead+"x")+stdout(""))
				c.(*net.TCPConn).CloseWrite()
				hold(c)
			})
			c := &fastcgi.Client{Addr: addr, MaxIdleConns: 1, Logger: quiet}
			if o := ask(t, c, request(t, "GET", "")); o.err != nil || o.body != "x" || c.Stats().Idle != 0 {
				t.Errorf("%q, %v, %+v", o.body, o.err, c.Stats())
			}
		})
		t.Run("a body found too long after the response", func(t *testing.T) {
			responded := make(chan struct{})
			addr := script(t, func(c net.Conn) {
				var req gateway.Request
				r := fastcgi.NewReader(c)
				r.ReadRequest(&req)
				io.ReadFull(req.Body, make([]byte, 20000))
				io.WriteString(c, response(1, okHead+"x"))
				close(responded)
				hold(c)
			})
			r := request(t, "POST", "")
			r.Body = io.MultiReader(bytes.NewReader(make([]byte, 20000)), &waiting{responded, strings.NewReader("!")})
			r.ContentLength, r.GetBody = 20000, nil
			c := &fastcgi.Client{Addr: addr, MaxIdleConns: 1, Logger: quiet}
			ask(t, c, r)
			if s := c.Stats(); s.Idle != 0 {
				t.Errorf("%+v", s)
			}
		})
	})
	t.Run("lengths of bodies that do not come [118 119]", func(t *testing.T) {
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
	t.Run("more interim responses than anybody sends [249 F30]", func(t *testing.T) {
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
	t.Run("long lines and DEL [096 F7]", func(t *testing.T) {
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
	t.Run("DialTimeout and HeadTimeout [120]", func(t *testing.T) {
		c := &fastcgi.Client{DialTimeout: 20 * time.Millisecond, Dial: func(ctx context.Context) (net.Conn, error) {
			if d, ok := ctx.Deadline(); !ok || time.Until(d) > time.Second {
				t.Errorf("Dial may take until %v", d)
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		e, _ := errors.AsType[*gateway.Error](ask(t, c, request(t, "GET", "")).err)
		if e == nil || e.Phase != gateway.PhaseDial || !e.Timeout() {
			t.Errorf("got %v", e)
		}
		addr := script(t, func(c net.Conn) { io.Copy(io.Discard, c) })
		r := request(t, "POST", "")
		r.Body, r.ContentLength, r.GetBody = iotest.OneByteReader(strings.NewReader("streamed")), 8, nil
		e, _ = errors.AsType[*gateway.Error](ask(t, &fastcgi.Client{Addr: addr, HeadTimeout: 30 * time.Millisecond}, r).err)
		if e == nil || e.Phase != gateway.PhaseHead || !e.Timeout() {
			t.Errorf("got %v", e)
		}
	})
	t.Run("a reset in mid-response [087]", func(t *testing.T) {
		addr := script(t, func(c net.Conn) {
			var req gateway.Request
			fastcgi.NewReader(c).ReadRequest(&req)
			io.WriteString(c, rec(fastcgi.TypeStdout, 1, okHead+"x"))
			time.Sleep(20 * time.Millisecond)
			c.(*net.TCPConn).SetLinger(0)
		})
		want(t, ask(t, &fastcgi.Client{Addr: addr}, request(t, "GET", "")).err, gateway.ErrTruncated)
	})
	t.Run("what is not sent again [089]", func(t *testing.T) {
		for method, again := range map[string]bool{"GET": true, "TRACE": true, "PUT": false, "DELETE": false, "POST": false} {
			var conns atomic.Int64
			addr := script(t, func(c net.Conn) {
				conns.Add(1)
				r := fastcgi.NewReader(c)
				if _, _, err := readRequest(r); err != nil {
					return
				}
				io.WriteString(c, response(1, okHead))
				readRequest(r) // and close without a word
			})
			c := &fastcgi.Client{Addr: addr, MaxIdleConns: 1}
			ask(t, c, request(t, "GET", ""))
			o := ask(t, c, request(t, method, ""))
			if again != (o.err == nil) || again != (conns.Load() == 2) {
				t.Errorf("%s: %v, %d connections", method, o.err, conns.Load())
			}
			c.Close()
		}
	})
	t.Run("a Filter's data is not had again [089]", func(t *testing.T) {
		addr := script(t, func(c net.Conn) {
			r := fastcgi.NewReader(c)
			if _, _, err := readRequest(r); err != nil {
				return
			}
			io.WriteString(c, response(1, okHead))
			for rec, err := r.Next(); err == nil && rec.Type != fastcgi.TypeBegin; rec, err = r.Next() {
			}
		})
		c := &fastcgi.Client{Addr: addr, MaxIdleConns: 1}
		defer c.Close()
		ask(t, c, request(t, "GET", ""))
		r := request(t, "GET", "")
		r.Role, r.Data = gateway.RoleFilter, strings.NewReader("data")
		r.Params.Set("FCGI_DATA_LENGTH", "4")
		want(t, ask(t, c, r).err, gateway.ErrNoResponse)
	})
}

// waiting is a Reader that waits before it gives anything.
type waiting struct {
	ready <-chan struct{}
	r     io.Reader
}

func (w *waiting) Read(p []byte) (int, error) {
	<-w.ready
	return w.r.Read(p)
}

func TestCodecEdges(t *testing.T) {
	t.Run("NUL [002]", func(t *testing.T) {
		for _, nv := range [][2]string{{"A\x00B", "v"}, {"A", "v\x00w"}} {
			b, err := fastcgi.AppendParam([]byte("dst"), nv[0], nv[1])
			if want(t, err, gateway.ErrParam); string(b) != "dst" {
				t.Errorf("%q", b)
			}
		}
	})
	t.Run("more pairs than the cap [043 F35]", func(t *testing.T) {
		b := []byte(strings.Repeat(pairs("A", "v"), 1000))
		var p gateway.Params
		if n, err := fastcgi.ConsumeParams(b, &p); n != len(b) || err != nil || p.Len() != 1000 {
			t.Errorf("%d, %v", n, err)
		}
		n, err := fastcgi.ConsumeParams([]byte(pairs("A", "v")), &p)
		if want(t, err, gateway.ErrTooLarge); n != -1 || p.Len() != 1000 {
			t.Errorf("%d, %d params", n, p.Len())
		}
	})
	t.Run("dst comes back as it was [071]", func(t *testing.T) {
		r := request(t, "GET", "")
		r.Params.Add("HTTP_X", strings.Repeat("v", 60000))
		r.Params.Add("HTTP_Y", strings.Repeat("v", 65530))
		b, err := fastcgi.AppendRequest([]byte("dst"), 1, false, r)
		if want(t, err, gateway.ErrTooLarge); string(b) != "dst" {
			t.Errorf("%.20q", b)
		}
	})
	t.Run("no body and no length [081]", func(t *testing.T) {
		r := request(t, "GET", "")
		r.Body, r.ContentLength = nil, -1
		b, err := fastcgi.AppendRequest(nil, 1, false, r)
		if err != nil || !bytes.Contains(b, []byte("\x0e\x01CONTENT_LENGTH0")) {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("what is configured stands once [012 013 F43]", func(t *testing.T) {
		c := &fastcgi.Client{Env: []string{"SERVER_NAME=one", "PHP_VALUE=a=1", "PHP_VALUE=b=2"}}
		r := request(t, "GET", "")
		r.Params.Set("SERVER_NAME", "two")
		got := sent(t, c, r)
		if strings.Count(got, "SERVER_NAME") != 1 || !strings.Contains(got, "SERVER_NAMEone") ||
			strings.Count(got, "PHP_VALUE") != 1 || !strings.Contains(got, "PHP_VALUEb=2") {
			t.Errorf("sent %q", got)
		}
		for _, env := range []string{"PHP_VALUE", "CONTENT_LENGTH=7", "HTTP_X=a\nb"} {
			c = &fastcgi.Client{Addr: "127.0.0.1:1", Env: []string{env}}
			want(t, ask(t, c, request(t, "GET", "")).err, gateway.ErrParam)
		}
	})
	t.Run("ConsumeRequest", func(t *testing.T) {
		var p gateway.Params
		whole := head(3, 1, true, "A", "v")
		id, bg, n, err := fastcgi.ConsumeRequest([]byte(rec(fastcgi.TypeGetValues, 0, "")+whole), &p)
		if id != 3 || !bg.KeepConn || n != len(whole)+8 || err != nil || list(&p) != "A=v;" {
			t.Errorf("%d %v %d %v %s", id, bg, n, err, list(&p))
		}
		for _, b := range []string{
			rec(fastcgi.TypeBegin, 1, "\x00\x01\x00\x00\x00\x00\x00\x00\x00") + rec(fastcgi.TypeParams, 1, ""),
			begin(1, 1, false) + rec(fastcgi.TypeParams, 2, ""),
			begin(1, 1, false) + stdin(1, ""),
			begin(0, 1, false) + rec(fastcgi.TypeParams, 0, ""),
		} {
			if _, _, n, err := fastcgi.ConsumeRequest([]byte(b), &p); n != -1 || !errors.Is(err, gateway.ErrMalformed) {
				t.Errorf("%q: %d, %v", b, n, err)
			}
		}
	})
	t.Run("a Filter's streams [116]", func(t *testing.T) {
		r := request(t, "POST", "input")
		r.Role, r.Data = gateway.RoleFilter, strings.NewReader("data")
		r.Params.Set("FCGI_DATA_LENGTH", "4")
		r.Params.Set("FCGI_DATA_LAST_MOD", "1")
		var b bytes.Buffer
		if err := fastcgi.NewWriter(&b).WriteRequest(r); err != nil {
			t.Fatal(err)
		}
		input, inputEnds := content(fastcgi.TypeStdin, b.String())
		data, dataEnds := content(fastcgi.TypeData, b.String())
		if input != "input" || !inputEnds || data != "data" || !dataEnds {
			t.Errorf("%q %v, %q %v", input, inputEnds, data, dataEnds)
		}
		r.Params.Set("FCGI_DATA_LENGTH", "5")
		r.SetBody([]byte("input"))
		r.Data = strings.NewReader("data")
		if err := fastcgi.NewWriter(&b).WriteRequest(r); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("DATA that is short: %v", err)
		}
	})
	t.Run("memory [065 F5]", func(t *testing.T) {
		var before, after, worst uint64
		b := []byte("\xff\xff\xff\xff\xff\xff\xff\xff0123456789")
		for range 100 {
			before = heapBytes()
			var p gateway.Params
			if n, err := fastcgi.ConsumeParams(b, &p); n != 0 || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
			after = heapBytes()
			worst = max(worst, after-before)
		}
		if worst > 1<<20 {
			t.Errorf("%d bytes allocated", worst)
		}
	})
}

// A request whose kept connection was closed is sent again over a new one, in the place of the old: it does not wait
// behind others, and no good connection is closed for it.
func TestRetryKeepsItsPlace(t *testing.T) {
	const most = 4
	addr := script(t, func(conn net.Conn) {
		r := fastcgi.NewReader(conn)
		for i := uint16(1); ; i++ {
			req, _, err := readRequest(r)
			if err != nil || i > 1 && req.Path() == "/die" {
				return
			}
			io.WriteString(conn, response(i, okHead))
		}
	})
	client := &fastcgi.Client{Addr: addr, MaxConns: most, MaxIdleConns: most, Logger: quiet}
	defer client.Close()
	get := func(path string) error {
		r := new(gateway.Request)
		if err := r.SetTarget("GET", path); err != nil {
			return err
		}
		return ask(t, client, r).err
	}
	stop := make(chan struct{})
	var others sync.WaitGroup
	for range 4 * most {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := get("/"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for client.Stats().Dialed < most {
		time.Sleep(time.Millisecond)
	}
	const rounds = 10
	for range rounds {
		if err := get("/die"); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	others.Wait()
	if dialed := client.Stats().Dialed; dialed > most+rounds {
		t.Errorf("%d connections were opened, more than %d", dialed, most+rounds)
	}
}

func TestSendTimeout(t *testing.T) {
	conformance.SendTimeout(t, func(dial func(context.Context) (net.Conn, error), timeout time.Duration) gateway.RoundTripper {
		return &fastcgi.Client{Dial: dial, SendTimeout: timeout, Logger: quiet}
	}, func(w io.Writer) { io.WriteString(w, response(1, okHead+"early")) })
}
