package fuzz

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Client plays bytes to a client as the response to its request. It fails a test unless Call, and
// the reading of what it returns, end within Wait; there is an error if b is truncated; and the
// body is that of b up to its Content-Length, if b is a complete response and no error says
// otherwise. A client may drop the bodies of 204, 205 and 304, follow redirects, and take an
// interim response for the final one.
//
// Call sends a GET to addr and returns the body of the response. addr is "host:port" on loopback
// or, for CGI, the path of a program, which runs in sh, on Unix only, and reads no input. An addr
// is used again after some hundred others. The application behind it reads a request as far as it
// can, responds with b and closes. The records of b get the id of a FastCGI request; if they have
// several ids, only the time is checked.
type Client struct {
	// Protocol is the protocol of the client.
	Protocol Protocol

	// Call sends a GET to addr with the client under test and returns the body of the response.
	Call func(ctx context.Context, addr string) (io.ReadCloser, error)

	// Wait limits the time of Call and of reading. Zero or a negative value means 2 seconds.
	Wait time.Duration
}

// Play responds to one call with b, and to each further connection that the call makes.
func (c *Client) Play(t testing.TB, b []byte) {
	t.Helper()
	wait := c.Wait
	if wait <= 0 {
		wait = defaultWait
	}
	addr, stop := application(t, c.Protocol, b, wait)
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	type result struct {
		body []byte
		err  error
	}
	over := make(chan result, 1)
	go func() {
		body, err := c.call(ctx, addr)
		over <- result{body, err}
	}()
	select {
	case r := <-over:
		if ctx.Err() != nil {
			t.Errorf("%s: the call was not over in time: %v\n%q", c.Protocol, r.err, clip(b))
		} else if err := judgeResponse(c.Protocol, b, r.body, r.err); err != nil {
			t.Errorf("%s: %v\n%q", c.Protocol, err, clip(b))
		}
	case <-time.After(wait + defaultWait):
		t.Fatalf("%s: the call does not return, not even when its context is done\n%q", c.Protocol, clip(b))
	}
}

func (c *Client) call(ctx context.Context, addr string) ([]byte, error) {
	body, err := c.Call(ctx, addr)
	if err != nil || body == nil {
		return nil, err
	}
	b, err := io.ReadAll(body)
	if cerr := body.Close(); err == nil {
		err = cerr
	}
	return b, err
}

// interim matches what may be a 1xx response.
var interim = regexp.MustCompile(`(?i)(status[ \t]*:[ \t]*|http/\d\.\d +)1\d\d`)

// judgeResponse returns what is wrong with what a client made of b.
func judgeResponse(p Protocol, b, body []byte, err error) error {
	if err != nil || p == FastCGI && len(ids(b)) > 1 {
		return nil // a client may refuse anything, and which of several responses is meant is undefined
	}
	var res gateway.Response
	r := newResponses(p, bytes.NewReader(b))
	want, readErr := []byte(nil), r.ReadResponse(&res)
	if readErr == nil {
		want, readErr = io.ReadAll(res.Body)
	}
	switch {
	case readErr == io.EOF:
		return errors.New("there was no response, and it saw no error")
	case res.Status == 204 || res.Status == 205 || res.Status == 304: // what follows the head is not part of the response
	case res.Header.Get("Location") != "" || interim.Match(b):
	case readErr == nil && len(want) == 0 && res.ContentLength > 0: // a Reader cannot know that the request was not a HEAD
		return errors.New("the response was cut behind its head, and it saw no error")
	case errors.Is(readErr, io.ErrUnexpectedEOF):
		return fmt.Errorf("the response was cut (%w), and it saw no error", readErr)
	case readErr == nil && !bytes.Equal(want, body):
		return fmt.Errorf("the body has %d bytes, and it gave %d that are not the same", len(want), len(body))
	}
	return nil
}

// newResponses returns a Reader of responses.
func newResponses(p Protocol, src io.Reader) reader {
	if r := newReader(p, src); r != nil {
		return r
	}
	r := new(plainReader)
	r.Reset(src)
	return r
}

type plainReader struct{ stream.Reader }

func (r *plainReader) ReadRequest(*gateway.Request) error { return errors.ErrUnsupported }

func (r *plainReader) ReadResponse(res *gateway.Response) error {
	return r.Reader.ReadResponse(res, 0, "cgi")
}

// application starts the application that responds with b.
func application(t testing.TB, p Protocol, b []byte, wait time.Duration) (addr string, stop func()) {
	t.Helper()
	if p == CGI {
		return program(t, b)
	}
	if newReader(p, nil) == nil {
		t.Fatalf("fuzz: unknown protocol %q", p)
	}
	l, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	over, end := context.WithCancel(context.Background())
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(wait))
			open.Go(func() {
				defer context.AfterFunc(over, func() { conn.Close() })()
				respondWith(p, conn.(*net.TCPConn), b)
			})
		}
	})
	return l.Addr().String(), func() {
		l.Close()
		end()
		open.Wait()
		select {
		case addrs <- l.Addr().String():
		default:
		}
	}
}

// addrs holds the addresses of applications that have ended. The side that closes a connection
// first keeps its port for about a minute, and a machine has some ten thousand: with a new port
// each time fuzzing would use up all of them. An address is reused after so many others that no
// client still sends to it.
var addrs = make(chan string, 256)

// listen listens at an address of addrs if there are enough, or at a new one.
func listen() (net.Listener, error) {
	if len(addrs) == cap(addrs) {
		if l, err := net.Listen("tcp", <-addrs); err == nil {
			return l, nil
		}
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

// respondWith reads a request and responds with b. It reads what the client still sends, since a
// reset would destroy the response.
func respondWith(p Protocol, conn *net.TCPConn, b []byte) {
	defer conn.Close()
	var req gateway.Request
	r := newReader(p, conn)
	if r.ReadRequest(&req) == nil && req.Body != nil {
		io.Copy(io.Discard, req.Body)
	}
	if f, ok := r.(*fastcgi.Reader); ok {
		id, _ := f.Begin()
		b = withID(b, id)
	}
	conn.Write(b)
	conn.CloseWrite()
	io.Copy(io.Discard, conn)
}

// ids returns the ids of the records of b.
func ids(b []byte) map[uint16]bool {
	all := make(map[uint16]bool)
	for {
		h, n := fastcgi.ConsumeHeader(b)
		if n <= 0 {
			return all
		}
		if h.ID > 0 {
			all[h.ID] = true
		}
		b = b[min(len(b), n+int(h.Length)+int(h.Padding)):]
	}
}

// withID sets the id of the records of b, if all have the same.
func withID(b []byte, id uint16) []byte {
	if len(ids(b)) != 1 || id == 0 {
		return b
	}
	b = bytes.Clone(b)
	for rest := b; ; {
		h, n := fastcgi.ConsumeHeader(rest)
		if n <= 0 {
			return b
		}
		if h.ID > 0 {
			binary.BigEndian.PutUint16(rest[2:], id)
		}
		rest = rest[min(len(rest), n+int(h.Length)+int(h.Padding)):]
	}
}

// program writes a script that responds with b.
func program(t testing.TB, b []byte) (path string, remove func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "fuzz")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "script")
	script := fmt.Sprintf("#!/bin/sh\nexec cat '%s/response'\n", dir)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "response"), b, 0o600), os.WriteFile(path, []byte(script), 0o700)); err != nil {
		t.Fatal(err)
	}
	return path, func() { os.RemoveAll(dir) }
}
