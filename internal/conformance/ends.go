package conformance

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// ends tests how requests end before their responses have.
func ends(t *testing.T, p Protocol) {
	c := p.Serve(t, "responses")
	t.Run("a context that ends in the body [102 225 292]", func(t *testing.T) { contextEndsInBody(t, c) })
	t.Run("a context that has ended [102 292]", func(t *testing.T) { contextHasEnded(t, c) })
	t.Run("a body that is closed early", func(t *testing.T) { bodyClosedEarly(t, c) })
	t.Run("a response without a body is finished after Close [118 225]", func(t *testing.T) { finishesAfterClose(t, c) })
	t.Run("Close of the client ends such a response", func(t *testing.T) { endsWithClient(t, c) })
	t.Run("a Close while a Read waits", func(t *testing.T) { closeDuringRead(t, c) })
}

// connections returns how many connections or processes the requests of c have used.
func connections(c gateway.RoundTripper) uint64 {
	s, ok := c.(interface{ Stats() gateway.Stats })
	if !ok {
		return 0
	}
	stats := s.Stats()
	return stats.Dialed + stats.Reused
}

// noneInFlight waits until c has no request in flight.
func noneInFlight(t *testing.T, c gateway.RoundTripper) {
	t.Helper()
	s, ok := c.(interface{ Stats() gateway.Stats })
	for i := 0; ok && s.Stats().InFlight > 0; i++ {
		if time.Sleep(time.Millisecond); i == 1000 {
			t.Fatalf("%+v", s.Stats())
		}
	}
}

func contextEndsInBody(t *testing.T, c gateway.RoundTripper) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var res gateway.Response
	if err := c.RoundTrip(ctx, get("/wait"), &res); err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	io.ReadFull(res.Body, make([]byte, 5))
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err := io.ReadAll(res.Body)
	if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Phase != gateway.PhaseBody || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	noneInFlight(t, c)
}

func contextHasEnded(t *testing.T, c gateway.RoundTripper) {
	Ask(t, c, get("/404")) // where connections are kept, there is one now
	before := connections(c)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		var res gateway.Response
		err := c.RoundTrip(ctx, request("POST", "/404", "body"), &res)
		if e, ok := errors.AsType[*gateway.Error](err); !ok || !errors.Is(err, context.Canceled) || e.Sent || res.Status != 0 {
			t.Fatalf("%d, %v", res.Status, err)
		}
	}
	if used := connections(c) - before; used != 0 {
		t.Errorf("%d connections or processes were used", used)
	}
	noneInFlight(t, c)
}

func bodyClosedEarly(t *testing.T, c gateway.RoundTripper) {
	for _, path := range []string{"/wait", "/large-write", "/404"} {
		var res gateway.Response
		if err := c.RoundTrip(t.Context(), get(path), &res); err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		res.Body.Close()
		if n, err := res.Body.Read(make([]byte, 1)); n > 0 || err == nil || err == io.EOF {
			t.Errorf("%s: read %d, %v after Close", path, n, err)
		}
	}
	noneInFlight(t, c)
}

func closeDuringRead(t *testing.T, c gateway.RoundTripper) {
	var res gateway.Response
	if err := c.RoundTrip(t.Context(), get("/wait"), &res); err != nil {
		t.Fatal(err)
	}
	io.ReadFull(res.Body, make([]byte, 5))
	body := res.Body
	read := make(chan error, 1)
	go func() {
		_, err := body.Read(make([]byte, 1))
		read <- err
	}()
	time.Sleep(20 * time.Millisecond)
	body.Close()
	if err := <-read; err == nil || err == io.EOF {
		t.Errorf("the Read gave %v", err)
	}
	noneInFlight(t, c)
}

// closedHead sends a HEAD to the handler that runs on, closes the Body, and returns the name that
// it gave the handler.
func closedHead(t *testing.T, c gateway.RoundTripper) (name string) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "file")
	var res gateway.Response
	if err := c.RoundTrip(t.Context(), request("HEAD", "/finish?"+name, ""), &res); err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Error(err)
	}
	if n, err := res.Body.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("read %d, %v after Close", n, err)
	}
	return name
}

func finishesAfterClose(t *testing.T, c gateway.RoundTripper) {
	name := closedHead(t, c) // does not wait for the handler
	if err := os.WriteFile(name+".go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !appears(name+".done", nil) {
		t.Error("the handler was ended")
	}
	noneInFlight(t, c)
}

func endsWithClient(t *testing.T, c gateway.RoundTripper) {
	closer, ok := c.(io.Closer)
	if !ok {
		t.Skip("it has no Close")
	}
	closedHead(t, c)
	closer.Close()
	noneInFlight(t, c)
}
