// Package gatewaytest helps to test programs that use gatehouse, as net/http/httptest does for
// net/http.
package gatewaytest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/upgrade"
)

// Server is implemented by the servers of packages fastcgi, scgi and uwsgi.
type Server interface {
	Serve(l net.Listener) error
	Close() error
}

// Start serves s on a loopback address until the test ends, and returns the address,
// "127.0.0.1:port". It fails t if s cannot be started, or if Serve returns an error other than
// gateway.ErrServerClosed.
func Start(t testing.TB, s Server) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; !errors.Is(err, gateway.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

// NewRequest returns a request with that method, target and body; see Request.SetTarget and
// Request.SetBody. It panics on an invalid method or target, as httptest.NewRequest does.
func NewRequest(method, target string, body []byte) *gateway.Request {
	r := new(gateway.Request)
	if err := r.SetTarget(method, target); err != nil {
		panic("gatewaytest: " + err.Error())
	}
	r.SetBody(body)
	return r
}

// Recorder is a gateway.ResponseWriter that records the response. The zero value is ready to use.
// Unlike a server's ResponseWriter it does not check the response, and its Header shows changes
// that are made after WriteHeader. Several goroutines must not use it at once, except that a
// hijacked stream is used by its handler and by the test.
type Recorder struct {
	gateway.WriterBase

	// Status is that of the response. It is 0 if the handler wrote nothing.
	Status int

	// Body holds the body of the response.
	Body bytes.Buffer

	// Errors holds what the handler wrote to Stderr.
	Errors bytes.Buffer

	// AppStatus is that of the last SetAppStatus.
	AppStatus uint32

	// Interim holds the interim responses, in order.
	Interim []gateway.Response

	// Stream is the peer's end of the connection after Hijack, whose Status is 101. It is nil if
	// the handler has not called Hijack.
	Stream gateway.Stream
}

var _ gateway.ResponseWriter = (*Recorder)(nil)

// WriteHeader records the first status. A 1xx is ignored.
func (r *Recorder) WriteHeader(status int) {
	if r.Status == 0 && status >= 200 {
		r.Status = status
	}
}

// WriteInterim records an interim response.
func (r *Recorder) WriteInterim(status int, h *gateway.Header) error {
	if status < 100 || status > 199 || status == 101 || r.Status != 0 {
		return fmt.Errorf("gatewaytest: interim status %d: %w", status, gateway.ErrMalformed)
	}
	r.Interim = append(r.Interim, gateway.Response{Status: status, ContentLength: -1})
	if h != nil {
		r.Interim[len(r.Interim)-1].Header.CopyFrom(h)
	}
	return nil
}

// Hijack gives the handler one end of a connection in memory, and sets Stream to the other. It is
// an error after WriteHeader.
func (r *Recorder) Hijack() (gateway.Stream, error) {
	if r.Status != 0 {
		return nil, errors.New("gatewaytest: Hijack after the head was settled")
	}
	ours, theirs := net.Pipe()
	r.Status, r.Stream = 101, &upgrade.Stream{Conn: ours}
	return &upgrade.Stream{Conn: theirs}, nil
}

func (r *Recorder) Write(p []byte) (int, error) {
	r.WriteHeader(200)
	return r.Body.Write(p)
}

func (r *Recorder) Flush() error {
	r.WriteHeader(200)
	return nil
}

func (r *Recorder) Stderr() io.Writer                  { return &r.Errors }
func (r *Recorder) SetAppStatus(status uint32)         { r.AppStatus = status }
func (r *Recorder) SetReadDeadline(t time.Time) error  { return nil }
func (r *Recorder) SetWriteDeadline(t time.Time) error { return nil }
