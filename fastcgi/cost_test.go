package fastcgi_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/internal/race"
)

// typical is a request with 27 params, about 900 bytes, as a browser sends it through nginx.
func typical(body []byte) *gateway.Request { return conformance.Typical(body) }

// loop gives the same bytes again and again.
type loop struct {
	b  []byte
	at int
}

func (l *loop) Read(p []byte) (int, error) {
	if l.at == len(l.b) {
		l.at = 0
	}
	n := copy(p, l.b[l.at:])
	l.at += n
	return n, nil
}

// TestAllocations holds every function that is said not to allocate to that.
func TestAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("builds with the race detector give out memory once")
	}
	body := make([]byte, 64<<10)
	req := typical(body)
	var wire bytes.Buffer
	if err := fastcgi.NewWriter(&wire).WriteRequest(req); err != nil {
		t.Fatal(err)
	}
	requestBytes := bytes.Clone(wire.Bytes())
	wire.Reset()
	res := &gateway.Response{Status: 200, ContentLength: int64(len(body))}
	res.Header.Add("Content-Type", "text/html; charset=utf-8")
	res.Header.Add("Set-Cookie", "a=1")
	resBody := bytes.NewReader(body)
	res.Body = io.NopCloser(resBody)
	if err := fastcgi.NewWriter(&wire).WriteResponse(res); err != nil {
		t.Fatal(err)
	}
	responseBytes := bytes.Clone(wire.Bytes())

	discard := make([]byte, 32<<10)
	drain := func(r io.Reader) {
		for {
			if _, err := r.Read(discard); err == io.EOF {
				return
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(name string, f func()) {
		t.Run(name, func(t *testing.T) {
			f()
			if n := testing.AllocsPerRun(200, f); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
	fail := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	dst := make([]byte, 0, 1<<20)
	check("AppendRequest", func() {
		_, err := fastcgi.AppendRequest(dst, 1, true, req)
		fail(err)
	})
	content, _ := fastcgi.AppendParams(nil, &req.Params)
	check("ConsumeParam", func() {
		for b := content; len(b) > 0; {
			_, _, n := fastcgi.ConsumeParam(b)
			b = b[n:]
		}
	})
	var params gateway.Params
	check("ConsumeParams", func() {
		params.Reset()
		_, err := fastcgi.ConsumeParams(content, &params)
		fail(err)
	})
	check("AppendParam", func() {
		_, err := fastcgi.AppendParam(dst, "NAME", "value")
		fail(err)
	})
	check("AppendRecord", func() {
		_, err := fastcgi.AppendRecord(dst, fastcgi.TypeStdin, 1, body)
		fail(err)
	})
	check("ConsumeRecord", func() { fastcgi.ConsumeRecord(requestBytes) })
	check("ConsumeRequest", func() {
		_, _, _, err := fastcgi.ConsumeRequest(requestBytes, &params)
		fail(err)
	})
	next := fastcgi.NewReader(&loop{b: requestBytes})
	check("Reader.Next", func() {
		_, err := next.Next()
		fail(err)
	})
	reader := fastcgi.NewReader(&loop{b: requestBytes})
	var got gateway.Request
	check("Reader.ReadRequest", func() {
		fail(reader.ReadRequest(&got))
		drain(got.Body)
	})
	responses := fastcgi.NewReader(&loop{b: responseBytes})
	var gotRes gateway.Response
	check("Reader.ReadResponse", func() {
		fail(responses.ReadResponse(&gotRes))
		drain(gotRes.Body)
	})
	w := fastcgi.NewWriter(io.Discard)
	check("Writer.WriteRequest", func() {
		req.SetBody(body)
		fail(w.WriteRequest(req))
	})
	check("Writer.WriteResponse", func() {
		resBody.Reset(body)
		fail(w.WriteResponse(res))
	})
	check("Writer.WriteRecord", func() { fail(w.WriteRecord(fastcgi.TypeStdout, 1, body)) })
	check("gateway.AppendResponse", func() {
		_, err := gateway.AppendResponse(dst, res)
		fail(err)
	})
	head, _ := gateway.AppendResponse(nil, res)
	check("gateway.ConsumeResponse", func() {
		_, err := gateway.ConsumeResponse(head, &gotRes)
		fail(err)
	})
}

// hello looks up three params, sets a field and writes 13 bytes.
var hello = gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
	for _, name := range [...]string{"REQUEST_METHOD", "REQUEST_URI", "HTTP_HOST"} {
		if _, ok := r.Params.Lookup(name); !ok {
			return gateway.ErrParam
		}
	}
	w.Header().Set("Content-Type", "text/plain")
	_, err := io.WriteString(w, "hello, world\n")
	return err
})

var helloHTTP = gatewayhttp.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	io.WriteString(w, "hello, world\n")
}))

