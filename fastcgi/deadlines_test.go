package fastcgi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

func TestServerTimeouts(t *testing.T) {
	t.Run("time-outs [151 299]", timeouts)
}

func timeouts(t *testing.T) {
	for _, c := range []struct {
		name, in string
		trickle  string // goes on, a byte a second
		after    time.Duration
	}{
		{"nothing comes", "", "", 2 * time.Minute},
		{"a header does not end", "\x01", "", 10 * time.Second},
		{"a header byte by byte", "", begin(1, 1, true) + rec(fastcgi.TypeParams, 1, pairs("LONG", "PARAM")), 11 * time.Second},
		{"params do not end", begin(1, 1, true) + rec(fastcgi.TypeParams, 1, pairs("A", "1")), "", 10 * time.Second},
		{"params byte by byte", begin(1, 1, true) + rec(fastcgi.TypeParams, 1, strings.Repeat("x", 0xff))[:8], strings.Repeat("x", 100), 10 * time.Second},
		{"nothing after a response", get(1, true), "", 2 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			conn, served := pipeServer(t.Context(), &fastcgi.Server{Handler: echo, Logger: quiet})
			defer conn.Close()
			begun := time.Now()
			go io.Copy(io.Discard, conn)
			go func() {
				io.WriteString(conn, c.in)
				for i := range c.trickle {
					time.Sleep(time.Second)
					io.WriteString(conn, c.trickle[i:i+1])
				}
			}()
			<-served
			if took := time.Since(begun); took < c.after-time.Second || took > c.after+2*time.Second {
				t.Errorf("%s: closed after %v, want %v", c.name, took, c.after)
			}
			time.Sleep(time.Hour)
		})
	}
	synctest.Test(t, func(t *testing.T) { // a peer that does not read
		conn, served := pipeServer(t.Context(), handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			_, err := w.Write(make([]byte, 1<<20))
			return err
		}))
		defer conn.Close()
		begun := time.Now()
		io.WriteString(conn, get(1, true))
		<-served
		if took := time.Since(begun); took < 50*time.Second || took > 70*time.Second {
			t.Errorf("closed after %v", took)
		}
		time.Sleep(time.Hour)
	})
	synctest.Test(t, func(t *testing.T) { // a handler's own deadline
		for _, slow := range []bool{false, true} {
			conn, served := pipeServer(t.Context(), handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
				if slow {
					r.Context().Done() // another goroutine reads the connection now
					time.Sleep(time.Second)
				}
				if err := w.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
					return err
				}
				begun := time.Now()
				_, err := io.ReadAll(r.Body)
				if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) != 3*time.Second {
					t.Errorf("slow %v: %v after %v", slow, err, time.Since(begun))
				}
				w.SetReadDeadline(time.Time{})
				b, err := io.ReadAll(r.Body)
				fmt.Fprintf(w, "%s %v", b, err)
				return nil
			}))
			go func() {
				io.WriteString(conn, head(1, 1, false, "CONTENT_LENGTH", "4")+stdin(1, "a"))
				time.Sleep(10 * time.Second)
				io.WriteString(conn, stdin(1, "bcd")+stdin(1, ""))
			}()
			var res gateway.Response
			if err := fastcgi.NewReader(conn).ReadResponse(&res); err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(res.Body); string(b) != "bcd <nil>" {
				t.Errorf("slow %v: %q, %v", slow, b, err)
			}
			conn.Close()
			<-served
		}
		time.Sleep(time.Hour)
	})
}

// TestServerTimes sets the limits that other tests leave at their defaults.
func TestServerTimes(t *testing.T) {
	run := func(t *testing.T, srv *fastcgi.Server, f func(t *testing.T, c net.Conn)) {
		synctest.Test(t, func(t *testing.T) {
			srv.Logger = quiet
			ours, theirs := net.Pipe()
			done := make(chan error, 1)
			go func() { done <- srv.ServeConn(context.Background(), theirs) }()
			f(t, ours)
			ours.Close()
			<-done
			time.Sleep(time.Second)
		})
	}
	// end returns the time after which the connection ended.
	end := func(c net.Conn) time.Duration {
		begun := time.Now()
		io.Copy(io.Discard, c)
		return time.Since(begun)
	}
	t.Run("IdleTimeout [151]", func(t *testing.T) {
		run(t, &fastcgi.Server{Handler: echo, IdleTimeout: 7 * time.Second}, func(t *testing.T, c net.Conn) {
			if d := end(c); d != 7*time.Second {
				t.Errorf("ended after %v", d)
			}
		})
	})
	t.Run("WriteTimeout [151]", func(t *testing.T) {
		var failed chan time.Duration // made in the bubble
		run(t, &fastcgi.Server{WriteTimeout: 9 * time.Second, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			begun := time.Now()
			w.Write(make([]byte, 100000))
			failed <- time.Since(begun)
			return nil
		})}, func(t *testing.T, c net.Conn) {
			failed = make(chan time.Duration, 1)
			io.WriteString(c, get(1, true))
			if d := <-failed; d != 9*time.Second {
				t.Errorf("the write failed after %v", d)
			}
		})
	})
	t.Run("half a management record beside a handler [151]", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			srv := &fastcgi.Server{Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
				r.Context().Done()
				<-release
				return nil
			})}
			ours, theirs := net.Pipe()
			done := make(chan error, 1)
			go func() { done <- srv.ServeConn(context.Background(), theirs) }()
			io.WriteString(ours, get(1, true))
			io.WriteString(ours, rec(fastcgi.TypeGetValues, 0, pairs("FCGI_MAX_REQS", ""))[:12])
			if d := end(ours); d != 10*time.Second {
				t.Errorf("ended after %v", d)
			}
			close(release)
			if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
			time.Sleep(time.Second)
		})
	})
	t.Run("SetReadDeadline ends a Read that waits [151]", func(t *testing.T) {
		run(t, &fastcgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			time.AfterFunc(3*time.Second, func() { w.SetReadDeadline(time.Now()) })
			begun := time.Now()
			_, err := r.Body.Read(make([]byte, 1))
			fmt.Fprintf(w, "%v %v", time.Since(begun), errors.Is(err, os.ErrDeadlineExceeded))
			return nil
		})}, func(t *testing.T, c net.Conn) {
			go io.WriteString(c, head(1, 1, false, "CONTENT_LENGTH", "5"))
			r := fastcgi.NewReader(c)
			var res gateway.Response
			if err := r.ReadResponse(&res); err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(res.Body); string(b) != "3s true" {
				t.Errorf("%q", b)
			}
		})
	})
}
