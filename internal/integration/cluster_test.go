package integration_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/internal/integration"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// routed asks a router for a host until done is true of the outcome.
func routed(t *testing.T, router, host string, done func(o *conformance.Outcome) bool) {
	t.Helper()
	for end := time.Now().Add(conformance.Limit); ; time.Sleep(20 * time.Millisecond) {
		r := gatewaytest.NewRequest("GET", "/path", nil)
		r.Params.Set("HTTP_HOST", host)
		o := conformance.Ask(t, &uwsgi.Client{Addr: router}, r)
		if done(o) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%q, %v", o.Body, o.Err)
		}
	}
}

// TestFastrouter joins uWSGI's router and leaves it.
func TestFastrouter(t *testing.T) {
	program := integration.Need(t, "uwsgi-core", "uwsgi-core")
	t.Run("join and leave [417]", func(t *testing.T) {
		dir := integration.Dir(t)
		router, subscriptions := loopback(integration.Port(t)), loopback(integration.Port(t))
		integration.Start(t, dir, router, program, "--plugins", "fastrouter", "--master", "--die-on-term", "--fastrouter", router, "--fastrouter-subscription-server", subscriptions)
		node := gatewaytest.Start(t, &uwsgi.Server{Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			_, err := io.WriteString(w, "node "+r.Path())
			return err
		})})
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan error, 1)
		s := &uwsgi.Subscriber{Subscription: uwsgi.Subscription{Key: "www.example.com", Address: node}, Routers: []string{subscriptions}, Interval: time.Second, Logger: quiet}
		go func() { over <- s.Run(ctx) }()
		routed(t, router, "www.example.com", func(o *conformance.Outcome) bool { return o.Err == nil && o.Body == "node /path" })
		routed(t, router, "www.example.org", func(o *conformance.Outcome) bool { return errors.Is(o.Err, gateway.ErrNoResponse) })
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
		routed(t, router, "www.example.com", func(o *conformance.Outcome) bool { return errors.Is(o.Err, gateway.ErrNoResponse) })
	})
}

// TestSubscribeTo has uWSGI subscribe to us.
func TestSubscribeTo(t *testing.T) {
	t.Run("a subscription, and its end [418]", func(t *testing.T) {
		dir := integration.Dir(t)
		l, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		l.SetDeadline(time.Now().Add(conformance.Limit))
		integration.Write(t, dir, "plain.py", wsgiApp)
		startUWSGI(t, dir, "plain", "--subscribe-to", l.LocalAddr().String()+":www.example.com")
		b := make([]byte, 4096)
		n, _, err := l.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		var s uwsgi.Subscription
		if size, err := uwsgi.ConsumeSubscription(b[:n], &s); size != n || err != nil || s.Key != "www.example.com" || s.Address != dir+"/u.sock" || s.Unsubscribe {
			t.Fatalf("%d of %d, %+v, %v: %q", size, n, s, err, b[:n])
		}
		balancer := &gateway.Balancer{Targets: []gateway.Target{{Name: s.Address, Backend: &uwsgi.Client{Addr: "unix:" + s.Address}}}}
		if o := conformance.Ask(t, balancer, gatewaytest.NewRequest("GET", "/path/x", nil)); o.Err != nil || o.Body != "/path/x /path/x " {
			t.Errorf("%s: %q, %v", s.Address, o.Body, o.Err)
		}
	})
}

// TestRPC calls a function of uWSGI.
func TestRPC(t *testing.T) {
	t.Run("values, and a function that is missing [420]", func(t *testing.T) {
		dir := integration.Dir(t)
		integration.Write(t, dir, "plain.py", wsgiApp+`
import uwsgi
uwsgi.register_rpc('hello', lambda *args: b'hi ' + b','.join(args))
uwsgi.register_rpc('big', lambda: b'x' * 70000)
`)
		startUWSGI(t, dir, "plain", "--plugins", "rpc")
		c := &uwsgi.Client{Addr: "unix:" + dir + "/u.sock", MaxHeadBytes: 1 << 20}
		call := func(items ...string) ([]byte, error) {
			var b []byte
			for _, item := range items {
				b, _ = uwsgi.AppendItem(b, item)
			}
			return c.Packet(t.Context(), uwsgi.PacketHeader{Modifier1: uwsgi.ModifierRPC}, b)
		}
		if b, err := call("hello", "a", "bb"); string(b) != "\xad\x07\x00\x00hi a,bb" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		if b, err := call("big"); len(b) < 70000 || err != nil || b[3] != 5 {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		if b, err := call("missing"); !errors.Is(err, gateway.ErrNoResponse) {
			t.Errorf("%q, %v", b, err)
		}
	})
}
