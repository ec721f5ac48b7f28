package fastcgi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

func TestClientConn(t *testing.T) {
	t.Run("ids count up on a kept connection [077]", func(t *testing.T) {
		ids := make(chan uint16, 3)
		addr := script(t, func(c net.Conn) {
			r := fastcgi.NewReader(c)
			for {
				if _, _, err := readRequest(r); err != nil {
					return
				}
				id, _ := r.Begin()
				ids <- id
				io.WriteString(c, response(id, okHead+"x"))
			}
		})
		c := &fastcgi.Client{Addr: addr, MaxIdleConns: 1}
		defer c.Close()
		for want := uint16(1); want <= 3; want++ {
			if o := ask(t, c, request(t, "GET", "")); o.err != nil || o.body != "x" {
				t.Fatal(o.err)
			}
			if got := <-ids; got != want {
				t.Errorf("id %d, want %d", got, want)
			}
		}
	})
	t.Run("the web server does not keep the connection by default [078]", func(t *testing.T) {
		for idle, flag := range map[int]byte{0: 0, 1: 1} {
			if got := sent(t, &fastcgi.Client{MaxIdleConns: idle}, request(t, "GET", "")); got[10] != flag {
				t.Errorf("MaxIdle %d: flags %d", idle, got[10])
			}
		}
	})
	t.Run("bytes after END_REQUEST [101 104 F2]", func(t *testing.T) {
		for _, idle := range []int{0, 1} {
			c := &fastcgi.Client{Addr: responding(t, response(1, okHead+"x")+"excess"), MaxIdleConns: idle}
			for range 2 {
				if o := ask(t, c, request(t, "GET", "")); o.err != nil || o.body != "x" {
					t.Errorf("%q, %v", o.body, o.err)
				}
			}
			if s := c.Stats(); s.Reused > 0 || s.Idle > 0 {
				t.Errorf("kept: %+v", s)
			}
		}
	})
	t.Run("idle connections expire [106]", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := piped(func(c net.Conn, r *fastcgi.Reader) {
				for {
					if _, _, err := readRequest(r); err != nil {
						return
					}
					id, _ := r.Begin()
					io.WriteString(c, response(id, okHead+"x"))
				}
			})
			c.MaxIdleConns, c.IdleConnTimeout = 2, time.Minute
			if o := ask(t, c, request(t, "GET", "")); o.err != nil || c.Stats().Idle != 1 {
				t.Fatalf("%v, %+v", o.err, c.Stats())
			}
			time.Sleep(59 * time.Second)
			synctest.Wait()
			if c.Stats().Idle != 1 {
				t.Error("gone too soon")
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if s := c.Stats(); s.Idle != 0 || s.Dialed != 1 {
				t.Errorf("%+v", s)
			}
			c.MaxLifetime = time.Second
			ask(t, c, request(t, "GET", ""))
			time.Sleep(2 * time.Second)
			ask(t, c, request(t, "GET", ""))
			if s := c.Stats(); s.Reused != 0 || s.Dialed != 3 {
				t.Errorf("a connection outlived its time: %+v", s)
			}
			c.Close()
		})
	})
	t.Run("the client closes after END_REQUEST [107]", func(t *testing.T) {
		closed := make(chan error, 1)
		addr := script(t, func(c net.Conn) {
			r := fastcgi.NewReader(c)
			readRequest(r)
			io.WriteString(c, response(1, okHead))
			var err error
			for err == nil {
				_, err = r.Next() // the empty STDIN, then the end
			}
			closed <- err
		})
		o := ask(t, &fastcgi.Client{Addr: addr}, request(t, "GET", ""))
		if err := <-closed; err != io.EOF || o.err != nil {
			t.Errorf("%v, %v", err, o.err)
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
}

// TestPool bounds the connections.
func TestPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var open, most atomic.Int64
		c := piped(func(c net.Conn, r *fastcgi.Reader) {
			most.Store(max(most.Load(), open.Add(1)))
			defer open.Add(-1)
			for {
				if _, _, err := readRequest(r); err != nil {
					return
				}
				time.Sleep(time.Second)
				id, _ := r.Begin()
				io.WriteString(c, response(id, okHead+"x"))
			}
		})
		c.MaxConns, c.MaxIdleConns = 2, 2
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if o := ask(t, c, request(t, "GET", "")); o.err != nil {
					t.Error(o.err)
				}
			})
		}
		synctest.Wait()
		if s := c.Stats(); s.InFlight != 10 || s.Waiting != 8 {
			t.Errorf("%+v", s)
		}
		wg.Wait()
		if s := c.Stats(); most.Load() != 2 || s.Dialed != 2 || s.Reused != 8 || s.Waiting != 0 {
			t.Errorf("%d at once, %+v", most.Load(), s)
		}
		// A waiting request ends with its context.
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		for range 2 {
			wg.Go(func() { ask(t, c, request(t, "GET", "")) })
		}
		synctest.Wait()
		var res gateway.Response
		err := c.RoundTrip(ctx, request(t, "GET", ""), &res)
		if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Phase != gateway.PhaseWait || gateway.ErrorStatus(err) != 503 {
			t.Errorf("%v", err)
		}
		wg.Wait()
		c.Close()
	})
}

// Close did not end a Serve that was waiting for a free place.
func TestCloseAtMaxConns(t *testing.T) {
	h := newHold()
	defer close(h.release)
	srv := &fastcgi.Server{Handler: h, MaxConns: 1, Logger: quiet}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	s := connect(t, l.Addr().String())
	s.send(get(1, true))
	<-h.started
	srv.Close()
	select {
	case err := <-served:
		want(t, err, gateway.ErrServerClosed)
	case <-time.After(limit):
		t.Error("Serve does not return")
	}
}

// A body that had come whole was once lost when the peer then closed its sending side.
func TestWholeBodyThenHalfClose(t *testing.T) {
	s := serve(t, handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		r.Context().Done()
		time.Sleep(30 * time.Millisecond)
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %v", b, err)
		return nil
	}))
	s.send(head(1, 1, false, "A", "1") + stdin(1, "body") + stdin(1, ""))
	s.c.CloseWrite()
	if r := s.reply(1); r.body() != "body <nil>" {
		t.Errorf("%+v", r)
	}
}
