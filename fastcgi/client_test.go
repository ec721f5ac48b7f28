package fastcgi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
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
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

// sent returns the bytes that a client sends for r.
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

// TestClientRequest the records that a request is sent in
func TestClientRequest(t *testing.T) {
	t.Run("the bytes of a GET [072 073]", func(t *testing.T) {
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
	t.Run("whole pairs in records of at most 65528 bytes [074 076]", func(t *testing.T) {
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
	t.Run("a request without a body [081]", func(t *testing.T) {
		got := sent(t, new(fastcgi.Client), request(t, "GET", ""))
		if !strings.Contains(got, "\x0e\x01CONTENT_LENGTH0") || !strings.HasSuffix(got, string([]byte{1, 5, 0, 1, 0, 0, 0, 0})) {
			t.Errorf("sent %q", got)
		}
	})
	t.Run("GET_VALUES is not sent [109]", func(t *testing.T) {
		if got := sent(t, new(fastcgi.Client), request(t, "GET", "")); strings.Contains(got, "FCGI_MAX") {
			t.Error("it is sent with a request")
		}
		junk := rec(fastcgi.TypeGetValuesResult, 0, "\xff\xff\xff\xff\x01junk")
		if o := received(t, junk+response(1, okHead+"x")); o.err != nil || o.body != "x" {
			t.Errorf("%q, %v", o.body, o.err)
		}
	})
	t.Run("SCRIPT_FILENAME has no proxy: prefix [117]", func(t *testing.T) {
		if got := sent(t, new(fastcgi.Client), request(t, "GET", "")); strings.Contains(got, "proxy:") {
			t.Errorf("sent %q", got)
		}
	})
}

func TestClientRoles(t *testing.T) {
	t.Run("an Authorizer gets no body [113]", func(t *testing.T) {
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
	t.Run("a Filter gets its data [116]", func(t *testing.T) {
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
}

func TestClientRetry(t *testing.T) {
	t.Run("requests that are sent again, and those that are not [089 105]", retries)
	t.Run("requests that are not sent again [089]", func(t *testing.T) {
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
	t.Run("the data of a Filter cannot be read twice [089]", func(t *testing.T) {
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

// A request whose kept connection was closed is sent again over a new one, in the place of the old:
// it does not wait behind others, and no good connection is closed for it.
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

// retries closes a kept connection under the client and checks whether the request is sent again.
func retries(t *testing.T) {
	for _, c := range []struct {
		name, method, body string
		replay, again      bool
		partial            bool // the application responds a part before it closes
	}{
		{"GET", "GET", "", true, true, false},
		{"HEAD", "HEAD", "", true, true, false},
		{"OPTIONS with a body", "OPTIONS", "body", true, true, false},
		{"GET with a body that was read", "GET", "body", false, false, false},
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

func TestClientEnds(t *testing.T) {
	t.Run("a context that ends [102 296]", cancellation)
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

func TestSendTimeout(t *testing.T) {
	conformance.SendTimeout(t, func(dial func(context.Context) (net.Conn, error), timeout time.Duration) gateway.RoundTripper {
		return &fastcgi.Client{Dial: dial, SendTimeout: timeout, Logger: quiet}
	}, func(w io.Writer) { io.WriteString(w, response(1, okHead+"early")) })
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

// A request was once sent again after a time-out, when the application was at work on it.
func TestTimeOutIsNotRepeated(t *testing.T) {
	var requests atomic.Int64
	addr := script(t, func(c net.Conn) {
		r := fastcgi.NewReader(c)
		for i := uint16(1); ; i++ {
			if _, _, err := readRequest(r); err != nil {
				return
			}
			if requests.Add(1) > 1 {
				time.Sleep(300 * time.Millisecond)
			}
			io.WriteString(c, response(i, okHead))
		}
	})
	c := &fastcgi.Client{Addr: addr, MaxIdleConns: 1, HeadTimeout: 100 * time.Millisecond}
	ask(t, c, request(t, "GET", ""))
	o := ask(t, c, request(t, "GET", ""))
	if e, ok := errors.AsType[*gateway.Error](o.err); !ok || !e.Timeout() || !e.Reused || requests.Load() != 2 {
		t.Errorf("%v, %d requests", o.err, requests.Load())
	}
}
