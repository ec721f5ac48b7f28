package fastcgi_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

// failingListener fails some times before it accepts, as one does that has no descriptors.
type failingListener struct {
	net.Listener
	left atomic.Int64
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, errors.New("accept: too many open files")
	}
	return l.Listener.Accept()
}

// syncBuffer is a log that goroutines share.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestServerConnects(t *testing.T) {
	t.Run("addresses that may connect [150 F14 F15 289]", allowed)
	t.Run("listeners [152 290]", listeners)
	t.Run("an accept that fails is retried after a pause [F48]", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		srv := &fastcgi.Server{Handler: echo, Logger: quiet}
		failing := &failingListener{Listener: l}
		failing.left.Store(5)
		served := make(chan error, 1)
		begun := time.Now()
		go func() { served <- srv.Serve(failing) }()
		connect(t, l.Addr().String()).must(1)
		if failing.left.Load() >= 0 || time.Since(begun) < 50*time.Millisecond {
			t.Errorf("%d failures left after %v: it does not wait", failing.left.Load(), time.Since(begun))
		}
		srv.Close()
		want(t, <-served, gateway.ErrServerClosed)
	})
}

func TestServerShutdown(t *testing.T) {
	t.Run("shutdown waits for handlers [160]", shutdown)
	t.Run("no new request after Shutdown [129 160]", func(t *testing.T) {
		running, release := make(chan struct{}), make(chan struct{})
		calls := 0
		srv := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			calls++
			close(running)
			<-release
			return nil
		})
		s := serve(t, srv)
		s.send(get(1, true))
		<-running
		down := make(chan error, 1)
		go func() { down <- srv.Shutdown(t.Context()) }()
		time.Sleep(20 * time.Millisecond)
		s.send(get(5, true))
		if r := s.reply(5); r.status() != "503 Service Unavailable" {
			t.Errorf("%+v", r)
		}
		close(release)
		if r := s.reply(1); r.status() != "200 OK" || calls != 1 {
			t.Errorf("%+v, %d calls", r, calls)
		}
		if err := <-down; err != nil {
			t.Error(err)
		}
	})
}

func allowed(t *testing.T) {
	for _, c := range []struct {
		peers []string
		let   bool
	}{
		{nil, true},
		{[]string{"127.0.0.0/8"}, true},
		{[]string{"127.0.0.2/32"}, false},
		{[]string{"::1/128", "10.0.0.0/8"}, false},
	} {
		srv := &fastcgi.Server{Handler: echo}
		for _, p := range c.peers {
			srv.Peers = append(srv.Peers, netip.MustParsePrefix(p))
		}
		s := serve(t, srv)
		if c.let {
			s.must(1)
		} else {
			s.closed()
		}
	}
	for list, expect := range map[string]string{
		"127.0.0.1": "in", "127.0.0.2, 127.0.0.1": "in", "::ffff:127.0.0.1": "in", "127.0.0.2": "out",
		"": "error", "localhost": "error", "127.0.0.1,": "error", "127.0.0.1/8": "error",
	} {
		t.Setenv("FCGI_WEB_SERVER_ADDRS", list)
		srv := &fastcgi.Server{Handler: echo, Logger: quiet}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(l) }()
		if expect == "error" {
			if err := <-served; err == nil || errors.Is(err, gateway.ErrServerClosed) {
				t.Errorf("%q: %v", list, err)
			}
			continue
		}
		s := connect(t, l.Addr().String())
		if expect == "in" {
			s.must(1)
		} else {
			s.closed()
		}
		srv.Close()
		<-served
	}
	// Peers in the form of IPv4 in IPv6 are compared as IPv4.
	t.Setenv("FCGI_WEB_SERVER_ADDRS", "127.0.0.1")
	serve(t, &fastcgi.Server{Handler: echo, Peers: []netip.Prefix{netip.MustParsePrefix("::ffff:127.0.0.0/104")}}).must(1)
	// A peer without an IP address is not in any list, section 3.2.
	t.Setenv("FCGI_WEB_SERVER_ADDRS", "127.0.0.1")
	path := socketDir(t) + "/s"
	srv := &fastcgi.Server{Handler: echo, Logger: quiet}
	l, err := new(fastcgi.Server).Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(l)
	defer srv.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(limit))
	if n, err := c.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		t.Errorf("%d, %v", n, err)
	}
}

// pipeServer serves one end of a pipe and gives the other.
func pipeServer(ctx context.Context, srv *fastcgi.Server) (c net.Conn, served chan error) {
	ours, theirs := net.Pipe()
	served = make(chan error, 1)
	go func() { served <- srv.ServeConn(ctx, theirs) }()
	return ours, served
}

