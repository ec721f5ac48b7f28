package scgi_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/scgi"
)

var upgrade = []string{"REQUEST_METHOD", "GET", "HTTP_UPGRADE", "websocket", "HTTP_CONNECTION", "Upgrade"}

// A connection that a handler took over is the handler's: Shutdown neither waits for it nor closes
// it.
func TestShutdownLeavesTaken(t *testing.T) {
	ready, after, wrote := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		stream, err := w.Hijack()
		if err != nil {
			return err
		}
		defer stream.Close()
		close(ready)
		<-after
		_, err = io.WriteString(stream, "bye")
		wrote <- err
		return nil
	})
	c := dial(t, gatewaytest.Start(t, s))
	io.WriteString(c, head(upgrade...))
	<-ready
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	close(after)
	if err := <-wrote; err != nil {
		t.Errorf("writing after it: %v", err)
	}
}

// A Hijack that fails leaves a request whose peer is looked after.
func TestFailedHijackStillWatches(t *testing.T) {
	ready, told := make(chan struct{}), make(chan struct{})
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		done := r.Context().Done()
		w.Header().Set("Upgrade", "h2c")
		if _, err := w.Hijack(); !errors.Is(err, gateway.ErrMalformed) {
			t.Errorf("Hijack: %v", err)
		}
		close(ready)
		<-done
		close(told)
		return nil
	})
	c := dial(t, gatewaytest.Start(t, s))
	io.WriteString(c, head(upgrade...))
	<-ready
	c.SetLinger(0)
	c.Close()
	select {
	case <-told:
	case <-time.After(limit):
		t.Error("149: the handler is not told that the peer disconnected")
		s.Close()
	}
}

// A 101 may come before the goroutine that wrote the body knows that it is done.
func TestUpgradeWithBody(t *testing.T) {
	addr := script(t, func(c net.Conn) {
		var r gateway.Request
		scgi.NewReader(c).ReadRequest(&r)
		io.Copy(io.Discard, r.Body)
		io.WriteString(c, "Status: 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhi")
	})
	for range 100 {
		r := gatewaytest.NewRequest("GET", "/", nil)
		r.Upgrade = "websocket"
		r.Body, r.ContentLength = io.MultiReader(strings.NewReader("x")), 1
		var res gateway.Response
		if err := (&scgi.Client{Addr: addr}).RoundTrip(t.Context(), r, &res); err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	// A connection that stalls fails the test instead of blocking it.
	addr = script(t, func(c net.Conn) {
		scgi.NewReader(c).ReadRequest(new(gateway.Request))
		io.WriteString(c, "Status: 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		io.Copy(io.Discard, c)
	})
	r := gatewaytest.NewRequest("GET", "/", nil)
	r.Upgrade = "websocket"
	pr, pw := io.Pipe()
	defer pw.Close()
	r.Body, r.ContentLength = pr, 100000
	if err := (&scgi.Client{Addr: addr}).RoundTrip(t.Context(), r, new(gateway.Response)); err == nil {
		t.Error("a stream whose body is still to be sent")
	}
}

func TestHijackEdges(t *testing.T) {
	hijack := func(t *testing.T, before func(w gateway.ResponseWriter, r *gateway.Request), input string) error {
		hijacked := make(chan error, 1)
		s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			before(w, r)
			stream, err := w.Hijack()
			if err == nil {
				stream.Close()
			}
			hijacked <- err
			return nil
		})
		conformance.PlayReset(t, dial(t, gatewaytest.Start(t, s)), input)
		return <-hijacked
	}
	nothing := func(gateway.ResponseWriter, *gateway.Request) {}
	if err := hijack(t, nothing, head(upgrade...)); err != nil {
		t.Errorf("187: %v", err)
	}
	if err := hijack(t, nothing, head(append(upgrade, "CONTENT_LENGTH", "4")...)+"body"); err == nil {
		t.Error("a connection with a body on it")
	}
	if err := hijack(t, func(w gateway.ResponseWriter, r *gateway.Request) { io.Copy(io.Discard, r.Body) }, head(append(upgrade, "CONTENT_LENGTH", "4")...)+"body"); err != nil {
		t.Errorf("with a body that was read: %v", err)
	}
	if err := hijack(t, func(w gateway.ResponseWriter, r *gateway.Request) { w.WriteHeader(200) }, head(upgrade...)); err == nil {
		t.Error("after the head")
	}
	if err := hijack(t, func(w gateway.ResponseWriter, r *gateway.Request) { w.Header().Set("Upgrade", "h2c") }, head(upgrade...)); !errors.Is(err, gateway.ErrMalformed) {
		t.Errorf("F31: %v", err)
	}
	if err := hijack(t, func(w gateway.ResponseWriter, r *gateway.Request) { w.Header().Set("X", "a\r\nb") }, head(upgrade...)); err == nil {
		t.Error("264: a head that may not be sent")
	}
	if err := hijack(t, func(w gateway.ResponseWriter, r *gateway.Request) {
		go r.Body.Read(make([]byte, 1))
		time.Sleep(20 * time.Millisecond)
	}, head(append(upgrade, "CONTENT_LENGTH", "4")...)); err == nil {
		t.Error("while the body is read")
	}
}
