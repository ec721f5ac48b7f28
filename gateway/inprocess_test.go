package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

func TestInProcessRules(t *testing.T) {
	type result struct {
		body string
		err  error
	}
	ask := func(t *testing.T, r *gateway.Request, h gateway.HandlerFunc) (out result) {
		t.Helper()
		var res gateway.Response
		if out.err = gateway.InProcess(h).RoundTrip(t.Context(), r, &res); out.err == nil {
			b, err := io.ReadAll(res.Body)
			res.Body.Close()
			out = result{string(b), err}
		}
		return out
	}
	t.Run("a request body of another length [079 146]", func(t *testing.T) {
		for _, c := range []struct {
			body   string
			length int64
			want   string
		}{{"hello!", 5, "hello <nil>"}, {"hell", 5, "hell unexpected EOF"}, {"hello", -1, "hello <nil>"}} {
			r := gatewaytest.NewRequest("POST", "/", nil)
			r.Body, r.ContentLength = iotest.OneByteReader(strings.NewReader(c.body)), c.length
			out := ask(t, r, func(w gateway.ResponseWriter, r *gateway.Request) error {
				b, err := io.ReadAll(r.Body)
				fmt.Fprintf(w, "%s %v", b, err)
				return nil
			})
			if out.body != c.want || out.err != nil {
				t.Errorf("%+v", out)
			}
		}
	})
	t.Run("the data of a Filter", func(t *testing.T) {
		r := gatewaytest.NewRequest("POST", "/", []byte("body"))
		r.Role, r.Data = 3, strings.NewReader("data")
		out := ask(t, r, func(w gateway.ResponseWriter, r *gateway.Request) error {
			b, err := io.ReadAll(r.Data)
			fmt.Fprintf(w, "%v %s %v", r.Role, b, err)
			return nil
		})
		if out.body != "Filter data <nil>" || out.err != nil {
			t.Errorf("%+v", out)
		}
	})
	t.Run("a repeated param", func(t *testing.T) {
		r := gatewaytest.NewRequest("GET", "/", nil)
		r.Params.Add("REQUEST_METHOD", "POST")
		if out := ask(t, r, func(gateway.ResponseWriter, *gateway.Request) error { return nil }); !errors.Is(out.err, gateway.ErrParam) {
			t.Errorf("%+v", out)
		}
	})
	t.Run("a context that ends in the middle of a response", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		var res gateway.Response
		seen := make(chan error, 1)
		err := gateway.InProcess(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			io.WriteString(w, "part")
			_, err := io.WriteString(w, "what is not read")
			seen <- err
			return err
		})).RoundTrip(ctx, gatewaytest.NewRequest("GET", "/", nil), &res)
		if err != nil {
			t.Fatal(err)
		}
		io.ReadFull(res.Body, make([]byte, 4))
		why := errors.New("enough")
		cancel(why)
		if err := <-seen; !errors.Is(err, gateway.ErrAborted) {
			t.Errorf("the handler saw %v", err)
		}
		_, err = io.ReadAll(res.Body)
		if typed, ok := errors.AsType[*gateway.Error](err); !ok || typed.Phase != gateway.PhaseBody || !errors.Is(err, why) {
			t.Errorf("the reader saw %v", err)
		}
	})
	t.Run("a response of another length [268]", func(t *testing.T) {
		for _, c := range []struct {
			method, length, body string
			status               int
			want                 string
			err                  error
		}{
			{"GET", "3", "abcd", 200, "abc", nil},
			{"GET", "5", "abc", 200, "abc", gateway.ErrTruncated},
			{"HEAD", "5", "", 200, "", nil},
			{"GET", "5", "", 304, "", nil},
		} {
			out := ask(t, gatewaytest.NewRequest(c.method, "/", nil), func(w gateway.ResponseWriter, r *gateway.Request) error {
				w.Header().Set("Content-Length", c.length)
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
				return nil
			})
			if out.body != c.want || !errors.Is(out.err, c.err) {
				t.Errorf("%+v: %+v", c, out)
			}
		}
	})
	t.Run("invalid heads [249 264]", func(t *testing.T) {
		for name, h := range map[string]gateway.HandlerFunc{
			"length": func(w gateway.ResponseWriter, r *gateway.Request) error {
				w.Header().Set("Content-Length", "abc")
				return w.Flush()
			},
			"interim": func(w gateway.ResponseWriter, r *gateway.Request) error {
				w.WriteHeader(103)
				return nil
			},
			"goexit": func(w gateway.ResponseWriter, r *gateway.Request) error {
				runtime.Goexit()
				return nil
			},
		} {
			if out := ask(t, gatewaytest.NewRequest("GET", "/", nil), h); out.err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	})
	t.Run("calls after Close [136 F36]", func(t *testing.T) {
		ended := make(chan error, 1)
		r := gatewaytest.NewRequest("POST", "/", nil)
		var errs bytes.Buffer
		r.Stderr = &errs
		r.Body, r.ContentLength = strings.NewReader("hello"), 5
		var res gateway.Response
		err := gateway.InProcess(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			io.WriteString(w.Stderr(), "before")
			w.Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(30 * time.Second):
				ended <- errors.New("the context is not done")
				return nil
			}
			io.WriteString(w.Stderr(), "after")
			if n, err := r.Body.Read(make([]byte, 5)); n > 0 || err == nil {
				ended <- fmt.Errorf("read %d bytes, %v", n, err)
				return nil
			}
			if _, err := io.WriteString(w, strings.Repeat("x", 1000)); err == nil {
				ended <- errors.New("wrote to a closed pipe")
				return nil
			}
			ended <- nil
			return nil
		})).RoundTrip(t.Context(), r, &res)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if err := <-ended; err != nil || errs.String() != "before" {
			t.Errorf("%v, STDERR %q", err, errs.String())
		}
	})
	t.Run("no STDERR", func(t *testing.T) {
		out := ask(t, gatewaytest.NewRequest("GET", "/", nil), func(w gateway.ResponseWriter, r *gateway.Request) error {
			_, err := io.WriteString(w.Stderr(), "late")
			return err
		})
		if out.err != nil {
			t.Error(out.err)
		}
	})
}

