package integration_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
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
		integration.Start(t, dir, router, program, "--plugins", "fastrouter", "--master", "--die-on-term", "--fastrouter", router, "--fastrouter-subscription-server", subscriptions, "--subscription-tolerance", "2")
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
		gone := func(o *conformance.Outcome) bool { return errors.Is(o.Err, gateway.ErrNoResponse) }
		routed(t, router, "www.example.com", gone)

		// A node that is silent is forgotten.
		packet, err := uwsgi.AppendSubscription(nil, &uwsgi.Subscription{Key: "silent.example.com", Address: node})
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("udp", subscriptions)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(packet); err != nil {
			t.Fatal(err)
		}
		routed(t, router, "silent.example.com", func(o *conformance.Outcome) bool { return o.Err == nil })
		routed(t, router, "silent.example.com", gone)
	})
}

// TestSignedSubscriptions sends packets for four hosts to a router that checks signatures: one is
// not signed, one is signed and then altered, one is over a day old, and one is right. It comes
// last, so that the router has seen the others when it is known to have seen that.
func TestSignedSubscriptions(t *testing.T) {
	program := integration.Need(t, "uwsgi-core", "uwsgi-core")
	t.Run("only the right one is accepted [417]", func(t *testing.T) {
		dir := integration.Dir(t)
		router, subscriptions := loopback(integration.Port(t)), loopback(integration.Port(t))
		node := gatewaytest.Start(t, &uwsgi.Server{Logger: quiet, Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			_, err := io.WriteString(w, "node")
			return err
		})})
		hosts := []string{"unsigned.example", "altered.example", "old.example", "right.example"}
		var packets [][]byte
		for _, host := range hosts {
			key := privateKey(t, keys(t, dir, host))
			s := uwsgi.Subscription{Key: host, Address: node, Unix: time.Now().Unix()}
			if host == "old.example" {
				s.Unix -= 25 * 60 * 60 // the router tolerates a day
			}
			if host != "unsigned.example" {
				s.Signature = sign(t, key, &s)
			}
			if host == "altered.example" {
				s.Weight = 9
			}
			packet, err := uwsgi.AppendSubscription(nil, &s)
			if err != nil {
				t.Fatal(err)
			}
			packets = append(packets, packet)
		}
		startRouter(t, dir, program, router, subscriptions)
		c, err := net.Dial("udp", subscriptions)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, packet := range packets {
			if _, err := c.Write(packet); err != nil {
				t.Fatal(err)
			}
		}
		routed(t, router, "right.example", func(o *conformance.Outcome) bool { return o.Err == nil && o.Body == "node" })
		for _, host := range hosts[:3] {
			r := gatewaytest.NewRequest("GET", "/", nil)
			r.Params.Set("HTTP_HOST", host)
			if o := conformance.Ask(t, &uwsgi.Client{Addr: router}, r); !errors.Is(o.Err, gateway.ErrNoResponse) {
				t.Errorf("%s: %q, %v", host, o.Body, o.Err)
			}
		}
	})
}

// privateKey reads a key that keys has written.
func privateKey(t *testing.T, path string) *rsa.PrivateKey {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign returns the signature of s. What is signed is what a packet with a signature covers.
func sign(t *testing.T, key *rsa.PrivateKey, s *uwsgi.Subscription) []byte {
	t.Helper()
	draft := *s
	draft.Signature = []byte("x")
	packet, err := uwsgi.AppendSubscription(nil, &draft)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := uwsgi.ConsumeSubscription(packet, &draft); err != nil {
		t.Fatal(err)
	}
	sum := sha1.Sum(draft.Signed)
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA1, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signature
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

// keys writes a private key, and the public one where a router looks for it, and returns the path
// of the former.
func keys(t *testing.T, dir, host string) (private string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir+"/keys", 0o755); err != nil {
		t.Fatal(err)
	}
	integration.Write(t, dir, "keys/"+host+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})))
	return integration.Write(t, dir, host+"-key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
}

// startRouter starts uWSGI's fastrouter, which accepts signed packets alone.
func startRouter(t *testing.T, dir, program, router, subscriptions string) {
	t.Helper()
	integration.Start(t, dir, router, program, "--plugins", "fastrouter", "--master", "--die-on-term", "--fastrouter", router, "--fastrouter-subscription-server", subscriptions,
		"--subscriptions-sign-check", "SHA1:"+dir+"/keys")
}
