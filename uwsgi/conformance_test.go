package uwsgi_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// TestConformance is the suite that the siblings share.
func TestConformance(t *testing.T) {
	conformance.Run(t, conformance.Protocol{
		Name: "uwsgi", Refuses: true,
		Serve: func(t testing.TB, handler string) gateway.RoundTripper {
			return &uwsgi.Client{Addr: gatewaytest.Start(t, &uwsgi.Server{Handler: conformance.Handlers[handler], Logger: quiet})}
		},
		Respond: func(t testing.TB, response string) gateway.RoundTripper {
			return &uwsgi.Client{Addr: responding(t, response)}
		},
		Ask: func(t testing.TB, handler, body string, nv ...string) string {
			return strings.Replace(play(t, &uwsgi.Server{Handler: conformance.Handlers[handler]}, head(nv...)+body), "HTTP/1.1 ", "Status: ", 1)
		},
		Sent: func(t testing.TB, r *gateway.Request) (*gateway.Params, error) {
			b, err := uwsgi.AppendRequest(nil, r)
			if err != nil {
				return nil, err
			}
			p := new(gateway.Params)
			if _, _, err = uwsgi.ConsumeRequest(b, p); err != nil {
				t.Fatal(err)
			}
			return p, nil
		},
	})
}

func TestVectors(t *testing.T) { conformance.Vectors(t, codec) }

func TestCallbacks(t *testing.T) {
	conformance.TestCallbacks(t, "uwsgi", func(t testing.TB, b conformance.Callbacks) gateway.RoundTripper {
		addr := gatewaytest.Start(t, &uwsgi.Server{Handler: conformance.Handlers["callbacks"], SendInterim: true, Logger: quiet})
		return &uwsgi.Client{Addr: addr, MaxConns: 1, Observe: b.Observe, Dial: func(context.Context) (net.Conn, error) {
			if b.Connect != nil {
				b.Connect()
			}
			return net.Dial("tcp", addr)
		}}
	})
}

func TestStops(t *testing.T) {
	conformance.TestStops(t, conformance.StopKit{
		NewServer: func(h gateway.Handler, maxConns int) conformance.Server {
			return &uwsgi.Server{Handler: h, MaxConns: maxConns, Logger: quiet}
		},
		NewClient: func(addr string) gateway.RoundTripper { return &uwsgi.Client{Addr: addr} },
		Request:   head("REQUEST_METHOD", "GET"),
		Upload: func(size int, params ...string) string {
			return head(append([]string{"REQUEST_METHOD", "POST", "CONTENT_LENGTH", strconv.Itoa(size)}, params...)...) + strings.Repeat("x", size)
		},
	})
}

func TestResponseTimeouts(t *testing.T) {
	conformance.ResponseTimeouts(t, func(dial func(context.Context) (net.Conn, error), timeout time.Duration) gateway.RoundTripper {
		return &uwsgi.Client{Dial: dial, HeadTimeout: timeout, BodyTimeout: timeout}
	}, func(w io.Writer) { io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nea") })
}

func TestServerObserve(t *testing.T) {
	conformance.TestObserve(t, conformance.ObserveKit{
		NewServer: func(h gateway.Handler, maxRequests int, observe conformance.Observe) conformance.ObservedServer {
			return &uwsgi.Server{Handler: h, MaxRequests: maxRequests, Observe: observe, Logger: quiet}
		},
		NewClient: func(addr string) gateway.RoundTripper { return &uwsgi.Client{Addr: addr} },
		Head:      head,
		Malformed: "G\x00\x00\x00",
	})
}

func TestLogs(t *testing.T) {
	conformance.TestLogs(t, conformance.ObserveKit{Head: head, Stderr: `level=WARN msg=application stderr="no end" method=GET path=/stderr`}, func(h gateway.Handler, l *slog.Logger) conformance.Server {
		return &uwsgi.Server{Handler: h, Logger: l}
	})
}

func TestBodyAfterClose(t *testing.T) {
	conformance.BodyAfterClose(t, func(dial func(context.Context) (net.Conn, error)) gateway.RoundTripper {
		return &uwsgi.Client{Dial: dial}
	}, "HTTP/1.1 204 No Content\r\n\r\n")
}

func TestLateWrite(t *testing.T) {
	conformance.LateWrite(t, func(h gateway.Handler) conformance.Server { return &uwsgi.Server{Handler: h, Logger: quiet} }, head("REQUEST_METHOD", "GET"))
}