// TestMain is also the second process of tests that need one: they start this program again, with
// its role in a variable.
func TestMain(m *testing.M) {
	role, addr, found := strings.Cut(os.Getenv("GATEHOUSE_TEST_PEER"), " ")
	if !found {
		os.Exit(m.Run())
	}
	addr, count, _ := strings.Cut(addr, " ")
	n, _ := strconv.Atoi(count)
	switch role {
	case "client":
		if err := callMany(&fastcgi.Client{Addr: addr, MaxIdleConns: 1}, n); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	case "inherited":
		if addr == "fd:0" && !fastcgi.Started() {
			fmt.Println("not started as a FastCGI application")
			os.Exit(1)
		}
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		fmt.Println((&fastcgi.Server{Handler: hello}).ListenAndServe(addr))
	case "server":
		go func() { // until the test ends
			io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
		(&fastcgi.Server{Handler: hello}).ListenAndServe(addr)
	}
}

var background = context.Background()

// callMany sends the typical request n times.
func callMany(c *fastcgi.Client, n int) error {
	defer c.Close()
	req := typical(nil)
	var res gateway.Response
	buf := make([]byte, 4096)
	for range n {
		if err := c.RoundTrip(background, req, &res); err != nil {
			return err
		}
		for {
			if _, err := res.Body.Read(buf); err == io.EOF {
				break
			} else if err != nil {
				return err
			}
		}
		res.Body.Close()
	}
	return nil
}

// other starts this program as a peer of the test. wait waits for its end; a server ends when it is
// waited for.
func other(t testing.TB, role, addr string, n int, wrap ...string) (wait func() error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	argv := append(wrap, self)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("GATEHOUSE_TEST_PEER=%s %s %d", role, addr, n))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wait = sync.OnceValue(func() error {
		stdin.Close()
		return cmd.Wait()
	})
	t.Cleanup(func() {
		wait()
		if t.Failed() {
			t.Logf("%s: %s", role, &out)
		}
	})
	return wait
}

func waitForSocket(t testing.TB, path string) {
	t.Helper()
	for range 1000 {
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("no socket %s", path)
}

// heapObjects is how many objects this process allocates while f runs.
func heapObjects(f func()) uint64 {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection would empty the pools
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.Mallocs - before.Mallocs
}

// checkHeap checks that n requests cost no more than most objects, beyond what fewer requests cost
// by the process and the connection that they need too. The runtime allocates now and then by
// itself, which only adds: one good count of three will do.
func checkHeap(t *testing.T, n int, most uint64, run func(requests int)) {
	t.Helper()
	var got uint64
	for range 3 {
		small := heapObjects(func() { run(n / 10) })
		large := heapObjects(func() { run(n + n/10) })
		got = uint64(max(int64(large)-int64(small), 0))
		t.Logf("%d heap objects over %d requests", got, n)
		if got <= most {
			return
		}
	}
	t.Errorf("more than %d", most)
}

// TestServerAllocations counts the heap objects of a server whose client is another process.
func TestServerAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("builds with the race detector give out memory once")
	}
	const n = 10000
	for _, c := range []struct {
		name    string
		handler gateway.Handler
		observe func(context.Context, *gateway.Request, *gateway.ServerExchange)
		most    uint64
	}{
		{"gateway.Handler [470]", hello, nil, 10},
		{"gateway.Handler with Observe [470]", hello, func(context.Context, *gateway.Request, *gateway.ServerExchange) {}, 10},
		{"gatewayhttp.Handler", helloHTTP, nil, 14 * n},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := socketDir(t) + "/s"
			s := &fastcgi.Server{Handler: c.handler, Observe: c.observe, Logger: quiet}
			l, err := new(fastcgi.Server).Listen("unix:" + path)
			if err != nil {
				t.Fatal(err)
			}
			go s.Serve(l)
			defer s.Close()
			run := func(requests int) {
				if err := other(t, "client", "unix:"+path, requests)(); err != nil {
					t.Fatal(err)
				}
			}
			run(n)
			checkHeap(t, n, c.most, run)
		})
	}
}

