package fuzz

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

const (
	defaultWait = 2 * time.Second
	grace       = 10 * time.Millisecond // for what a server says too much
	maxAnswer   = 4 << 20               // bytes of an answer that are looked at
	allowance   = 64 << 20              // bytes that may be allocated for any input
	perByte     = 4 << 10               // and for each byte of it
)

// Server plays bytes to a live server and fails a test if an invariant breaks:
//
//   - once b is sent, it answers or closes in Wait, and when the end of the input follows, it closes;
//   - an answer of FastCGI is records of version 1, of requests that were begun, with no more than one END for each, and nothing of it
//     behind that (an answer that is cut is not held against it: that is how a server shows that a handler failed);
//   - a request that is malformed on the wire gets no answer with a status below 400;
//   - it still serves afterwards: a GET gets a whole head, and of FastCGI its END, in Wait;
//   - no twelve bytes in a row of that GET's query are in the answer to the next b. A handler that echoes its params makes
//     this a test;
//   - in this process no more than 64 MiB, and 4 KiB for each byte of b, are allocated meanwhile: run nothing else that
//     allocates as much at the same time.
//
// One Play runs at a time, whatever their servers. A request of CGI does not come over a connection: Play fails t at once.
type Server struct {
	Protocol Protocol
	Dial     func(context.Context) (net.Conn, error)
	Wait     time.Duration // 0 stands for 2 s

	secret string // that no answer may contain: of the last GET; guarded by playing
}

// playing is held while a server is played to: what this process allocates is counted.
var playing sync.Mutex

// Play sends b on a connection of its own. If that has a CloseWrite method, as *net.TCPConn and *net.UnixConn have, the
// server sees the end of the input when it has answered what is whole in b, or said nothing for a while; if not, of what it
// says to requests that are not whole, and of FastCGI behind its answers, only the next 10 ms are seen. A server may take
// the end of the input for a client that left, but not before it has sent the head of an answer to a whole request.
func (s *Server) Play(t testing.TB, b []byte) {
	t.Helper()
	playing.Lock()
	defer playing.Unlock()
	if newReader(s.Protocol, nil) == nil {
		t.Fatalf("fuzz: no connection carries requests of %q", s.Protocol)
	}
	before := allocated()
	x := s.exchange(t, b)
	if used, limit := allocated()-before, uint64(allowance+perByte*len(b)); used > limit {
		t.Errorf("%s: %d bytes of input made it allocate %d\n%q", s.Protocol, len(b), used, clip(b))
	}
	x.check(t)
	if s.secret != "" && x.sent.holds(x.answer, s.secret) {
		t.Errorf("%s: the answer has bytes of another request\n%q", s.Protocol, clip(b))
	}
	s.serves(t, b)
}

// serves asks for something that must be answered.
func (s *Server) serves(t testing.TB, b []byte) {
	t.Helper()
	s.secret = rand.Text()
	x := s.exchange(t, get(s.Protocol, s.secret))
	if !x.sent.served(x.answer) {
		t.Errorf("%s: it does not answer a GET any more (%v)\nafter %q\ngot %q", s.Protocol, x.err, clip(b), clip(x.answer))
	}
	x.check(t)
}

func (s *Server) wait() time.Duration {
	if s.Wait <= 0 {
		return defaultWait
	}
	return s.Wait
}

// exchange is what was sent to a server, and what it said.
type exchange struct {
	protocol  Protocol
	sent      session
	answer    []byte
	err       error // of the connection; nil: the server closed it in time
	late      bool  // Wait was over before everything was answered
	lingering bool  // the server saw the end of the input and did not close
}

// exchange plays b: first until everything is answered, then to the end of the connection.
func (s *Server) exchange(t testing.TB, b []byte) *exchange {
	t.Helper()
	x := &exchange{protocol: s.Protocol, sent: newSession(s.Protocol, b)}
	ctx, cancel := context.WithTimeout(t.Context(), s.wait())
	defer cancel()
	conn, err := s.Dial(ctx)
	if err != nil {
		t.Errorf("%s: dial: %v", s.Protocol, err)
		x.err = err
		return x
	}
	defer conn.Close()
	over := time.Now().Add(s.wait())
	conn.SetDeadline(over)
	written := make(chan struct{})
	go func() {
		defer close(written)
		conn.Write(b) // a server may close before it has read everything
	}()
	x.read(conn, over, func() bool { return x.sent.answered(x.answer) })
	if x.late = x.timedOut() && !x.sent.answered(x.answer); x.late || x.closed() {
		return x
	}
	half, ok := conn.(interface{ CloseWrite() error })
	rest := soon(over)
	if !ok && x.sent.closes() {
		rest = over
	}
	x.read(conn, rest, nil)
	if ok && !x.closed() {
		<-written
		half.CloseWrite()
		x.read(conn, time.Now().Add(s.wait()), nil)
		x.lingering = x.timedOut()
	}
	return x
}

// soon is grace from now on, but no later than over.
func soon(over time.Time) time.Time {
	if at := time.Now().Add(grace); at.Before(over) {
		return at
	}
	return over
}

