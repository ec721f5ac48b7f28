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
	grace       = 10 * time.Millisecond // for unexpected output of the server
	maxResponse = 4 << 20               // bytes of a response that are looked at
	allowance   = 64 << 20              // bytes that may be allocated for any input
	perByte     = 4 << 10               // and for each byte of it
)

// Server plays bytes to a running server and fails a test if an invariant is violated:
//
//   - after b was sent, the server responds or closes within Wait, and closes after the end of the
//     input; if b has several FastCGI requests, a server that does not set FCGI_MPXS_CONNS to 1 in
//     its response to GET_VALUES need not respond to more than the first;
//   - a FastCGI response consists of records of version 1, of requests that were begun, with at
//     most one END for each and nothing after it; a response that is cut is accepted, since a
//     server shows in that way that a handler failed;
//   - a request that is malformed on the wire gets no response with a status below 400;
//   - the server still serves afterwards: a GET gets a complete head and, with FastCGI, its END,
//     within Wait;
//   - no twelve consecutive bytes of that GET's query are in the response to the next b; a handler
//     that echoes its params makes this a test;
//   - this process allocates at most 64 MiB, and 4 KiB for each byte of b; nothing else that
//     allocates as much may run meanwhile.
//
// One Play runs at a time in the process. A CGI request does not arrive over a connection: Play
// then fails t at once.
type Server struct {
	// Protocol is the protocol of the server.
	Protocol Protocol

	// Dial connects to the server under test.
	Dial func(context.Context) (net.Conn, error)

	// Wait limits the time of a response. Zero or a negative value means 2 seconds.
	Wait time.Duration

	// The fields below are guarded by playing.

	secret string // the last GET's, which no response may contain
	known  bool   // plexed is known
	plexed bool   // it accepts several FastCGI requests at a time
}

// playing is held during a Play, which counts the allocations of the process.
var playing sync.Mutex

// Play sends b on its own connection. If the connection has a CloseWrite method, like *net.TCPConn
// and *net.UnixConn, the server sees the end of the input when it has responded to the complete
// requests in b, or was silent for a while. If not, output for incomplete requests, and output
// after a FastCGI response, is seen for the next 10 ms only. A server may take the end of the input
// for a client that left, but must first send the head of the response to a complete request.
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
	if s.secret != "" && x.sent.holds(x.response, s.secret) {
		t.Errorf("%s: the response has bytes of another request\n%q", s.Protocol, clip(b))
	}
	s.serves(t, b)
}

// serves sends a request that must get a response.
func (s *Server) serves(t testing.TB, b []byte) {
	t.Helper()
	s.secret = rand.Text()
	x := s.exchange(t, get(s.Protocol, s.secret))
	if !x.sent.served(x.response) {
		t.Errorf("%s: it no longer responds to a GET (%v)\nafter %q\ngot %q", s.Protocol, x.err, clip(b), clip(x.response))
	}
	x.check(t)
}

func (s *Server) wait() time.Duration {
	if s.Wait <= 0 {
		return defaultWait
	}
	return s.Wait
}

// An exchange is what was sent to a server, and what the server sent.
type exchange struct {
	protocol  Protocol
	sent      session
	response  []byte
	err       error // of the connection; nil means that the server closed it in time
	late      bool  // Wait was over before every response arrived
	lingering bool  // the server saw the end of the input and did not close
}