func listeners(t *testing.T) {
	dir := socketDir(t)
	path := filepath.Join(dir, "s")
	l, err := (&fastcgi.Server{SocketMode: 0o600}).Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := new(fastcgi.Server).Listen("unix:" + path); err == nil {
		t.Error("took the socket of a server that lives")
	}
	l.(interface{ SetUnlinkOnClose(unlink bool) }).SetUnlinkOnClose(false)
	l.Close()
	l, err = new(fastcgi.Server).Listen("unix:" + path) // a stale one is replaced
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	l.Close()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := new(fastcgi.Server).Listen("unix:" + file); err == nil {
		t.Error("a file that is not a socket was replaced")
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Error("a file that is not a socket was changed")
	}
	for _, addr := range []string{"", "nowhere", "unix:", "fd:", "fd:x", "fd:-1", "fd:999", "systemd:"} {
		if l, err := new(fastcgi.Server).Listen(addr); err == nil {
			l.Close()
			t.Errorf("%q: no error", addr)
		}
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	f, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	if fastcgi.Started() {
		t.Error("the test was not started as a FastCGI application")
	}
	for _, addr := range []string{"fd:0", "fd:3", "systemd:", "systemd:web", "systemd:other"} {
		inherits(t, f, tcp.Addr().String(), addr)
	}
}

// inherits starts this program with a listening socket, as a spawner or a service manager does.
func inherits(t *testing.T, f *os.File, at, addr string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "GATEHOUSE_TEST_PEER=inherited "+addr+" 0", "LISTEN_FDS=2", "LISTEN_FDNAMES=admin:web")
	if addr == "fd:0" {
		cmd.Stdin = f
	} else {
		cmd.ExtraFiles = []*os.File{f, f} // descriptors 3 and 4
	}
	var out syncBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		if t.Failed() {
			t.Logf("%s: %s", addr, out.String())
		}
	}()
	if addr == "systemd:other" {
		<-ended
		if !strings.Contains(out.String(), "no socket of that name") {
			t.Errorf("%s: %s", addr, out.String())
		}
		return
	}
	s := connect(t, at)
	s.send(head(1, 1, false, "REQUEST_METHOD", "GET", "REQUEST_URI", "/", "HTTP_HOST", "h") + stdin(1, ""))
	if r := s.reply(1); r.body() != "hello, world\n" {
		t.Errorf("%s: %+v %s", addr, r, out.String())
	}
	cmd.Process.Kill()
	<-ended
}

func shutdown(t *testing.T) {
	h := newHold()
	srv := &fastcgi.Server{Handler: h, Logger: quiet}
	busy := serve(t, srv)
	idle := connect(t, busy.c.RemoteAddr().String())
	busy.send(getPath(1, true, "/busy"))
	<-h.started
	idle.send(getPath(1, true, "/idle"))
	<-h.started
	h.release <- struct{}{}
	h.release <- struct{}{}
	busy.reply(1)
	idle.reply(1)
	busy.send(getPath(3, true, "/last"))
	<-h.started
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		done <- srv.Shutdown(ctx)
	}()
	idle.closed()
	select {
	case err := <-done:
		t.Errorf("did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if _, err := net.Dial("tcp", busy.c.RemoteAddr().String()); err == nil {
		t.Error("still accepts")
	}
	close(h.release)
	if r := busy.reply(3); r.body() != "/last" {
		t.Errorf("%+v", r)
	}
	busy.closed()
	if err := <-done; err != nil {
		t.Error(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	want(t, srv.Serve(l), gateway.ErrServerClosed)

	// Run ends with its context; a request that does not end is cut at the time-out.
	h = newHold()
	defer close(h.release)
	path := socketDir(t) + "/s"
	srv = &fastcgi.Server{Handler: h, Logger: quiet, ShutdownTimeout: 20 * time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- srv.Run(ctx, "unix:"+path) }()
	var c net.Conn
	for range 1000 {
		if c, err = net.Dial("unix", path); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, getPath(1, true, "/stuck"))
	<-h.started
	cancel()
	want(t, <-done, context.DeadlineExceeded)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

// TestLife listens, serves and shuts down.
func TestLife(t *testing.T) {
	conformance.Life(t, "fastcgi", func(h gateway.Handler) conformance.Listener {
		return &fastcgi.Server{Handler: h, SocketMode: 0o600, BaseContext: conformance.Base, ConnContext: conformance.PerConn, Logger: quiet}
	}, func(addr string) gateway.RoundTripper { return &fastcgi.Client{Addr: addr, Logger: quiet} })
}

// TestShutdownTimesOut checks that Shutdown closes the remaining connections when its context ends.
func TestShutdownTimesOut(t *testing.T) {
	begun, gone := make(chan struct{}), make(chan error, 1)
	srv := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		close(begun)
		select {
		case <-r.Context().Done():
			gone <- nil
		case <-time.After(limit):
			gone <- errors.New("the handler was told of nothing")
		}
		return nil
	})
	s := serve(t, srv)
	s.send(get(1, true))
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := <-gone; err != nil {
		t.Error(err)
	}
	if r := s.rest()[1]; r != nil && r.ended {
		t.Errorf("%+v", r)
	}
	ours, theirs := net.Pipe()
	defer ours.Close()
	if err := srv.ServeConn(t.Context(), theirs); !errors.Is(err, gateway.ErrServerClosed) {
		t.Errorf("ServeConn after Shutdown: %v", err)
	}
}

// MaxRequests was once overshot by connections that began at the same moment.
func TestMaxRequestsHolds(t *testing.T) {
	var at, most atomic.Int64
	srv := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		if n := at.Add(1); n > most.Load() {
			most.Store(n)
		}
		time.Sleep(time.Millisecond)
		at.Add(-1)
		return nil
	})
	srv.MaxRequests = 1
	first := serve(t, srv)
	addr := first.c.RemoteAddr().String()
	for range 5 {
		var all []*session
		for range 30 {
			all = append(all, connect(t, addr))
		}
		for _, s := range all {
			go s.c.Write([]byte(get(1, false)))
		}
		for _, s := range all {
			s.rest()
		}
	}
	if most.Load() != 1 {
		t.Errorf("%d requests at once", most.Load())
	}
}