// read adds to the answer until enough says so, the connection ends, or the time is over.
func (x *exchange) read(conn net.Conn, over time.Time, enough func() bool) {
	conn.SetReadDeadline(over)
	buf := make([]byte, 32<<10)
	for x.err = nil; len(x.answer) < maxAnswer; {
		if enough != nil && enough() {
			return
		}
		n, err := conn.Read(buf)
		x.answer = append(x.answer, buf[:n]...)
		if err != nil {
			x.err = err
			return
		}
	}
}

func (x *exchange) timedOut() bool { return errors.Is(x.err, os.ErrDeadlineExceeded) }

// closed reports whether the server ended the connection, in whatever way.
func (x *exchange) closed() bool { return x.err != nil && !x.timedOut() }

// check fails t where the answer breaks an invariant.
func (x *exchange) check(t testing.TB) {
	t.Helper()
	if x.late {
		t.Errorf("%s: neither an answer nor an end in time\n%q", x.protocol, clip(x.sent.bytes()))
	}
	if x.lingering {
		t.Errorf("%s: it keeps a connection whose input has ended\n%q", x.protocol, clip(x.sent.bytes()))
	}
	if err := x.sent.judge(x.answer); err != nil {
		t.Errorf("%s: %v\nsent %q\ngot %q", x.protocol, err, clip(x.sent.bytes()), clip(x.answer))
	}
}

// session is what a server was sent, as far as it says what may be answered.
type session interface {
	bytes() []byte
	answered(answer []byte) bool // everything that is whole has its answer; called again and again as it grows
	served(answer []byte) bool   // the one request, which is whole, is answered by more than a word
	closes() bool                // the server has nothing to wait for behind its answer
	judge(answer []byte) error   // what is wrong with it
	holds(answer []byte, secret string) bool
}

// pieces reports whether b has twelve bytes in a row of secret.
func pieces(b []byte, secret string) bool {
	const long = 12
	for i := range len(secret) - long + 1 {
		if bytes.Contains(b, []byte(secret[i:i+long])) {
			return true
		}
	}
	return false
}

func newSession(p Protocol, b []byte) session {
	if p == FastCGI {
		return newRecords(b)
	}
	return newSingle(p, b)
}

// single is the one request that a connection of SCGI or uwsgi carries.
type single struct {
	b         []byte
	protocol  Protocol
	whole     bool // head and body are there
	malformed bool
}

func newSingle(p Protocol, b []byte) *single {
	s := &single{b: b, protocol: p}
	h := decode(p, b)
	s.malformed = h.verdict == refused && !h.free
	var r gateway.Request
	if newReader(p, bytes.NewReader(b)).ReadRequest(&r) == nil {
		if r.Body == nil {
			s.whole = true
		} else if _, err := io.Copy(io.Discard, r.Body); err == nil {
			s.whole = true
		}
	}
	return s
}

func (s *single) bytes() []byte { return s.b }

// answered is true from the end of the head on: the end of an answer is that of the connection.
func (s *single) answered(answer []byte) bool {
	n, err := gateway.ConsumeResponse(answer, new(gateway.Response))
	return !s.whole || n > 0 || err != nil
}

func (s *single) served(answer []byte) bool {
	n, err := gateway.ConsumeResponse(answer, new(gateway.Response))
	return n > 0 && err == nil
}

// closes is true where an answer comes: it is all that the connection carries.
func (s *single) closes() bool { return s.whole }

func (s *single) holds(answer []byte, secret string) bool { return pieces(answer, secret) }

func (s *single) judge(answer []byte) error {
	if !s.malformed {
		return nil
	}
	var res gateway.Response
	if n, err := gateway.ConsumeResponse(answer, &res); err == nil && n > 0 && res.Status < 400 {
		return fmt.Errorf("a malformed request is answered with status %d", res.Status)
	}
	return nil
}

// allocated is the number of bytes that this process has allocated so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// clip keeps what is printed short.
func clip(b []byte) []byte { return b[:min(len(b), 1<<10)] }

// get is a whole GET with secret in its params.
func get(p Protocol, secret string) []byte {
	var r gateway.Request
	for _, nv := range [][2]string{
		{"GATEWAY_INTERFACE", "CGI/1.1"}, {"REQUEST_METHOD", "GET"}, {"SERVER_PROTOCOL", "HTTP/1.1"}, {"SERVER_NAME", "localhost"},
		{"SERVER_PORT", "80"}, {"REMOTE_ADDR", "127.0.0.1"}, {"HTTP_HOST", "localhost"}, {"SCRIPT_NAME", ""}, {"PATH_INFO", "/"},
		{"REQUEST_URI", "/?" + secret}, {"QUERY_STRING", secret}, {"HTTP_X_SECRET", secret},
	} {
		r.Params.Add(nv[0], nv[1])
	}
	var b []byte
	var err error
	switch p {
	case FastCGI:
		if b, err = fastcgi.AppendRequest(nil, 1, false, &r); err == nil {
			b, err = fastcgi.AppendRecord(b, fastcgi.TypeStdin, 1, nil)
		}
	case SCGI:
		b, err = scgi.AppendRequest(nil, &r)
	case UWSGI:
		b, err = uwsgi.AppendRequest(nil, &r)
	}
	if err != nil {
		panic(err) // it is always the same request
	}
	return b
}
