package uwsgi_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

func FuzzConsumeParams(f *testing.F) { conformance.FuzzParams(f, codec) }

func FuzzConsumeRequest(f *testing.F) { conformance.FuzzConsumeRequest(f, codec) }

func FuzzReadRequest(f *testing.F) { conformance.FuzzReader(f, codec, "request") }

func FuzzReadResponse(f *testing.F) { conformance.FuzzReader(f, codec, "response") }

// FuzzConsumeHeader reads a header, and compares it with the one that is written for it.
func FuzzConsumeHeader(f *testing.F) {
	f.Add([]byte("\x05\x01\x02\x03rest"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n := uwsgi.ConsumeHeader(b)
		if (n == 0) != (len(b) < 4) || n > 0 && !bytes.Equal(uwsgi.AppendHeader(nil, h), b[:n]) {
			t.Fatalf("%q: %+v, %d", b, h, n)
		}
	})
}

// FuzzConsumeItem reads an item, and compares it with the one that is written for it.
func FuzzConsumeItem(f *testing.F) {
	f.Add([]byte("\x04\x00itemrest"))
	f.Fuzz(func(t *testing.T, b []byte) {
		item, n := uwsgi.ConsumeItem(b)
		if n == 0 {
			if len(b) >= 2 && len(b) >= 2+int(b[0])+int(b[1])<<8 {
				t.Fatalf("%q: no item", b)
			}
			return
		}
		if again, err := uwsgi.AppendItem(nil, item); err != nil || !bytes.Equal(again, b[:n]) {
			t.Fatalf("%q: %q, %d, %v", b, item, n, err)
		}
	})
}

// FuzzConsumeSubscription reads a packet, writes it anew, and reads that.
func FuzzConsumeSubscription(f *testing.F) {
	for _, name := range datagrams {
		f.Add(capture(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s uwsgi.Subscription
		n, err := uwsgi.ConsumeSubscription(b, &s)
		if n > len(b) || (n < 0) != (err != nil) {
			t.Fatal(n, err)
		}
		if n <= 0 {
			return
		}
		again, err := uwsgi.AppendSubscription(nil, &s)
		if err != nil {
			if !errors.Is(err, gateway.ErrTooLarge) {
				t.Fatal(err)
			}
			return
		}
		var other uwsgi.Subscription
		if m, err := uwsgi.ConsumeSubscription(again, &other); m != len(again) || err != nil || other.Key != s.Key || other.Weight != s.Weight || !bytes.Equal(other.Signature, s.Signature) {
			t.Errorf("%+v, then %+v, %v", s, other, err)
		}
	})
}

func FuzzServer(f *testing.F) {
	s := &uwsgi.Server{Handler: conformance.Handlers["echo"], Logger: quiet}
	conformance.FuzzServer(f, "uwsgi", s.ServeConn)
}

func FuzzClient(f *testing.F) {
	conformance.FuzzClient(f, codec, func(dial func(context.Context) (net.Conn, error)) gateway.RoundTripper {
		return &uwsgi.Client{Dial: dial}
	})
}
