package scgi_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/scgi"
)

// The tests here hold single lines that SCGI shares with uwsgi: each was written because the line could be taken out and
// nothing failed.

func TestReaderEdges(t *testing.T) {
	t.Run("an error while a body is dropped", func(t *testing.T) {
		r := scgi.NewReader(io.MultiReader(strings.NewReader(head("CONTENT_LENGTH", "9")+"part"), iotest.ErrReader(errFailed)))
		var req gateway.Request
		if err := r.ReadRequest(&req); err != nil {
			t.Fatal(err)
		}
		for range 2 { // it stays
			if err := r.ReadRequest(&req); !errors.Is(err, errFailed) || req.Params.Len() > 0 {
				t.Errorf("%v, %d params", err, req.Params.Len())
			}
		}
		r.Reset(strings.NewReader(head()))
		if err := r.ReadRequest(&req); err != nil {
			t.Errorf("after Reset: %v", err)
		}
	})
	t.Run("the end while a body is dropped", func(t *testing.T) {
		r := scgi.NewReader(strings.NewReader(head("CONTENT_LENGTH", "9") + "part"))
		var req gateway.Request
		if err := r.ReadRequest(&req); err != nil {
			t.Fatal(err)
		}
		if err := r.ReadRequest(&req); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%v", err)
		}
	})
	t.Run("an error inside a head", func(t *testing.T) {
		r := scgi.NewReader(io.MultiReader(strings.NewReader("70:CONTENT"), iotest.ErrReader(errFailed)))
		for range 2 {
			if err := r.ReadRequest(new(gateway.Request)); !errors.Is(err, errFailed) {
				t.Errorf("%v", err)
			}
		}
	})
	t.Run("an error while a response is dropped", func(t *testing.T) {
		r := scgi.NewReader(io.MultiReader(strings.NewReader("Content-Length: 9\n\npart"), iotest.ErrReader(errFailed)))
		var res gateway.Response
		if err := r.ReadResponse(&res); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := r.ReadResponse(&res); !errors.Is(err, errFailed) || res.Status != 0 {
				t.Errorf("%v, %d", err, res.Status)
			}
		}
	})
	t.Run("a response that is cut while it is dropped", func(t *testing.T) {
		for body, want := range map[string]error{"": io.EOF, "part": gateway.ErrTruncated} {
			r := scgi.NewReader(strings.NewReader("Content-Length: 9\n\n" + body))
			var res gateway.Response
			if err := r.ReadResponse(&res); err != nil {
				t.Fatal(err)
			}
			if err := r.ReadResponse(&res); !errors.Is(err, want) {
				t.Errorf("%q: %v", body, err)
			}
		}
	})
	t.Run("a response's head at its limit, there at once", func(t *testing.T) {
		const response = "X: 0123456789\n\nbody"
		for limit, want := range map[int]error{len(response) - 4: nil, len(response) - 5: gateway.ErrTooLarge} {
			r := scgi.NewReader(strings.NewReader(response))
			r.MaxHeadBytes = limit
			var res gateway.Response
			if err := r.ReadResponse(&res); !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("%d: %v", limit, err)
			}
		}
	})
	t.Run("the end of a response comes with its last bytes", func(t *testing.T) { // so that a proxy can send both at once
		r := scgi.NewReader(strings.NewReader("Content-Length: 4\n\nbody"))
		var res gateway.Response
		if err := r.ReadResponse(&res); err != nil {
			t.Fatal(err)
		}
		if n, err := res.Body.Read(make([]byte, 9)); n != 4 || err != io.EOF {
			t.Errorf("%d, %v", n, err)
		}
	})
	t.Run("a response that is cut, or has no body for all we know", func(t *testing.T) {
		for body, want := range map[string]error{"": nil, "p": gateway.ErrTruncated} {
			r := scgi.NewReader(strings.NewReader("Content-Length: 9\n\n" + body))
			var res gateway.Response
			if err := r.ReadResponse(&res); err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(iotest.OneByteReader(res.Body))
			if string(b) != body || !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("%q: %q, %v", body, b, err)
			}
		}
	})
	t.Run("where it is", func(t *testing.T) {
		const next = "the next"
		r := scgi.NewReader(strings.NewReader(head() + next))
		if err := r.ReadRequest(new(gateway.Request)); err != nil {
			t.Fatal(err)
		}
		if string(r.Buffered()) != next || r.Offset() != int64(len(head())) {
			t.Errorf("293: %q at %d", r.Buffered(), r.Offset())
		}
	})
}