func TestDirect(t *testing.T) {
	handler := gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		switch r.PathInfo() {
		case "/early":
			return gateway.ErrBodyTooLarge
		case "/late":
			io.WriteString(w, "part")
			return gateway.ErrTruncated
		case "/panic":
			panic("x")
		case "/wait":
			w.Flush()
			<-r.Context().Done()
			return r.Context().Err()
		case "/forever":
			<-r.Context().Done()
			return r.Context().Err()
		}
		return nil
	})
	d := gateway.InProcess(handler)
	var res gateway.Response
	wantError(t, d.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/early", nil), &res), gateway.ErrBodyTooLarge)
	if err := d.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/panic", nil), &res); err == nil {
		t.Error("a panic has a response")
	}
	if err := d.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/late", nil), &res); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if wantError(t, err, gateway.ErrTruncated); string(b) != "part" {
		t.Errorf("%q", b)
	}
	if err := d.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/wait", nil), &res); err != nil {
		t.Fatal(err)
	}
	res.Body.Close() // ends the handler's context
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, d.RoundTrip(ctx, gatewaytest.NewRequest("GET", "/forever", nil), &res), context.Canceled)
	bad := gatewaytest.NewRequest("GET", "/", nil)
	bad.Params.Add("A\x00", "")
	wantError(t, d.RoundTrip(t.Context(), bad, &res), gateway.ErrParam)
	if err := d.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/", nil), &res); err != nil || res.Status != 200 {
		t.Errorf("%d, %v", res.Status, err)
	}
	res.Body.Close()
}

var timeZero time.Time

// TestInProcessPassesOnTheCause checks that the handler's context is done for the reason for which
// that of RoundTrip is.
func TestInProcessPassesOnTheCause(t *testing.T) {
	t.Run("a cause [480]", func(t *testing.T) {
		reason := errors.New("the reason")
		ctx, cancel := context.WithCancelCause(t.Context())
		got := make(chan error, 1)
		err := gateway.InProcess(gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			cancel(reason)
			<-r.Context().Done()
			got <- context.Cause(r.Context())
			return context.Cause(r.Context())
		})).RoundTrip(ctx, gatewaytest.NewRequest("GET", "/", nil), new(gateway.Response))
		if cause := <-got; cause != reason || !errors.Is(err, reason) {
			t.Errorf("cause %v, error %v", cause, err)
		}
	})
}
