package scgi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/scgi"
)

var echo = conformance.Handlers["echo"]

// example is that of the specification.
const example = "70:CONTENT_LENGTH\x0027\x00SCGI\x001\x00REQUEST_METHOD\x00POST\x00REQUEST_URI\x00/deepthought\x00,What is the answer to life?"

// TestCodecConformance is items 194 to 213 for the codec.
func TestCodecConformance(t *testing.T) {
	t.Run("the example of the specification [194 195 196 198]", func(t *testing.T) {
		r := new(gateway.Request)
		r.Params.Add("REQUEST_METHOD", "POST")
		r.Params.Add("REQUEST_URI", "/deepthought")
		r.Params.Add("CONTENT_LENGTH", "99")
		r.Params.Add("SCGI", "2")
		r.SetBody([]byte("What is the answer to life?"))
		var b bytes.Buffer
		if err := scgi.NewWriter(&b).WriteRequest(r); err != nil || b.String() != example {
			t.Errorf("%q, %v", b.String(), err)
		}
		got, err := fromBytes(example)
		if err != nil || got.Method() != "POST" || got.URI() != "/deepthought" || got.ContentLength != 27 {
			t.Errorf("%v", err)
		}
		if body, err := io.ReadAll(got.Body); string(body) != "What is the answer to life?" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
	})
	t.Run("what cannot be sent [197]", func(t *testing.T) {
		for _, nv := range [][2]string{{"", "v"}, {"A\x00", "v"}, {"A", "v\x00"}} {
			if b, err := scgi.AppendParam([]byte("dst"), nv[0], nv[1]); !errors.Is(err, gateway.ErrParam) || string(b) != "dst" {
				t.Errorf("%q: %q, %v", nv, b, err)
			}
		}
		r := new(gateway.Request)
		r.Params.Add("SCRIPT_NAME", "/a")
		r.Params.Add("SCRIPT_NAME", "/b")
		if b, err := scgi.AppendRequest([]byte("dst"), r); !errors.Is(err, gateway.ErrParam) || string(b) != "dst" {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("an unknown length [199]", func(t *testing.T) {
		r := gatewaytest.NewRequest("POST", "/", nil)
		r.ContentLength = -1
		if _, err := scgi.AppendRequest(nil, r); !errors.Is(err, gateway.ErrLengthRequired) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a block for rTorrent [200]", func(t *testing.T) {
		r := new(gateway.Request)
		r.Params.Add("CONTENT_TYPE", "text/xml")
		r.SetBody([]byte("<methodCall/>"))
		b, err := scgi.AppendRequest(nil, r)
		if want := netstring("CONTENT_LENGTH\x0013\x00SCGI\x001\x00CONTENT_TYPE\x00text/xml\x00"); err != nil || string(b) != want || len(b) > 2000 {
			t.Errorf("%q, %v", b, err)
		}
	})
	for _, c := range []struct {
		id, input string
		err       error
	}{
		{"a sign [201]", "+70:", gateway.ErrMalformed},
		{"a minus [201]", "-5:", gateway.ErrMalformed},
		{"a space [201]", " 70:", gateway.ErrMalformed},
		{"an underscore [201]", "7_0:", gateway.ErrMalformed},
		{"no digit [201]", ":", gateway.ErrMalformed},
		{"a leading zero [201]", "070:", gateway.ErrMalformed},
		{"two zeros [201]", "00:", gateway.ErrMalformed},
		{"digits without end [201 203]", "1111111111111", gateway.ErrMalformed},
		{"a line of HTTP [201 297 F49]", "GET / HTTP/1.1\r\n", gateway.ErrMalformed},
		{"TLS [201 297 F49]", "\x16\x03\x01\x02\x00\x01", gateway.ErrMalformed},
		{"the PROXY protocol [201 298]", "PROXY TCP4 ", gateway.ErrMalformed},
		{"more than the limit [202 F35]", "1048577:", gateway.ErrTooLarge},
		{"all that digits can say [202]", "9999999999:", gateway.ErrTooLarge},
		{"no comma [204]", "24:CONTENT_LENGTH\x000\x00SCGI\x001\x00;", gateway.ErrMalformed},
		{"no NUL at the end [205]", netstring("CONTENT_LENGTH\x000\x00SCGI\x001"), gateway.ErrMalformed},
		{"a name without a value [205]", netstring("CONTENT_LENGTH\x000\x00SCGI\x001\x00A\x00"), gateway.ErrMalformed},
		{"an empty name [001 205]", netstring("CONTENT_LENGTH\x000\x00SCGI\x001\x00\x00v\x00"), gateway.ErrMalformed},
		{"CONTENT_LENGTH not first [206]", netstring("SCGI\x001\x00CONTENT_LENGTH\x000\x00"), gateway.ErrMalformed},
		{"no CONTENT_LENGTH [206]", netstring("SCGI\x001\x00"), gateway.ErrMalformed},
		{"an empty CONTENT_LENGTH [206 019]", netstring("CONTENT_LENGTH\x00\x00SCGI\x001\x00"), gateway.ErrParam},
		{"no SCGI [207]", netstring("CONTENT_LENGTH\x000\x00"), gateway.ErrMalformed},
		{"another SCGI [207]", netstring("CONTENT_LENGTH\x000\x00SCGI\x002\x00"), gateway.ErrMalformed},
		{"a name twice [208]", head("A", "1", "A", "2"), gateway.ErrParam},
		{"nothing [209]", "0:,", gateway.ErrMalformed},
	} {
		t.Run(c.id, func(t *testing.T) {
			for name, src := range map[string]io.Reader{"whole": strings.NewReader(c.input), "bytes": iotest.OneByteReader(strings.NewReader(c.input))} {
				r := new(gateway.Request)
				if err := scgi.NewReader(src).ReadRequest(r); !errors.Is(err, c.err) || r.Params.Len() > 0 {
					t.Errorf("%s: %d params, %v", name, r.Params.Len(), err)
				}
			}
			if errors.Is(c.err, gateway.ErrMalformed) {
				var p gateway.Params
				if n, err := scgi.ConsumeRequest([]byte(c.input), &p); n != -1 || !errors.Is(err, c.err) || p.Len() > 0 {
					t.Errorf("ConsumeRequest: %d, %v", n, err)
				}
			}
		})
	}
	t.Run("what is taken [207 208 213]", func(t *testing.T) {
		last := netstring("CONTENT_LENGTH\x000\x00A\x00\x00HTTP_X\x001\x00HTTP_X\x002\x00SCGI\x001\x00") // as lighttpd, and nginx before 1.23
		r, err := fromBytes(last)
		if v, ok := r.Params.Lookup("A"); err != nil || !ok || len(v) > 0 || r.Params.Get("HTTP_X") != "1, 2" {
			t.Errorf("%v", err)
		}
	})
	t.Run("one message after another [210 293]", func(t *testing.T) {
		first, second := head("A", "1", "CONTENT_LENGTH", "5"), head("A", "2")
		r := scgi.NewReader(strings.NewReader(first + "hello" + second + "rest"))
		var req gateway.Request
		for i, want := range []string{"1", "2"} {
			if err := r.ReadRequest(&req); err != nil || req.Params.Get("A") != want {
				t.Errorf("request %d: %v", i, err)
			}
		}
		if string(r.Buffered()) != "rest" || r.Offset() != int64(len(first)+5+len(second)) {
			t.Errorf("%q at %d", r.Buffered(), r.Offset())
		}
	})
	t.Run("every prefix", func(t *testing.T) {
		for i := range len(example) {
			r, err := fromBytes(example[:i])
			var body []byte
			if err == nil {
				body, err = io.ReadAll(r.Body)
			}
			if i == 0 && err != io.EOF || i > 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%d bytes: %q, %v", i, body, err)
			}
			var p gateway.Params
			if n, err := scgi.ConsumeRequest([]byte(example[:i]), &p); i <= 73 && (n != 0 || err != nil) {
				t.Errorf("%d bytes: ConsumeRequest %d, %v", i, n, err)
			}
		}
	})
	t.Run("nothing is allocated from a length [202 070]", func(t *testing.T) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 10 {
			scgi.NewReader(strings.NewReader("1000000:x")).ReadRequest(new(gateway.Request))
		}
		if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 1<<20 {
			t.Errorf("%d bytes for ten heads of which one byte came", after.TotalAlloc-before.TotalAlloc)
		}
	})
	t.Run("params alone", func(t *testing.T) {
		r := gatewaytest.NewRequest("GET", "/a?b", nil)
		b, err := scgi.AppendParams([]byte("x"), &r.Params)
		if err != nil {
			t.Fatal(err)
		}
		var p gateway.Params
		if n, err := scgi.ConsumeParams(append(b[1:], "PART"...), &p); n != len(b)-1 || err != nil || p.Len() != r.Params.Len() {
			t.Errorf("%d, %v", n, err)
		}
		if n, err := scgi.ConsumeParams([]byte("\x00v\x00"), &p); n != -1 || !errors.Is(err, gateway.ErrMalformed) || p.Len() != r.Params.Len() {
			t.Errorf("%d, %v", n, err)
		}
		if name, value, n := scgi.ConsumeParam([]byte("A\x00v\x00rest")); string(name) != "A" || string(value) != "v" || n != 4 {
			t.Errorf("%q %q %d", name, value, n)
		}
		for in, want := range map[string]int{"": 0, "A": 0, "A\x00v": 0, "\x00": -1} {
			if _, _, n := scgi.ConsumeParam([]byte(in)); n != want {
				t.Errorf("%q: %d", in, n)
			}
		}
	})
}

// TestServerConformance is what a server of SCGI does that is not in the shared suite.
func TestServerConformance(t *testing.T) {
	called := gateway.HandlerFunc(func(gateway.ResponseWriter, *gateway.Request) error {
		panic("the handler was called")
	})
	t.Run("bytes of other protocols [201 297 F49]", func(t *testing.T) {
		for _, input := range []string{"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", "\x01\x01\x00\x01\x00\x08\x00\x00"} {
			dropped(t, &scgi.Server{Handler: called}, input)
		}
	})
	t.Run("a head that does not come [203 299 F33]", func(t *testing.T) {
		addr := gatewaytest.Start(t, &scgi.Server{Handler: called, ReadHeadTimeout: 50 * time.Millisecond, IdleTimeout: time.Hour, Logger: quiet})
		idle := gatewaytest.Start(t, &scgi.Server{Handler: called, ReadHeadTimeout: time.Hour, IdleTimeout: 50 * time.Millisecond, Logger: quiet})
		for _, begin := range []string{"", "7", "70:CONTENT_LENGTH"} {
			c := dial(t, addr)
			if begin == "" {
				c = dial(t, idle)
			}
			io.WriteString(c, begin)
			if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
				t.Errorf("%q: %q, %v", begin, b, err)
			}
		}
		c := dial(t, addr)
		begun := time.Now()
		for range 1000 { // a byte now and then is no request
			if _, err := io.WriteString(c, "1"); err != nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if d := time.Since(begun); d > 5*time.Second {
			t.Errorf("closed after %v", d)
		}
	})
	t.Run("a limit of one's own [202]", func(t *testing.T) {
		got := play(t, &scgi.Server{Handler: called, MaxHeadBytes: 100}, head("A", strings.Repeat("v", 100)))
		if !strings.HasPrefix(got, "Status: 431 ") {
			t.Errorf("responded %q", got)
		}
	})
	t.Run("too many requests [129 F35]", func(t *testing.T) {
		begun, release := make(chan struct{}), make(chan struct{})
		s := &scgi.Server{MaxRequests: 1, Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			begun <- struct{}{}
			<-release
			return nil
		})}
		addr := gatewaytest.Start(t, s)
		first := dial(t, addr)
		io.WriteString(first, head())
		<-begun
		if got := conformance.Play(t, dial(t, addr), head()); !strings.HasPrefix(got, "Status: 503 ") {
			t.Errorf("responded %q", got)
		}
		close(release)
		if b, err := io.ReadAll(first); err != nil || !bytes.HasPrefix(b, []byte("Status: 200 ")) {
			t.Errorf("%q, %v", b, err)
		}
		go func() { <-begun }()
		if got := conformance.Play(t, dial(t, addr), head()); !strings.HasPrefix(got, "Status: 200 ") {
			t.Errorf("responded %q", got)
		}
	})
	t.Run("no handler [127]", func(t *testing.T) {
		if got := play(t, &scgi.Server{}, head()); !strings.HasPrefix(got, "Status: 501 ") {
			t.Errorf("responded %q", got)
		}
	})
	t.Run("the whole of a response [208 212 263 265]", func(t *testing.T) {
		got := play(t, &scgi.Server{Handler: echo}, head("CONTENT_LENGTH", "5", "HTTP_X", "1", "HTTP_X", "2")+"hello")
		if got != "Status: 200 OK\r\nContent-Type: application/octet-stream\r\nX-Length: 5\r\n\r\nhello" {
			t.Errorf("responded %q", got)
		}
	})
	t.Run("what a handler keeps [136 F36]", func(t *testing.T) {
		type leftovers struct {
			w      gateway.ResponseWriter
			r      *gateway.Request
			body   io.Reader
			header *gateway.Header
			ctx    context.Context
		}
		kept := make(chan leftovers, 2)
		s := &scgi.Server{Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			kept <- leftovers{w, r, r.Body, w.Header(), r.Context()}
			if r.PathInfo() == "/first" {
				return nil
			}
			k := <-kept
			k.header.Set("X-Stale", "1")
			k.w.WriteHeader(418)
			k.r.Params.Set("HTTP_SECRET", "stale")
			if _, err := k.w.Write([]byte("stale")); err == nil {
				t.Error("a dead writer writes")
			}
			if n, err := k.body.Read(make([]byte, 5)); n > 0 || err == nil {
				t.Error("a dead body reads")
			}
			if k.ctx.Err() == nil || k.w.SetReadDeadline(time.Now()) == nil || k.w.Flush() == nil {
				t.Error("a dead writer lives")
			}
			b, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %v %s", b, err, r.Params.Get("HTTP_SECRET"))
			return nil
		})}
		addr := gatewaytest.Start(t, s)
		conformance.Play(t, dial(t, addr), head("PATH_INFO", "/first", "HTTP_SECRET", "first", "CONTENT_LENGTH", "5")+"first")
		got := conformance.Play(t, dial(t, addr), head("PATH_INFO", "/second", "HTTP_SECRET", "second", "CONTENT_LENGTH", "6")+"second")
		if got != "Status: 200 OK\r\n\r\nsecond <nil> second" {
			t.Errorf("responded %q", got)
		}
	})
	t.Run("a peer that is gone [149]", func(t *testing.T) {
		told := make(chan time.Duration, 1)
		s := &scgi.Server{Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			gone := <-closing(r)
			told <- time.Since(gone)
			return nil
		})}
		c := dial(t, gatewaytest.Start(t, s))
		io.WriteString(c, head())
		time.Sleep(20 * time.Millisecond)
		closed := time.Now()
		c.Close()
		select {
		case <-told:
			t.Logf("told after %v", time.Since(closed))
		case <-time.After(limit):
			t.Error("the handler is told of nothing")
		}
	})
	t.Run("a peer that closes its sending side gets its response [149]", func(t *testing.T) {
		s := &scgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			<-r.Context().Done()
			_, err := io.WriteString(w, "still here")
			return err
		})}
		if got := play(t, s, head()); !strings.HasSuffix(got, "still here") {
			t.Errorf("responded %q", got)
		}
	})
	t.Run("bodies beside a watcher [148]", func(t *testing.T) {
		s := &scgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			r.Context().Done()
			time.Sleep(30 * time.Millisecond)
			b, err := io.ReadAll(iotest.OneByteReader(r.Body))
			fmt.Fprintf(w, "%d %v", len(b), err)
			return nil
		})}
		if got := play(t, s, head("CONTENT_LENGTH", "300000")+strings.Repeat("b", 300000)); !strings.HasSuffix(got, "\r\n\r\n300000 <nil>") {
			t.Errorf("responded %q", got)
		}
	})
	t.Run("deadlines [151]", func(t *testing.T) {
		s := &scgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			for _, watch := range []bool{false, true} {
				if watch {
					r.Context().Done()
				}
				w.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				_, err := r.Body.Read(make([]byte, 1))
				fmt.Fprint(w, errors.Is(err, os.ErrDeadlineExceeded), " ")
			}
			w.SetReadDeadline(time.Time{})
			b, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %v", b, err)
			return nil
		}), Logger: quiet}
		c := dial(t, gatewaytest.Start(t, s))
		io.WriteString(c, head("CONTENT_LENGTH", "4"))
		time.Sleep(100 * time.Millisecond)
		io.WriteString(c, "late")
		if b, err := io.ReadAll(c); !strings.HasSuffix(string(b), "true true late <nil>") || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		failed := make(chan error, 1)
		s = &scgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			w.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			_, err := w.Write(make([]byte, 64<<20))
			failed <- err
			return err
		}), Logger: quiet}
		c = dial(t, gatewaytest.Start(t, s))
		io.WriteString(c, head())
		if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("who may connect [150 289 F14 F15]", func(t *testing.T) {
		refused := &scgi.Server{Handler: called, Peers: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
		dropped(t, refused, head())
		if got := play(t, &scgi.Server{Handler: echo, Peers: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, head()); got == "" {
			t.Error("no response")
		}
	})
	t.Run("a body that still comes does not cost the response [143]", func(t *testing.T) {
		s := &scgi.Server{Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			w.WriteHeader(413)
			return nil
		})}
		addr := gatewaytest.Start(t, s)
		for range 20 {
			c := dial(t, addr)
			io.WriteString(c, head("CONTENT_LENGTH", "200000"))
			io.WriteString(c, strings.Repeat("b", 100000))
			time.Sleep(2 * time.Millisecond)
			io.WriteString(c, strings.Repeat("b", 50000))
			if b, err := io.ReadAll(c); err != nil || !bytes.HasPrefix(b, []byte("Status: 413 ")) {
				t.Fatalf("%q, %v", b, err)
			}
		}
	})
}

