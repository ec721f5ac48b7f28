package uwsgi_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

func TestItems(t *testing.T) {
	t.Run("of every length [419]", func(t *testing.T) {
		var b []byte
		items := []string{"", "a", strings.Repeat("x", 65535)}
		for _, item := range items {
			var err error
			if b, err = uwsgi.AppendItem(b, item); err != nil {
				t.Fatal(err)
			}
		}
		for _, item := range items {
			for _, cut := range []int{0, 1, len(item) + 1} {
				if _, n := uwsgi.ConsumeItem(b[:cut]); n != 0 {
					t.Errorf("%d bytes of an item of %d: %d", cut, len(item), n)
				}
			}
			got, n := uwsgi.ConsumeItem(b)
			if string(got) != item || n != len(item)+2 {
				t.Errorf("an item of %d: %d, %d", len(item), len(got), n)
			}
			b = b[n:]
		}
		if b, err := uwsgi.AppendItem([]byte("x"), strings.Repeat("x", 65536)); !errors.Is(err, gateway.ErrTooLarge) || string(b) != "x" {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	})
}

func TestPacket(t *testing.T) {
	call := func(t *testing.T) []byte {
		t.Helper()
		var b []byte
		for _, item := range []string{"hello", "a", "bb"} {
			var err error
			if b, err = uwsgi.AppendItem(b, item); err != nil {
				t.Fatal(err)
			}
		}
		return b
	}
	rpc := uwsgi.PacketHeader{Modifier1: uwsgi.ModifierRPC}
	responding := func(t *testing.T, response []byte) (addr string, sent <-chan string) {
		got := make(chan string, 1)
		return conformance.Script(t, func(c net.Conn) {
			b := make([]byte, 18)
			io.ReadFull(c, b)
			got <- string(b)
			c.Write(response)
		}), got
	}
	t.Run("a call and its value [420]", func(t *testing.T) {
		addr, sent := responding(t, capture(t, "uwsgi-rpc.resp.bin"))
		response, err := (&uwsgi.Client{Addr: addr}).Packet(t.Context(), rpc, call(t))
		if err != nil || !slices.Equal(response, capture(t, "uwsgi-rpc.resp.bin")) || <-sent != string(capture(t, "uwsgi-rpc.req.bin")) {
			t.Errorf("%q, %v", response, err)
		}
		if h, n := uwsgi.ConsumeHeader(response); h.Modifier1 != uwsgi.ModifierRPC || string(response[n:n+int(h.Size)]) != "hi a,bb" {
			t.Errorf("%+v", h)
		}
	})
	t.Run("what is too large [421]", func(t *testing.T) {
		dialed := false
		c := &uwsgi.Client{Dial: func(context.Context) (net.Conn, error) { dialed = true; return nil, io.EOF }}
		_, err := c.Packet(t.Context(), rpc, make([]byte, 65536))
		if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Phase != gateway.PhaseRequest || !errors.Is(err, gateway.ErrTooLarge) || dialed {
			t.Errorf("%v", err)
		}
		addr, _ := responding(t, make([]byte, 101))
		if b, err := (&uwsgi.Client{Addr: addr, MaxHeadBytes: 100}).Packet(t.Context(), rpc, call(t)); !errors.Is(err, gateway.ErrTooLarge) || b != nil {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	})
	t.Run("nothing [420]", func(t *testing.T) {
		addr, _ := responding(t, nil)
		_, err := (&uwsgi.Client{Addr: addr}).Packet(t.Context(), rpc, call(t))
		if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Phase != gateway.PhaseHead || !e.Sent || e.Received || !errors.Is(err, gateway.ErrNoResponse) {
			t.Errorf("%v", err)
		}
	})
	t.Run("the context, and the time-out [421]", func(t *testing.T) {
		addr := conformance.Script(t, func(c net.Conn) { io.Copy(io.Discard, c) })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := (&uwsgi.Client{Addr: addr}).Packet(ctx, rpc, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if _, err := (&uwsgi.Client{Addr: addr, HeadTimeout: 20 * time.Millisecond}).Packet(t.Context(), rpc, nil); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
	t.Run("a server takes no such packet [422]", func(t *testing.T) {
		for _, m := range []uwsgi.Modifier{uwsgi.ModifierRPC, uwsgi.ModifierSpooler, uwsgi.ModifierSignal, uwsgi.ModifierCache, uwsgi.ModifierSubscription} {
			addr := gatewaytest.Start(t, &uwsgi.Server{Logger: quiet, Handler: gateway.HandlerFunc(func(gateway.ResponseWriter, *gateway.Request) error { return nil })})
			if b, err := (&uwsgi.Client{Addr: addr}).Packet(t.Context(), uwsgi.PacketHeader{Modifier1: m}, nil); err == nil {
				t.Errorf("%v: %q", m, b)
			}
		}
	})
}