// exchange plays b: first until every response has arrived, then to the end of the connection.
func (s *Server) exchange(t testing.TB, b []byte) *exchange {
	t.Helper()
	x := &exchange{protocol: s.Protocol, sent: s.session(t, b)}
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
	x.read(conn, over, func() bool { return x.sent.responded(x.response) })
	if x.late = x.timedOut() && !x.sent.responded(x.response); x.late || x.closed() {
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

// soon returns the time after grace from now, but at most over.
func soon(over time.Time) time.Time {
	if at := time.Now().Add(grace); at.Before(over) {
		return at
	}
	return over
}

// read appends to the response until enough returns true, the connection ends, or the time is over.
func (x *exchange) read(conn net.Conn, over time.Time, enough func() bool) {
	conn.SetReadDeadline(over)
	buf := make([]byte, 32<<10)
	for x.err = nil; len(x.response) < maxResponse; {
		if enough != nil && enough() {
			return
		}
		n, err := conn.Read(buf)
		x.response = append(x.response, buf[:n]...)
		if err != nil {
			x.err = err
			return
		}
	}
}

func (x *exchange) timedOut() bool { return errors.Is(x.err, os.ErrDeadlineExceeded) }

// closed reports whether the server ended the connection, in any way.
func (x *exchange) closed() bool { return x.err != nil && !x.timedOut() }

// check fails t if the response violates an invariant.
func (x *exchange) check(t testing.TB) {
	t.Helper()
	if x.late {
		t.Errorf("%s: neither a response nor an end in time\n%q", x.protocol, clip(x.sent.bytes()))
	}
	if x.lingering {
		t.Errorf("%s: it keeps a connection whose input has ended\n%q", x.protocol, clip(x.sent.bytes()))
	}
	if err := x.sent.judge(x.response); err != nil {
		t.Errorf("%s: %v\nsent %q\ngot %q", x.protocol, err, clip(x.sent.bytes()), clip(x.response))
	}
}

// A session is what was sent to a server, and what follows from it for the responses.
type session interface {
	bytes() []byte
	responded(response []byte) bool // every complete request has its response; called repeatedly as the response grows
	served(response []byte) bool    // the one request, which is complete, has a response that is more than a few bytes
	closes() bool                   // the server has no reason to wait after its response
	judge(response []byte) error    // what is wrong with the response
	holds(response []byte, secret string) bool
}

// pieces reports whether b has twelve consecutive bytes of secret.
func pieces(b []byte, secret string) bool {
	const long = 12
	for i := range len(secret) - long + 1 {
		if bytes.Contains(b, []byte(secret[i:i+long])) {
			return true
		}
	}
	return false
}

// session returns what b is. Before the first b with several FastCGI requests it asks the server
// whether it multiplexes.
func (s *Server) session(t testing.TB, b []byte) session {
	if s.Protocol != FastCGI {
		return newSingle(s.Protocol, b)
	}
	r := newRecords(b)
	if len(r.requests) > 1 {
		if !s.known {
			s.plexed, s.known = s.multiplexes(t.Context())
		}
		r.alone = !s.plexed
	}
	return r
}

// A single is the one request of an SCGI or uwsgi connection.
type single struct {
	b         []byte
	protocol  Protocol
	whole     bool // head and body are complete
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

// responded returns true after the head: the response ends with the connection.
func (s *single) responded(response []byte) bool {
	n, err := gateway.ConsumeResponse(response, new(gateway.Response))
	return !s.whole || n > 0 || err != nil
}

func (s *single) served(response []byte) bool {
	n, err := gateway.ConsumeResponse(response, new(gateway.Response))
	return n > 0 && err == nil
}

// closes returns true if there is a response, which is all that the connection carries.
func (s *single) closes() bool { return s.whole }

func (s *single) holds(response []byte, secret string) bool { return pieces(response, secret) }

func (s *single) judge(response []byte) error {
	if !s.malformed {
		return nil
	}
	var res gateway.Response
	if n, err := gateway.ConsumeResponse(response, &res); err == nil && n > 0 && res.Status < 400 {
		return fmt.Errorf("a malformed request has a response with status %d", res.Status)
	}
	return nil
}

// allocated returns the number of bytes that this process has allocated.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// clip shortens what is printed.
func clip(b []byte) []byte { return b[:min(len(b), 1<<10)] }

// get returns a whole GET with secret in its params.
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
		panic(err) // the request is always the same
	}
	return b
}
