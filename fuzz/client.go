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

// Client answers a client with bytes and fails a test unless Call, and the reading of what it returns, are over in Wait;
// there is an error if b is cut; and the body is that of b up to its Content-Length, if b is a whole answer and no error says
// otherwise. Left to the client are bodies of 204, 205 and 304, which it may drop, redirects, which it may follow, and
// interim answers, which it may take for the answer.
//
// Call sends a GET to addr, "host:port" on loopback, or of CGI the path of a program (in sh, so on Unix alone; it reads no
// input), and returns the answer's body. An addr comes again after some hundred others. The application behind it reads a
// request whole, as far as it can, answers b and closes. Of FastCGI the records of b get the id of the request; if they have
// several ids, only the time is looked at.
type Client struct {
	Protocol Protocol
	Call     func(ctx context.Context, addr string) (io.ReadCloser, error)
	Wait     time.Duration // 0 stands for 2 s
}

// Play answers one call with b, and each further connection that the call makes.
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
		} else if err := judgeAnswer(c.Protocol, b, r.body, r.err); err != nil {
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

// interim finds what may be an answer with a 1xx.
var interim = regexp.MustCompile(`(?i)(status[ \t]*:[ \t]*|http/\d\.\d +)1\d\d`)

// judgeAnswer says what is wrong with what a client made of b.
func judgeAnswer(p Protocol, b, body []byte, err error) error {
	if err != nil || p == FastCGI && len(ids(b)) > 1 {
		return nil // a client may refuse what it likes, and which of several answers is meant nobody can say
	}
	var res gateway.Response
	r := newAnswers(p, bytes.NewReader(b))
	want, readErr := []byte(nil), r.ReadResponse(&res)
	if readErr == nil {
		want, readErr = io.ReadAll(res.Body)
	}
	switch {
	case readErr == io.EOF:
		return errors.New("there was no answer, and it saw no error")
	case res.Status == 204 || res.Status == 205 || res.Status == 304: // what follows the head is nobody's
	case res.Header.Get("Location") != "" || interim.Match(b):
	case readErr == nil && len(want) == 0 && res.ContentLength > 0: // a Reader cannot know that it was no HEAD
		return errors.New("the answer was cut behind its head, and it saw no error")
	case errors.Is(readErr, io.ErrUnexpectedEOF):
		return fmt.Errorf("the answer was cut (%w), and it saw no error", readErr)
	case readErr == nil && !bytes.Equal(want, body):
		return fmt.Errorf("the body has %d bytes, and it gave %d that are not the same", len(want), len(body))
	}
	return nil
}

// newAnswers is a Reader of answers.
func newAnswers(p Protocol, src io.Reader) reader {
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

// application starts what answers b.
func application(t testing.TB, p Protocol, b []byte, wait time.Duration) (addr string, stop func()) {
	t.Helper()
	if p == CGI {
		return program(t, b)
	}
	if newReader(p, nil) == nil {
		t.Fatalf("fuzz: %q is no protocol", p)
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
				answerWith(p, conn.(*net.TCPConn), b)
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

// addrs are those of applications that are over. Whoever closes a connection first keeps its port for a minute or so, and
// a machine has some ten thousand: fuzzing with a new one each time would leave none for anybody. They come again in turn,
// each after so many others that no client has still something to say to the last one there.
var addrs = make(chan string, 256)

// listen takes an address of addrs once there are enough, else a new one.
func listen() (net.Listener, error) {
	if len(addrs) == cap(addrs) {
		if l, err := net.Listen("tcp", <-addrs); err == nil {
			return l, nil
		}
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

// answerWith reads a request and answers b. It takes what the client still sends: a reset would destroy the answer.
func answerWith(p Protocol, conn *net.TCPConn, b []byte) {
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

// ids are those of the records of b.
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

// withID gives the records of b, if all have the same id, another one.
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

// program writes a script that answers b.
func program(t testing.TB, b []byte) (path string, remove func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "fuzz")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "script")
	script := fmt.Sprintf("#!/bin/sh\nexec cat '%s/answer'\n", dir)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "answer"), b, 0o600), os.WriteFile(path, []byte(script), 0o700)); err != nil {
		t.Fatal(err)
	}
	return path, func() { os.RemoveAll(dir) }
}