func TestDeadlines(t *testing.T) {
	t.Run("of reading", func(t *testing.T) {
		for name, watched := range map[string]bool{"straight": false, "behind the watcher": true} {
			t.Run(name, func(t *testing.T) {
				s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
					if watched {
						r.Context().Done()
						time.Sleep(10 * time.Millisecond)
					}
					w.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
					if n, err := r.Body.Read(make([]byte, 9)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("%d, %v", n, err)
					}
					w.SetReadDeadline(time.Time{})
					time.AfterFunc(20*time.Millisecond, func() { w.SetReadDeadline(time.Unix(1, 0)) })
					if n, err := r.Body.Read(make([]byte, 9)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("set while it waits: %d, %v", n, err)
					}
					w.SetReadDeadline(time.Time{})
					io.WriteString(w, "ready")
					w.Flush()
					b, err := io.ReadAll(r.Body)
					if string(b) != "body" || err != nil {
						t.Errorf("%q, %v", b, err)
					}
					return nil
				})
				c := dial(t, gatewaytest.Start(t, s))
				io.WriteString(c, head("CONTENT_LENGTH", "4"))
				io.ReadFull(c, make([]byte, len("Status: 200 OK\r\n\r\nready")))
				io.WriteString(c, "body")
				io.Copy(io.Discard, c)
			})
		}
	})
	// full writes until the connection takes no more, and returns how that ended.
	full := func(w gateway.ResponseWriter) error {
		p := make([]byte, 1<<20)
		for range 1000 {
			if _, err := w.Write(p); err != nil {
				return err
			}
		}
		return nil
	}
	t.Run("of writing", func(t *testing.T) {
		ended := make(chan error, 1)
		s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			w.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			err := full(w)
			ended <- err
			return err
		})
		io.WriteString(dial(t, gatewaytest.Start(t, s)), head())
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
	t.Run("set while a write waits", func(t *testing.T) {
		ended := make(chan error, 1)
		s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			time.AfterFunc(50*time.Millisecond, func() { w.SetWriteDeadline(time.Unix(1, 0)) })
			err := full(w)
			ended <- err
			return err
		})
		io.WriteString(dial(t, gatewaytest.Start(t, s)), head())
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
	t.Run("WriteTimeout", func(t *testing.T) {
		ended := make(chan error, 1)
		s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			err := full(w)
			ended <- err
			return err
		})
		s.WriteTimeout = 50 * time.Millisecond
		io.WriteString(dial(t, gatewaytest.Start(t, s)), head())
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("151: %v", err)
		}
	})
	t.Run("when it is over", func(t *testing.T) {
		keep := make(chan gateway.ResponseWriter, 1)
		s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
			keep <- w
			return nil
		})
		play(t, s, head())
		kept := <-keep
		if kept.SetReadDeadline(time.Now()) == nil || kept.SetWriteDeadline(time.Now()) == nil || kept.Flush() == nil || kept.WriteInterim(103, nil) == nil {
			t.Error("136: a writer that is over takes orders")
		}
		if _, err := kept.Hijack(); err == nil {
			t.Error("136: Hijack")
		}
		if _, err := kept.Stderr().Write([]byte("x")); err == nil {
			t.Error("136: Stderr")
		}
		kept.SetAppStatus(1)
		kept.WriteHeader(404)
	})
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

func TestInterimEdges(t *testing.T) {
	refused := make(chan error, 5)
	s := handler(func(w gateway.ResponseWriter, r *gateway.Request) error {
		bad := new(gateway.Header)
		bad.Add("X", "a\r\nb")
		for _, status := range []int{99, 200, 101} {
			refused <- w.WriteInterim(status, nil)
		}
		refused <- w.WriteInterim(103, bad)
		h := new(gateway.Header)
		h.Add("Link", "</a>")
		if err := w.WriteInterim(103, h); err != nil {
			t.Error(err)
		}
		w.WriteHeader(200)
		refused <- w.WriteInterim(103, nil)
		return nil
	})
	s.SendInterim = true
	if got := play(t, s, head()); got != "Status: 103 Early Hints\r\nLink: </a>\r\n\r\nStatus: 200 OK\r\n\r\n" {
		t.Errorf("%q", got)
	}
	for i := range cap(refused) {
		if err := <-refused; err == nil {
			t.Errorf("269: the wrong one of number %d was sent", i)
		}
	}
}

// A body of unknown kind that is short leaves with its head; one that fails at once sends nothing.
func TestBodiesThatFail(t *testing.T) {
	addr := gatewaytest.Start(t, &scgi.Server{Handler: conformance.Handlers["echo"], Logger: quiet})
	for name, body := range map[string]io.Reader{
		"short": struct{ io.Reader }{strings.NewReader("body")}, "long": struct{ io.Reader }{strings.NewReader("body and more")},
		"failing": iotest.ErrReader(errFailed), "failing later": io.MultiReader(strings.NewReader("bo"), iotest.ErrReader(errFailed)),
		"that never gives anything": stuck{},
	} {
		for _, length := range []int64{9, 20000} {
			r := gatewaytest.NewRequest("POST", "/", nil)
			r.Body, r.ContentLength = body, length
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			err := (&scgi.Client{Addr: addr}).RoundTrip(ctx, r, new(gateway.Response))
			cancel()
			if e, ok := errors.AsType[*gateway.Error](err); !ok || errors.Is(err, context.DeadlineExceeded) || e.Received {
				t.Errorf("079 %s, %d: %v", name, length, err)
			}
		}
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }
