package gatewayhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

// guarded is an application behind an authorizer. It responds with what it is told of the user, the
// fields that a client may have forged, and the body.
func guarded(t *testing.T, h gateway.HandlerFunc) (a *gatewayhttp.Authorizer, web http.Handler, called *int) {
	t.Helper()
	addr := gatewaytest.Start(t, &fastcgi.Server{Authorizer: h, Logger: quiet})
	a = &gatewayhttp.Authorizer{Backend: &fastcgi.Client{Addr: addr, Logger: quiet}, Logger: quiet}
	called = new(int)
	return a, a.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*called++
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s|%s|%s|%v%v|%s %v", gatewayhttp.ContextParam(r, "REMOTE_USER"), gatewayhttp.ContextParam(r, "AUTH_TYPE"), gatewayhttp.ContextParam(r, "PHP_VALUE"),
			r.Header["Remote-User"], r.Header["Variable-Remote-User"], body, err)
	})), called
}

func allowing(fields ...string) gateway.HandlerFunc {
	return func(w gateway.ResponseWriter, r *gateway.Request) error {
		for i := 0; i < len(fields); i += 2 {
			w.Header().Set(fields[i], fields[i+1])
		}
		w.WriteHeader(200)
		return nil
	}
}

func TestAuthorizer(t *testing.T) {
	t.Run("allowed, with its variables [436 438 F65]", func(t *testing.T) {
		_, h, _ := guarded(t, allowing("Variable-REMOTE_USER", "ada", "Variable-AUTH_TYPE", "Basic", "Variable-PHP_VALUE", "auto_prepend_file=x", "X", "1"))
		if w := fetchFrom(h, "GET", "/"); w.Code != 200 || w.Body.String() != "ada|Basic||[][]| <nil>" || w.Header().Get("X") != "" {
			t.Errorf("%d %q %v", w.Code, w.Body, w.Header())
		}
	})
	t.Run("other variables by choice [436]", func(t *testing.T) {
		a, h, _ := guarded(t, allowing("Variable-REMOTE_USER", "ada", "Variable-PHP_VALUE", "x"))
		a.Variables = []string{"PHP_VALUE"}
		if w := fetchFrom(h, "GET", "/"); w.Body.String() != "||x|[][]| <nil>" {
			t.Errorf("%d %q", w.Code, w.Body)
		}
	})
	t.Run("what the client says of itself [438 F66]", func(t *testing.T) {
		_, h, _ := guarded(t, allowing())
		if w := fetchFrom(h, "GET", "/", "Remote-User", "root", "Variable-Remote-User", "root", "REMOTE_USER", "root"); w.Body.String() != "|||[][]| <nil>" {
			t.Errorf("%d %q", w.Code, w.Body)
		}
	})
	t.Run("what the authorizer receives [439]", func(t *testing.T) {
		_, h, _ := guarded(t, func(w gateway.ResponseWriter, r *gateway.Request) error {
			for _, name := range []string{"CONTENT_LENGTH", "PATH_INFO", "SCRIPT_NAME", "PATH_TRANSLATED"} {
				if v, sent := r.Params.Lookup(name); sent {
					t.Errorf("%s=%s", name, v)
				}
			}
			b, err := io.ReadAll(r.Body)
			if len(b) > 0 || err != nil || r.Params.Get("REQUEST_URI") != "/a?b" || r.Role != gateway.RoleAuthorizer {
				t.Errorf("%q, %v, %v", b, err, r.Role)
			}
			return allowing("Variable-REMOTE_USER", "ada")(w, r)
		})
		web := httptest.NewServer(h)
		defer web.Close()
		res, err := http.Post(web.URL+"/a?b", "text/plain", strings.NewReader("the body"))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if b, err := io.ReadAll(res.Body); string(b) != "ada|||[][]|the body <nil>" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
	for name, status := range map[string]int{"401 [437]": 401, "302 [437]": 302, "a status of 2xx that is not 200 [437]": 204} {
		t.Run(name, func(t *testing.T) {
			_, h, called := guarded(t, func(w gateway.ResponseWriter, r *gateway.Request) error {
				w.Header().Set("WWW-Authenticate", "Basic")
				w.Header().Set("Location", "/login")
				w.Header().Set("Variable-REMOTE_USER", "ada")
				w.WriteHeader(status)
				if status == 204 {
					return nil
				}
				_, err := io.WriteString(w, "not allowed")
				return err
			})
			w := fetchFrom(h, "GET", "/")
			if w.Code != status || status != 204 && w.Body.String() != "not allowed" || w.Header().Get("WWW-Authenticate") != "Basic" || w.Header().Get("Location") != "/login" || strings.Contains(fmt.Sprint(w.Header()), "ada") || *called != 0 {
				t.Errorf("%d %q %v, called %d times", w.Code, w.Body, w.Header(), *called)
			}
		})
	}
	t.Run("no guessed Content-Type [437]", func(t *testing.T) {
		_, h, _ := guarded(t, func(w gateway.ResponseWriter, _ *gateway.Request) error {
			w.WriteHeader(403)
			_, err := io.WriteString(w, "<html>")
			return err
		})
		s := httptest.NewServer(h)
		defer s.Close()
		res, err := http.Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if kind, sent := res.Header["Content-Type"]; sent || res.StatusCode != 403 {
			t.Errorf("%d %q", res.StatusCode, kind)
		}
	})
	t.Run("a panic of the authorizer [437]", func(t *testing.T) {
		_, h, called := guarded(t, func(gateway.ResponseWriter, *gateway.Request) error { panic("of the authorizer") })
		if w := fetchFrom(h, "GET", "/"); w.Code != 500 || *called != 0 {
			t.Errorf("%d %q, called %d times", w.Code, w.Body, *called)
		}
	})
	for name, stdout := range map[string]string{
		"a 200 that is cut [437 F64]":         "\x01\x06\x00\x01\x00\x13\x00\x00Status: 200 OK\r\n\r\nx",
		"a 200 without END_REQUEST [437 F64]": "\x01\x06\x00\x01\x00\x13\x00\x00Status: 200 OK\r\n\r\nx\x01\x06\x00\x01\x00\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			addr := conformance.Script(t, func(c net.Conn) {
				var r gateway.Request
				fastcgi.NewReader(c).ReadRequest(&r)
				io.WriteString(c, stdout)
			})
			called := false
			var failure error
			a := &gatewayhttp.Authorizer{Backend: &fastcgi.Client{Addr: addr, Logger: quiet}, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
				failure = err
				w.WriteHeader(gateway.ErrorStatus(err))
			}}
			w := fetchFrom(a.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true })), "GET", "/")
			if w.Code != 502 || called || !errors.Is(failure, gateway.ErrTruncated) {
				t.Errorf("%d, called %v, %v", w.Code, called, failure)
			}
		})
	}
	t.Run("no authorizer [437]", func(t *testing.T) {
		called := false
		a := &gatewayhttp.Authorizer{Logger: quiet, Backend: gateway.RoundTripperFunc(func(context.Context, *gateway.Request, *gateway.Response) error {
			return &gateway.Error{Phase: gateway.PhaseDial, Err: io.EOF}
		})}
		w := fetchFrom(a.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true })), "GET", "/")
		if w.Code != 502 || called {
			t.Errorf("%d, called %v", w.Code, called)
		}
	})
}
