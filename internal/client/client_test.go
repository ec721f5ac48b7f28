package client

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
)

var errTest = errors.New("test")

// over returns a Client whose connection is one end of a pipe; serve gets the other.
func over(t *testing.T, serve func(c net.Conn)) *Client {
	dial := func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { theirs.Close() })
		go serve(theirs)
		return ours, nil
	}
	head := func(dst []byte, r *gateway.Request, _ *pairs.List) ([]byte, error) {
		return append(dst, "head\n"...), nil
	}
	return NewOverSockets(Settings{MaxConns: 1, MaxHeadBytes: 1000, SendTimeout: time.Minute}, Sockets{Dial: dial, AppendHead: head})
}

func TestNewError(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errTest)
	fault := BodyFault(os.ErrDeadlineExceeded)
	for err, want := range map[error][]error{io.EOF: {errTest}, fault: {errTest, gateway.ErrRequestBody, os.ErrDeadlineExceeded}} {
		e := NewError(ctx, gateway.PhaseSend, "", err)
		for _, target := range want {
			if !errors.Is(e, target) {
				t.Errorf("%v: %v is not %v", err, e, target)
			}
		}
		if !errors.Is(e, context.Canceled) {
			t.Errorf("%v: %v has lost the context's error", err, e)
		}
		if errors.Is(e, io.EOF) {
			t.Errorf("%v: %v", err, e)
		}
	}
	// net/http cancels the context of a request whose body is late.
	if got := gateway.ErrorStatus(NewError(ctx, gateway.PhaseSend, "", fault)); got != 408 {
		t.Errorf("status %d", got)
	}
}

func TestRoundTrip(t *testing.T) {
	c := over(t, func(c net.Conn) {
		io.ReadFull(c, make([]byte, len("head\nbody")))
		io.WriteString(c, "Status: 201 Created\r\nContent-Length: 2\r\n\r\nok")
		c.Close()
	})
	for range 3 { // each request gives its place among MaxConns back
		var req gateway.Request
		req.SetBody([]byte("body"))
		var res gateway.Response
		if err := c.RoundTrip(t.Context(), &req, &res); err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if res.Status != 201 || string(body) != "ok" || err != nil {
			t.Errorf("%d %q %v", res.Status, body, err)
		}
		res.Body.Close()
	}
	if s := c.Stats(); s.Requests != 3 || s.Dialed != 3 || s.InFlight != 0 || s.Failed != 0 {
		t.Errorf("%+v", s)
	}
}

func TestRoundTripPhases(t *testing.T) {
	fails := func(conn Open, fault error) *Client {
		return New(Settings{MaxConns: 1}, func(dst []byte, r *gateway.Request) ([]byte, Open, error) {
			if r.Method() == "BAD" {
				return dst, nil, gateway.ErrParam
			}
			return dst, conn, nil
		}, fault)
	}
	refuse := func(context.Context, *Socket) (Conn, error) { return nil, errTest }
	canceled, cancel := context.WithCancelCause(t.Context())
	cancel(errTest)
	for _, c := range []struct {
		name   string
		client *Client
		ctx    context.Context
		method string
		phase  gateway.Phase
		cause  error
	}{
		{"a fault of the configuration", fails(nil, errTest), t.Context(), "GET", gateway.PhaseRequest, errTest},
		{"a head that cannot be encoded", fails(refuse, nil), t.Context(), "BAD", gateway.PhaseRequest, gateway.ErrParam},
		{"a context that is done", fails(refuse, nil), canceled, "GET", gateway.PhaseWait, errTest},
		{"a connection that fails", fails(refuse, nil), t.Context(), "GET", gateway.PhaseDial, errTest},
		{"a close without a response [088]", over(t, func(c net.Conn) {
			io.ReadFull(c, make([]byte, len("head\n")))
			c.Close()
		}), t.Context(), "GET", gateway.PhaseHead, gateway.ErrNoResponse},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 2 { // a failed request gives its place back
				var req gateway.Request
				req.Params.Set("REQUEST_METHOD", c.method)
				var res gateway.Response
				err := c.client.RoundTrip(c.ctx, &req, &res)
				var e *gateway.Error
				if !errors.As(err, &e) || e.Phase != c.phase || !errors.Is(err, c.cause) || res.Body != nil {
					t.Fatalf("%v, want %v in phase %v", err, c.cause, c.phase)
				}
			}
			if s := c.client.Stats(); s.InFlight != 0 || s.Failed != 2 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestBodyIsSentDuringTheResponse checks that an application may respond before it reads the body.
func TestBodyIsSentDuringTheResponse(t *testing.T) {
	const size = 100 << 10
	c := over(t, func(c net.Conn) {
		io.ReadFull(c, make([]byte, len("head\n")))
		io.WriteString(c, "Status: 200 OK\r\n\r\n") // a pipe: it is received before the body is read
		io.ReadFull(c, make([]byte, size))
		c.Close()
	})
	req := gateway.Request{Body: io.LimitReader(strings.NewReader(strings.Repeat("x", size)), size), ContentLength: size}
	var res gateway.Response
	if err := c.RoundTrip(t.Context(), &req, &res); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Error(err)
	}
	res.Body.Close()
}

// TestHeadsAreEmpty checks that the head of a request that was not sent does not reach another.
func TestHeadsAreEmpty(t *testing.T) {
	var heads Heads
	for range 100 {
		head := heads.Get()
		if len(*head) > 0 {
			t.Fatalf("%q is the head of another request", *head)
		}
		*head = append(*head, "secret"...)
		heads.Put(head)
	}
}