// closing tells when the request's context ended.
func closing(r *gateway.Request) <-chan time.Time {
	c := make(chan time.Time, 1)
	go func() {
		<-r.Context().Done()
		c <- time.Now()
	}()
	return c
}

// TestLife listens, serves and shuts down.
func TestLife(t *testing.T) {
	conformance.Life(t, "scgi", func(h gateway.Handler) conformance.Listener {
		return &scgi.Server{Handler: h, SocketMode: 0o600, BaseContext: conformance.Base, ConnContext: conformance.PerConn, Logger: quiet}
	}, func(addr string) gateway.RoundTripper { return &scgi.Client{Addr: addr} })
}

// TestClientConformance is what a client of SCGI does that is not in the shared suite.
func TestClientConformance(t *testing.T) {
	get := func() *gateway.Request { return gatewaytest.NewRequest("GET", "/", nil) }
	t.Run("no response [088 260]", func(t *testing.T) {
		o := conformance.Ask(t, &scgi.Client{Addr: responding(t, "")}, get())
		if !errors.Is(o.Err, gateway.ErrNoResponse) {
			t.Errorf("got %v", o.Err)
		}
	})
	t.Run("a reset in mid-response [087]", func(t *testing.T) {
		addr := script(t, func(c net.Conn) {
			var r gateway.Request
			scgi.NewReader(c).ReadRequest(&r)
			io.WriteString(c, "Status: 200 OK\r\n\r\npart")
			time.Sleep(20 * time.Millisecond)
			c.(*net.TCPConn).SetLinger(0)
		})
		if o := conformance.Ask(t, &scgi.Client{Addr: addr}, get()); !errors.Is(o.Err, gateway.ErrTruncated) || o.Body != "part" {
			t.Errorf("%q, %v", o.Body, o.Err)
		}
	})
	t.Run("a head cut at every byte [090 169 214]", func(t *testing.T) {
		for _, response := range []string{"Status: 404 Not Found\r\nX: 1\r\n\r\nbody", "HTTP/1.1 404 Not Found\r\nX: 1\r\n\r\nbody"} {
			for i := 1; i < len(response); i++ {
				addr := script(t, func(c net.Conn) {
					var r gateway.Request
					scgi.NewReader(c).ReadRequest(&r)
					io.WriteString(c, response[:i])
					time.Sleep(time.Millisecond)
					io.WriteString(c, response[i:])
				})
				if o := conformance.Ask(t, &scgi.Client{Addr: addr}, get()); o.Err != nil || o.Res.Status != 404 || o.Body != "body" || o.Res.Header.Get("X") != "1" {
					t.Errorf("cut at %d: %d %q, %v", i, o.Res.Status, o.Body, o.Err)
				}
			}
		}
	})
	t.Run("a response before the body is read [082 F34]", func(t *testing.T) {
		const up, down = 8 << 20, 4 << 20
		addr := script(t, func(c net.Conn) {
			var r gateway.Request
			if scgi.NewReader(c).ReadRequest(&r) != nil {
				return
			}
			io.WriteString(c, "Status: 200 OK\r\n\r\n")
			c.Write(make([]byte, down))
			n, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprint(c, n)
		})
		o := conformance.Ask(t, &scgi.Client{Addr: addr}, gatewaytest.NewRequest("POST", "/", make([]byte, up)))
		if o.Err != nil || len(o.Body) != down+len("8388608") {
			t.Errorf("%d bytes, %v", len(o.Body), o.Err)
		}
	})
	t.Run("a response that ends before the body is sent [083]", func(t *testing.T) {
		addr := script(t, func(c net.Conn) {
			var r gateway.Request
			scgi.NewReader(c).ReadRequest(&r)
			io.WriteString(c, "Status: 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
			io.Copy(io.Discard, c)
		})
		o := conformance.Ask(t, &scgi.Client{Addr: addr}, gatewaytest.NewRequest("POST", "/", make([]byte, 8<<20)))
		if o.Err != nil || o.Res.Status != 413 || o.Body != "no" {
			t.Errorf("%d %q, %v", o.Res.Status, o.Body, o.Err)
		}
	})
	t.Run("time-outs and what is not there [120 292]", func(t *testing.T) {
		phase := func(c *scgi.Client) gateway.Phase {
			e, _ := errors.AsType[*gateway.Error](conformance.Ask(t, c, get()).Err)
			if e == nil {
				return 99
			}
			return e.Phase
		}
		if p := phase(&scgi.Client{Addr: "127.0.0.1:1"}); p != gateway.PhaseDial {
			t.Errorf("phase %v", p)
		}
		for _, c := range []*scgi.Client{{Addr: "nowhere"}, {Addr: "unix:"}, {Addr: "127.0.0.1:1", Env: []string{"NOTHING"}}} {
			if p := phase(c); p != gateway.PhaseRequest {
				t.Errorf("%+v: phase %v", c.Addr, p)
			}
		}
		silent := script(t, func(c net.Conn) { io.Copy(io.Discard, c) })
		e, _ := errors.AsType[*gateway.Error](conformance.Ask(t, &scgi.Client{Addr: silent, HeadTimeout: 20 * time.Millisecond}, get()).Err)
		if e == nil || e.Phase != gateway.PhaseHead || gateway.ErrorStatus(e) != 504 {
			t.Errorf("got %v", e)
		}
		slow := script(t, func(c net.Conn) {
			io.WriteString(c, "Status: 200 OK\r\n\r\npart")
			io.Copy(io.Discard, c)
		})
		e, _ = errors.AsType[*gateway.Error](conformance.Ask(t, &scgi.Client{Addr: slow, BodyTimeout: 20 * time.Millisecond}, get()).Err)
		if e == nil || e.Phase != gateway.PhaseBody || !e.Timeout() {
			t.Errorf("got %v", e)
		}
	})
	t.Run("MaxConns, Env and Observe", func(t *testing.T) {
		var seen []gateway.Exchange
		c := &scgi.Client{
			Addr: gatewaytest.Start(t, &scgi.Server{Handler: conformance.Handlers["params"], Logger: quiet}), MaxConns: 1,
			Env:     []string{"SERVER_NAME=configured", "OWN=1"},
			Observe: func(_ context.Context, x *gateway.Exchange) { seen = append(seen, *x) },
		}
		o := conformance.Ask(t, c, get())
		if o.Err != nil || !strings.Contains(o.Body, `SERVER_NAME="configured"`) || strings.Contains(o.Body, "localhost") || !strings.Contains(o.Body, `OWN="1"`) {
			t.Errorf("%q, %v", o.Body, o.Err)
		}
		var res gateway.Response
		if err := c.RoundTrip(t.Context(), get(), &res); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		err := c.RoundTrip(ctx, get(), new(gateway.Response))
		if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Phase != gateway.PhaseWait || gateway.ErrorStatus(err) != 503 {
			t.Errorf("got %v", err)
		}
		res.Body.Close()
		if o := conformance.Ask(t, c, get()); o.Err != nil {
			t.Error(o.Err)
		}
		if s := c.Stats(); s.Requests != 4 || s.Dialed != 3 || s.Failed != 1 || s.InFlight != 0 || len(seen) != 4 || seen[0].Status != 200 || seen[0].Received != int64(len(o.Body)) || seen[2].Err != nil && seen[1].Err == nil {
			t.Errorf("%+v, %+v", s, seen)
		}
		c.Close()
	})
}