// TestClientAllocations counts the heap objects of a client whose server is another process.
func TestClientAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("builds with the race detector give out memory once")
	}
	const n = 10000
	path := socketDir(t) + "/s"
	other(t, "server", "unix:"+path, 0)
	waitForSocket(t, path)
	c := &fastcgi.Client{Addr: "unix:" + path, MaxIdleConns: 1}
	run := func(requests int) {
		if err := callMany(c, requests); err != nil {
			t.Fatal(err)
		}
	}
	run(100)
	checkHeap(t, n, 10, run)
}

// TestSystemCalls counts the reads and writes of each side with strace: one of each for a GET on a
// kept connection. The MSG_PEEK before a connection is used again is counted apart, and a read that
// says EAGAIN is not counted.
func TestSystemCalls(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		if os.Getenv("GATEHOUSE_PEERS") == "require" {
			t.Fatal("strace is missing: install the package strace")
		}
		t.Skip("strace is missing: install the package strace")
	}
	const n = 200
	for _, side := range []string{"server", "client"} {
		t.Run(side, func(t *testing.T) {
			dir := socketDir(t)
			path, log := dir+"/s", filepath.Join(dir, "log")
			wrap := []string{strace, "-ff", "-qq", "-y", "-o", log, "-e", "trace=read,write,readv,writev,recvfrom,sendto,recvmsg,sendmsg", "-e", "signal=none"}
			var server, client []string
			if side == "server" {
				server = wrap
			} else {
				client = wrap
			}
			stop := other(t, "server", "unix:"+path, 0, server...)
			waitForSocket(t, path)
			if err := other(t, "client", "unix:"+path, n, client...)(); err != nil {
				t.Skipf("strace does not work here: %v", err)
			}
			stop() // strace has written its log when it ends
			var all strings.Builder
			files, _ := filepath.Glob(log + ".*") // one of each thread, so that no line is cut in two
			for _, file := range files {
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				all.Write(b)
			}
			reads, writes, peeks := count(all.String())
			t.Logf("%d reads, %d writes, %d peeks for %d requests", reads, writes, peeks, n)
			if reads != n || writes != n {
				t.Error("not one read and one write for each")
			}
			if side == "client" && peeks != n-1 {
				t.Errorf("%d peeks", peeks)
			}
		})
	}
}

var call = regexp.MustCompile(`(read|write|readv|writev|recvfrom|sendto|recvmsg|sendmsg)\(\d+<socket:.*= -?\d+( EAGAIN)?`)

// count takes the system calls that carry FastCGI out of strace's log.
func count(log string) (reads, writes, peeks int) {
	for line := range strings.SplitSeq(log, "\n") {
		m := call.FindStringSubmatch(line)
		// A record begins with the version and a type; the runtime's own wake-ups have no type.
		record := strings.Contains(line, `"\1\`) && !strings.Contains(line, `"\1\0`)
		if m == nil || !record && !strings.Contains(line, "MSG_PEEK") {
			continue
		}
		switch {
		case strings.Contains(line, "MSG_PEEK"):
			peeks++
		case m[2] != "":
		case m[1][0] == 'r':
			reads++
		default:
			writes++
		}
	}
	return reads, writes, peeks
}

var codec = conformance.Codec{
	Proto:         "fastcgi",
	AppendParam:   fastcgi.AppendParam[string, string],
	ConsumeParam:  fastcgi.ConsumeParam,
	AppendParams:  fastcgi.AppendParams,
	ConsumeParams: fastcgi.ConsumeParams,
	AppendRequest: func(dst []byte, r *gateway.Request) ([]byte, error) { return fastcgi.AppendRequest(dst, 1, true, r) },
	ConsumeRequest: func(b []byte, p *gateway.Params) error {
		_, _, _, err := fastcgi.ConsumeRequest(b, p)
		return err
	},
	Reader: func(src io.Reader) conformance.Reader { return fastcgi.NewReader(src) },
	Writer: func(dst io.Writer) conformance.Writer { return fastcgi.NewWriter(dst) },
}

func BenchmarkCodec(b *testing.B) { conformance.BenchCodec(b, codec) }

func BenchmarkStreams(b *testing.B) { conformance.BenchStreams(b, codec) }

func BenchmarkNext(b *testing.B) {
	wire := []byte(rec(fastcgi.TypeStdout, 1, string(make([]byte, 8184))))
	r := fastcgi.NewReader(&loop{b: wire})
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}
