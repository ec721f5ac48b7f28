package fastcgi_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

// over returns a client of an application on a pipe.
func over(t *testing.T, c *fastcgi.Client, app func(c net.Conn)) *fastcgi.Client {
	c.Dial = func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go app(theirs)
		return ours, nil
	}
	return c
}

// TestBodyTimeoutIsForTheBody checks that what is not a byte of the body does not renew the time.
func TestBodyTimeoutIsForTheBody(t *testing.T) {
	for name, record := range map[string]string{
		"STDERR": rec(fastcgi.TypeStderr, 1, "x"), "management records": rec(fastcgi.TypeGetValuesResult, 0, ""),
		"records of another type": rec(fastcgi.Type(99), 1, "x"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := over(t, &fastcgi.Client{BodyTimeout: time.Second, Logger: quiet}, func(c net.Conn) {
					go io.Copy(io.Discard, c)
					io.WriteString(c, rec(fastcgi.TypeStdout, 1, "Status: 200\r\n\r\nx"))
					for {
						if _, err := io.WriteString(c, record); err != nil {
							return
						}
						time.Sleep(500 * time.Millisecond)
					}
				})
				var res gateway.Response
				if err := c.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/", nil), &res); err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				_, err := io.ReadAll(res.Body)
				if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Phase != gateway.PhaseBody || !e.Timeout() {
					t.Errorf("got %v", err)
				}
				if took := time.Since(begun); took > 2*time.Second {
					t.Errorf("after %v", took)
				}
				res.Body.Close()
				time.Sleep(time.Second) // until the application has noticed
			})
		})
	}
}

// A deaf connection goes on reading after Close, as some wrappers do.
type deaf struct {
	net.Conn
	read   chan struct{}
	closed chan struct{}
}

func (d *deaf) Close() error {
	select {
	case <-d.closed:
	default:
		close(d.closed)
	}
	return nil
}

func (d *deaf) Read(p []byte) (int, error) {
	select {
	case d.read <- struct{}{}:
	default:
	}
	return d.Conn.Read(p)
}

// TestClosedConnectionIsNotKept checks that a connection that Close has closed under a Read is not
// used again, although the Read came to the end of the response.
func TestClosedConnectionIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		var pipes []net.Conn
		c := &fastcgi.Client{MaxIdleConns: 1}
		c.Dial = func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			pipes = append(pipes, ours)
			go func() {
				go io.Copy(io.Discard, theirs)
				io.WriteString(theirs, rec(fastcgi.TypeStdout, 1, "Status: 200\r\n\r\nx"))
				<-goOn
				io.WriteString(theirs, rec(fastcgi.TypeStdout, 1, "")+end(1, 0, fastcgi.StatusComplete))
			}()
			return &deaf{ours, make(chan struct{}, 1), make(chan struct{})}, nil
		}
		var res gateway.Response
		if err := c.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/", nil), &res); err != nil {
			t.Fatal(err)
		}
		io.ReadFull(res.Body, make([]byte, 1))
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.ReadAll(res.Body)
		}()
		synctest.Wait()
		res.Body.Close()
		close(goOn)
		<-done
		if n := c.Stats().Idle; n != 0 {
			t.Errorf("%d connections are kept", n)
		}
		c.Close()
		for _, p := range pipes {
			p.Close()
		}
	})
}

// TestOpenHeads checks the limits of heads that are incomplete.
func TestOpenHeads(t *testing.T) {
	begin := func(id uint16) string {
		b, err := fastcgi.AppendBegin(nil, id, fastcgi.Begin{Role: gateway.RoleResponder, KeepConn: true})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	big := strings.Repeat("x", 60_000)
	t.Run("they do not fill MaxRequests [129 F35 F54]", func(t *testing.T) {
		srv := &fastcgi.Server{Handler: echo, MaxRequests: 1, Logger: quiet}
		s := serve(t, srv)
		for id := range uint16(100) {
			s.send(begin(id + 2))
		}
		s.send(head(1, 1, true, "CONTENT_LENGTH", "0") + stdin(1, ""))
		if r := s.reply(1); !strings.Contains(r.stdout, "200 OK") {
			t.Errorf("%+v", r)
		}
	})
	t.Run("four heads of a connection at the most [F54]", func(t *testing.T) {
		s := serve(t, &fastcgi.Server{Handler: echo, MaxHeadBytes: 64 << 10, Logger: quiet})
		for id := range uint16(4) {
			s.send(begin(id+1) + rec(fastcgi.TypeParams, id+1, big))
		}
		s.send(begin(9) + rec(fastcgi.TypeParams, 9, big))
		if r := s.reply(9); !strings.Contains(r.stdout, "503") {
			t.Errorf("%+v", r)
		}
	})
	t.Run("MaxOpenHeadBytes of a server [F54]", func(t *testing.T) {
		srv := &fastcgi.Server{Handler: echo, MaxOpenHeadBytes: 200_000, Logger: quiet}
		var open []*session
		for range 3 {
			s := serve(t, srv)
			s.send(begin(1) + rec(fastcgi.TypeParams, 1, big))
			open = append(open, s)
		}
		synced(t, open)
		s := serve(t, srv)
		s.send(begin(1) + rec(fastcgi.TypeParams, 1, big))
		if r := s.reply(1); !strings.Contains(r.stdout, "503") {
			t.Errorf("%+v", r)
		}
		open[0].send(rec(fastcgi.TypeAbort, 1, "")) // gives its bytes back
		open[0].reply(1)
		s = serve(t, srv)
		s.send(head(1, 1, true, "CONTENT_LENGTH", "0") + stdin(1, ""))
		if r := s.reply(1); !strings.Contains(r.stdout, "200 OK") {
			t.Errorf("afterwards: %+v", r)
		}
	})
}

// synced waits until the server has read what was sent: it responds to GET_VALUES in order.
func synced(t *testing.T, sessions []*session) {
	t.Helper()
	for _, s := range sessions {
		s.send(rec(fastcgi.TypeGetValues, 0, ""))
		if r, ok := s.next(); !ok || r.Type != fastcgi.TypeGetValuesResult {
			t.Fatalf("%+v, %v", r, ok)
		}
	}
}
