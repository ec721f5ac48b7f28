package uwsgi_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

func capture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var datagrams = []string{"uwsgi-subscribe.dgram.bin", "uwsgi-subscribe2.dgram.bin", "uwsgi-unsubscribe2.dgram.bin", "uwsgi-subscribe-signed-sha1.dgram.bin"}

func TestAppendSubscription(t *testing.T) {
	t.Run("what uWSGI sends [412]", func(t *testing.T) {
		for name, s := range map[string]*uwsgi.Subscription{
			"uwsgi-subscribe.dgram.bin":    {Key: "www.example.com", Address: "127.0.0.1:3041", Cores: 1},
			"uwsgi-subscribe2.dgram.bin":   {Key: "www.example.com", Address: "127.0.0.1:3049", Cores: 1, Weight: 3},
			"uwsgi-unsubscribe2.dgram.bin": {Key: "www.example.com", Address: "127.0.0.1:3049", Cores: 1, Weight: 3, Unsubscribe: true},
		} {
			if b, err := uwsgi.AppendSubscription([]byte("x"), s); err != nil || string(b) != "x"+string(capture(t, name)) {
				t.Errorf("%s: %q, %v", name, b, err)
			}
		}
	})
	t.Run("what may not be sent [414]", func(t *testing.T) {
		long := strings.Repeat("x", 256)
		for name, c := range map[string]struct {
			s    uwsgi.Subscription
			want error
		}{
			"no key":              {uwsgi.Subscription{Address: "a"}, gateway.ErrParam},
			"no address":          {uwsgi.Subscription{Key: "k"}, gateway.ErrParam},
			"a long key":          {uwsgi.Subscription{Key: long, Address: "a"}, gateway.ErrParam},
			"a long address":      {uwsgi.Subscription{Key: "k", Address: long}, gateway.ErrParam},
			"a line in the key":   {uwsgi.Subscription{Key: "k\n", Address: "a"}, gateway.ErrParam},
			"NUL in the address":  {uwsgi.Subscription{Key: "k", Address: "a\x00"}, gateway.ErrParam},
			"a packet over 4 KiB": {uwsgi.Subscription{Key: "k", Address: "a", Signature: make([]byte, 4000)}, gateway.ErrTooLarge},
		} {
			if b, err := uwsgi.AppendSubscription([]byte("x"), &c.s); !errors.Is(err, c.want) || string(b) != "x" {
				t.Errorf("%s: %q, %v", name, b, err)
			}
		}
	})
}

func TestConsumeSubscription(t *testing.T) {
	t.Run("captures, and their prefixes [413]", func(t *testing.T) {
		for _, name := range datagrams {
			b := capture(t, name)
			var s uwsgi.Subscription
			if n, err := uwsgi.ConsumeSubscription(append(b, "more"...), &s); n != len(b) || err != nil || s.Key != "www.example.com" || !strings.HasPrefix(s.Address, "127.0.0.1:30") || s.Unsubscribe != strings.Contains(name, "unsub") {
				t.Errorf("%s: %d of %d, %+v, %v", name, n, len(b), s, err)
			}
			for i := range b {
				if n, err := uwsgi.ConsumeSubscription(b[:i], &s); n != 0 || err != nil {
					t.Errorf("%s, %d bytes: %d, %v", name, i, n, err)
				}
			}
		}
	})
	packet := func(modifier1, modifier2 byte, nv ...string) []byte {
		return []byte(packet(modifier1, modifier2, vars(nv...)))
	}
	t.Run("other pairs are skipped [413]", func(t *testing.T) {
		var s uwsgi.Subscription
		b := packet(224, 0, "backup", "1", "key", "k", "proto", "x", "address", "a", "sni_key", "y", "weight", "7")
		if n, err := uwsgi.ConsumeSubscription(b, &s); n != len(b) || err != nil || s.Key != "k" || s.Address != "a" || s.Weight != 7 {
			t.Errorf("%d, %+v, %v", n, s, err)
		}
	})
	for name, b := range map[string][]byte{
		"another modifier [413]":   packet(0, 0, "key", "k", "address", "a"),
		"another modifier2 [413]":  packet(224, 2, "key", "k", "address", "a"),
		"an invalid number [413]":  packet(224, 0, "key", "k", "address", "a", "weight", "x"),
		"a number too large [413]": packet(224, 0, "key", "k", "address", "a", "modifier1", "256"),
		"a pair behind sign [413]": packet(224, 0, "key", "k", "address", "a", "sign", "s", "weight", "1"),
		"no address [414]":         packet(224, 0, "key", "k"),
		"a control byte [414]":     packet(224, 0, "key", "k\n", "address", "a"),
		"a truncated pair [413]":   {224, 3, 0, 0, 5, 0, 'k'},
		"an empty name [413]":      {224, 4, 0, 0, 0, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := uwsgi.Subscription{Key: "old"}
			if n, err := uwsgi.ConsumeSubscription(b, &s); n != -1 || !errors.Is(err, gateway.ErrMalformed) || s.Key != "" {
				t.Errorf("%d, %+v, %v", n, s, err)
			}
		})
	}
	t.Run("the signature [415]", func(t *testing.T) {
		block, _ := pem.Decode(capture(t, "uwsgi-subscribe-signed.pub.pem"))
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		verify := func(b []byte) error {
			var s uwsgi.Subscription
			if n, err := uwsgi.ConsumeSubscription(b, &s); n <= 0 || err != nil {
				t.Fatal(n, err)
			}
			sum := sha1.Sum(s.Signed)
			return rsa.VerifyPKCS1v15(key.(*rsa.PublicKey), crypto.SHA1, sum[:], s.Signature)
		}
		b := capture(t, "uwsgi-subscribe-signed-sha1.dgram.bin")
		if err := verify(b); err != nil {
			t.Error(err)
		}
		b[bytes.Index(b, []byte("3051"))] ^= 1 // 2051
		if verify(b) == nil {
			t.Error("one bit is changed, and the signature is right")
		}
	})
}

func TestSubscriber(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	path := filepath.Join(t.TempDir(), "router")
	unix, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Skip(err)
	}
	defer unix.Close()
	next := func(t *testing.T, l net.PacketConn) (s uwsgi.Subscription) {
		t.Helper()
		l.SetDeadline(time.Now().Add(conformance.Limit))
		b := make([]byte, 5000)
		n, _, err := l.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		if size, err := uwsgi.ConsumeSubscription(b[:n], &s); size != n || err != nil {
			t.Fatal(size, err)
		}
		sum := sha1.Sum(s.Signed)
		if err := rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA1, sum[:], s.Signature); err != nil {
			t.Error(err)
		}
		return s
	}
	t.Run("two routers, again and again, and the end [416]", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &uwsgi.Subscriber{
			Subscription: uwsgi.Subscription{Key: "k", Address: "127.0.0.1:3031", Modifier2: 3}, Interval: 20 * time.Millisecond, Logger: quiet,
			Routers: []string{"unix:" + path + "-away", udp.LocalAddr().String(), "unix:" + path},
			Sign: func(signed []byte) ([]byte, error) {
				sum := sha1.Sum(signed)
				return rsa.SignPKCS1v15(nil, key, crypto.SHA1, sum[:])
			},
		}
		over := make(chan error, 1)
		go func() { over <- s.Run(ctx) }()
		for range 3 {
			for _, l := range []net.PacketConn{udp, unix} {
				if got := next(t, l); got.Key != "k" || got.Unsubscribe || got.Unix < time.Now().Unix() || got.Unix > time.Now().Unix()+3 {
					t.Errorf("%+v", got)
				}
			}
		}
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
		for _, l := range []net.PacketConn{udp, unix} {
			for !next(t, l).Unsubscribe {
			}
		}
	})
	t.Run("a router that hangs delays the others for a second at the most", func(t *testing.T) {
		hangs := filepath.Join(t.TempDir(), "s")
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: hangs, Net: "unixgram"})
		if err != nil {
			t.Skip(err)
		}
		defer l.Close() // nothing reads from it
		well, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer well.Close()
		s := &uwsgi.Subscriber{Subscription: uwsgi.Subscription{Key: "k", Address: "a"}, Routers: []string{"unix:" + hangs, well.LocalAddr().String()}, Interval: time.Millisecond, Logger: quiet}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		for range 14 { // more than the queue of the first router takes
			if _, _, err := well.ReadFrom(make([]byte, 4096)); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Run("what cannot begin", func(t *testing.T) {
		node := uwsgi.Subscription{Key: "k", Address: "a"}
		for name, s := range map[string]*uwsgi.Subscriber{
			"no router":            {Subscription: node},
			"an address of none":   {Subscription: node, Routers: []string{"router"}},
			"no key":               {Routers: []string{"127.0.0.1:1"}},
			"an error of Sign":     {Subscription: node, Routers: []string{"127.0.0.1:1"}, Sign: func([]byte) ([]byte, error) { return nil, errors.New("no key") }},
			"an empty signature":   {Subscription: node, Routers: []string{"127.0.0.1:1"}, Sign: func([]byte) ([]byte, error) { return nil, nil }},
			"a signature too long": {Subscription: node, Routers: []string{"127.0.0.1:1"}, Sign: func([]byte) ([]byte, error) { return make([]byte, 5000), nil }},
		} {
			if err := s.Run(t.Context()); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	})
}
