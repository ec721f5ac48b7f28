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
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

func TestValues(t *testing.T) {
	t.Run("of our server [409 410]", func(t *testing.T) {
		c := &fastcgi.Client{Addr: gatewaytest.Start(t, &fastcgi.Server{Logger: quiet})}
		got, err := c.Values(t.Context())
		if err != nil || fmt.Sprint(got) != "map[FCGI_MAX_CONNS:10000 FCGI_MAX_REQS:256 FCGI_MPXS_CONNS:1]" {
			t.Errorf("%v, %v", got, err)
		}
		if got, err := c.Values(t.Context(), "FCGI_MPXS_CONNS", "OTHER"); err != nil || fmt.Sprint(got) != "map[FCGI_MPXS_CONNS:1]" {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("what is sent, and records that are skipped [409]", func(t *testing.T) {
		closed := make(chan error, 1)
		addr := script(t, func(c net.Conn) {
			want := rec(fastcgi.TypeGetValues, 0, pairs("A", "", "B", ""))
			b := make([]byte, len(want))
			if io.ReadFull(c, b); string(b[:7]) != want[:7] || string(b[8:]) != want[8:] { // the eighth byte is reserved
				t.Errorf("%q", b)
			}
			io.WriteString(c, rec(fastcgi.TypeStdout, 1, "late")+rec(fastcgi.TypeGetValuesResult, 0, pairs("A", "1", "C", "")))
			_, err := c.Read(b)
			closed <- err
		})
		got, err := (&fastcgi.Client{Addr: addr, MaxIdleConns: 1}).Values(t.Context(), "A", "B", "A")
		if err != nil || fmt.Sprint(got) != "map[A:1 C:]" {
			t.Errorf("%v, %v", got, err)
		}
		if err := <-closed; err != io.EOF {
			t.Error(err)
		}
	})
	for name, c := range map[string]struct {
		response string
		want     error
	}{
		"nothing [411]":              {"", gateway.ErrNoResponse},
		"UNKNOWN_TYPE [411]":         {rec(fastcgi.TypeUnknown, 0, "\x09\x00\x00\x00\x00\x00\x00\x00"), gateway.ErrMalformed},
		"pairs that are none [411]":  {rec(fastcgi.TypeGetValuesResult, 0, "\x05\x05A"), gateway.ErrMalformed},
		"another protocol [411]":     {"HTTP/1.1 400 Bad Request\r\n\r\n", gateway.ErrMalformed},
		"a result that is cut [411]": {rec(fastcgi.TypeGetValuesResult, 0, pairs("A", "1"))[:10], gateway.ErrTruncated},
		"a long result [411]":        {rec(fastcgi.TypeGetValuesResult, 0, pairs("A", strings.Repeat("x", 5000))), gateway.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			addr := script(t, func(conn net.Conn) {
				conn.Read(make([]byte, 1000))
				io.WriteString(conn, c.response)
			})
			got, err := (&fastcgi.Client{Addr: addr}).Values(t.Context())
			if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Phase != gateway.PhaseHead || !errors.Is(err, c.want) || got != nil {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	t.Run("what cannot be asked [411]", func(t *testing.T) {
		c := &fastcgi.Client{Addr: "127.0.0.1:1"}
		_, err := c.Values(t.Context(), "")
		if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Phase != gateway.PhaseRequest {
			t.Error(err)
		}
		_, err = c.Values(t.Context())
		if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Phase != gateway.PhaseDial {
			t.Error(err)
		}
		if _, err := new(fastcgi.Client).Values(t.Context()); err == nil {
			t.Error("no address")
		}
	})
	t.Run("the context, and the time-out [411]", func(t *testing.T) {
		addr := script(t, func(c net.Conn) { io.Copy(io.Discard, c) })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := (&fastcgi.Client{Addr: addr}).Values(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if _, err := (&fastcgi.Client{Addr: addr, HeadTimeout: 20 * time.Millisecond}).Values(t.Context()); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
}
