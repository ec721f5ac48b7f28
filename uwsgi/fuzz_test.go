package uwsgi_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/internal/vectors"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

func TestVectors(t *testing.T) { conformance.Vectors(t, codec) }

func FuzzConsumeParams(f *testing.F)  { conformance.FuzzParams(f, codec) }
func FuzzConsumeRequest(f *testing.F) { conformance.FuzzConsumeRequest(f, codec) }
func FuzzReadRequest(f *testing.F)    { conformance.FuzzReader(f, codec, "request") }
func FuzzReadResponse(f *testing.F)   { conformance.FuzzReader(f, codec, "response") }

// FuzzServer plays bytes to a server: it answers or closes, and then nothing is left.
func FuzzServer(f *testing.F) {
	seedServer(f, "request")
	s := &uwsgi.Server{Handler: conformance.Handlers["echo"], Logger: quiet}
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, theirs := net.Pipe()
		over := make(chan struct{})
		go func() {
			defer close(over)
			s.ServeConn(t.Context(), theirs)
		}()
		ours.SetDeadline(time.Now().Add(limit))
		go func() {
			ours.Write(b)
			time.Sleep(time.Millisecond)
			ours.Close()
		}()
		io.Copy(io.Discard, ours)
		select {
		case <-over:
		case <-time.After(limit):
			t.Fatal("the server does not end the connection")
		}
	})
}

// FuzzClient answers a client with bytes: it returns, and an answer that is whole is one that a Reader takes.
func FuzzClient(f *testing.F) {
	seedServer(f, "response")
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &uwsgi.Client{Dial: dialPipe(b)}
		o := conformance.Ask(t, c, gatewaytest.NewRequest("GET", "/", nil))
		var res gateway.Response
		r := uwsgi.NewReader(&source{b: b})
		err := r.ReadResponse(&res)
		if o.Err == nil && (err != nil || res.Status != o.Res.Status) {
			t.Fatalf("the client took what the reader did not: %v", err)
		}
		if s := c.Stats(); s.InFlight != 0 {
			t.Fatalf("%+v", s)
		}
	})
}

// source gives its bytes and the end.
type source struct{ b []byte }

func (s *source) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.b)
	s.b = s.b[n:]
	return n, nil
}

func seedServer(f *testing.F, side string) {
	all, err := vectors.All("uwsgi")
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range all {
		if v.Side == side {
			f.Add(v.Bytes)
		}
	}
}
