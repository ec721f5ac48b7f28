package gatewayhttp_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/internal/race"
	"github.com/gatehouse-go/gatehouse/scgi"
)

var errOther = errors.New("another error")

// rawServer responds to every request on a connection with response, and passes on the bytes of the
// requests' heads.
func rawServer(t testing.TB, response string) (addr string, heads <-chan string) {
	t.Helper()
	sent := make(chan string, 100)
	return conformance.Script(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		for {
			head, err := readHead(in)
			if err != nil {
				return
			}
			sent <- head
			if _, err := io.WriteString(c, response); err != nil || !strings.Contains(response, "Content-Length: 0") {
				c.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, in)
				return
			}
		}
	}), sent
}

func readHead(in *bufio.Reader) (head string, err error) {
	for !strings.HasSuffix(head, "\r\n\r\n") {
		line, err := in.ReadString('\n')
		if err != nil {
			return "", err
		}
		head += line
	}
	return head, nil
}

const empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

// sentHead returns the head that a Client sends for r.
func sentHead(t *testing.T, c *gatewayhttp.Client, r *gateway.Request) (string, error) {
	t.Helper()
	var heads <-chan string
	c.Addr, heads = rawServer(t, empty)
	if o := conformance.Ask(t, c, r); o.Err != nil {
		if s := c.Stats(); s.Dialed != 0 {
			t.Errorf("%d connections", s.Dialed)
		}
		return "", o.Err
	}
	return <-heads, nil
}

func ofTarget(target string) *gateway.Request {
	r := gatewaytest.NewRequest("GET", "/", nil)
	r.Params.Set("REQUEST_URI", target)
	return r
}

func TestClientTargets(t *testing.T) {
	for _, c := range []struct{ name, target, sent string }{
		{"an encoded slash and a query [355]", "/a%2Fb?x=1", "/a%2Fb?x=1"},
		{"escapes that are none [355]", "/%ff%zz", "/%ff%zz"},
		{"an asterisk [355]", "*", "*"},
		{"odd queries [355]", "/a?b?c#d", "/a?b?c#d"},
		{"an empty query [355]", "/a?", "/a?"},
		{"bytes beyond ASCII [355]", "/caf\xe9", "/caf\xe9"},
		{"a long path [355]", "/" + strings.Repeat("x", 8<<10), "/" + strings.Repeat("x", 8<<10)},
		{"two slashes [356]", "//x/y?z", "//x/y?z"},
		{"two slashes and an escape [356]", "//x%2Fy?", "//x%2Fy?"},
		{"two slashes and an invalid escape [356 357]", "//x%zz", ""},
		{"absolute form [358]", "http://other/x?y", "/x?y"},
		{"absolute form without a path [358]", "http://other?y", "/?y"},
		{"absolute form without anything [358]", "http://other", "/"},
		{"authority form [358]", "other:80", ""},
		{"a space [357]", "/a b", ""},
		{"CR and LF [357]", "/a\r\nX: 1", ""},
		{"NUL [357]", "/a\x00", ""},
		{"DEL [357]", "/a\x7f", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			head, err := sentHead(t, new(gatewayhttp.Client), ofTarget(c.target))
			if c.sent == "" {
				if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Phase != gateway.PhaseRequest || !errors.Is(err, gateway.ErrParam) {
					t.Errorf("%v", err)
				}
				return
			}
			if !strings.HasPrefix(head, "GET "+c.sent+" HTTP/1.1\r\nHost: ") {
				t.Errorf("%.100q, %v", head, err)
			}
		})
	}
}

func TestClientRefuses(t *testing.T) {
	for name, change := range map[string]func(r *gateway.Request){
		"CONNECT [358]":             func(r *gateway.Request) { r.Params.Set("REQUEST_METHOD", "CONNECT") },
		"no method [377]":           func(r *gateway.Request) { r.Params.Set("REQUEST_METHOD", "") },
		"a role [377]":              func(r *gateway.Request) { r.Role = gateway.RoleAuthorizer },
		"an invalid host [359]":     func(r *gateway.Request) { r.Params.Set("HTTP_HOST", "a/b") },
		"a line in a field":         func(r *gateway.Request) { r.Params.Set("HTTP_X", "a\r\nb") },
		"a control byte in a field": func(r *gateway.Request) { r.Params.Set("HTTP_X", "a\x01b") },
	} {
		t.Run(name, func(t *testing.T) {
			r := gatewaytest.NewRequest("GET", "/", nil)
			change(r)
			_, err := sentHead(t, new(gatewayhttp.Client), r)
			if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Phase != gateway.PhaseRequest || !errors.Is(err, gateway.ErrParam) {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("Rewrite [375]", func(t *testing.T) {
		c := &gatewayhttp.Client{Rewrite: func(out *http.Request, r *gateway.Request) error {
			out.Header.Set("Remote-User", r.Params.Get("REMOTE_USER"))
			return nil
		}}
		r := gatewaytest.NewRequest("GET", "/", nil)
		r.Params.Set("REMOTE_USER", "ada")
		if head, err := sentHead(t, c, r); !strings.Contains(head, "\r\nRemote-User: ada\r\n") || err != nil {
			t.Errorf("%q, %v", head, err)
		}
		c = &gatewayhttp.Client{Rewrite: func(*http.Request, *gateway.Request) error { return errOther }}
		_, err := sentHead(t, c, r)
		if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Phase != gateway.PhaseRequest || !errors.Is(err, errOther) {
			t.Errorf("%v", err)
		}
	})
}

func TestClientFields(t *testing.T) {
	// fields returns what is sent for params, beside the first line and Host.
	fields := func(t *testing.T, c *gatewayhttp.Client, nv ...string) []string {
		t.Helper()
		r := gatewaytest.NewRequest("GET", "/", nil)
		for i := 0; i < len(nv); i += 2 {
			r.Params.Set(nv[i], nv[i+1])
		}
		head, err := sentHead(t, c, r)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n")[1:]
	}
	t.Run("those of the params [360 363]", func(t *testing.T) {
		got := fields(t, new(gatewayhttp.Client), "HTTP_HOST", "h:8080", "HTTP_X_ODD", "caf\xe9", "HTTP_ACCEPT", "*/*", "CONTENT_TYPE", "a/b", "HTTP_CONTENT_TYPE", "c/d",
			"HTTP_PROXY", "x", "HTTP_EXPECT", "100-continue", "HTTP_KEEP_ALIVE", "1", "HTTP_TE", "trailers", "HTTP_TRAILER", "X", "HTTP_TRANSFER_ENCODING", "chunked",
			"HTTP_CONNECTION", "X-Hop, Upgrade", "HTTP_UPGRADE", "websocket", "HTTP_X_HOP", "1", "HTTP_COOKIE", "a=1; b=2", "REMOTE_USER", "ada", "SSL_PROTOCOL", "x")
		want := "[Host: h:8080 Accept: */* Content-Type: a/b Cookie: a=1; b=2 X-Forwarded-For: 127.0.0.1 X-Forwarded-Host: h:8080 X-Forwarded-Proto: http X-Odd: caf\xe9]"
		if fmt.Sprint(got) != want {
			t.Errorf("%v\nwant %v", got, want)
		}
	})
	t.Run("an upgrade [360]", func(t *testing.T) {
		c := new(gatewayhttp.Client)
		r := gatewaytest.NewRequest("GET", "/", nil)
		r.Upgrade = "websocket"
		if head, err := sentHead(t, c, r); !strings.Contains(head, "\r\nConnection: Upgrade\r\n") || !strings.Contains(head, "\r\nUpgrade: websocket\r\n") || err != nil {
			t.Errorf("%q, %v", head, err)
		}
	})
	t.Run("Host of SERVER_NAME [359]", func(t *testing.T) {
		if got := fields(t, new(gatewayhttp.Client), "SERVER_NAME", "[::1]", "SERVER_PORT", "8080"); got[0] != "Host: [::1]:8080" {
			t.Error(got)
		}
	})
	forged := []string{"HTTP_FORWARDED", "for=x", "HTTP_X_FORWARDED_FOR", "192.0.2.1", "HTTP_X_FORWARDED_PROTO", "https", "HTTP_X_FORWARDED_HOST", "evil",
		"HTTP_X_FORWARDED_PORT", "1", "HTTP_X_REAL_IP", "192.0.2.2", "REMOTE_ADDR", "2001:db8::1"}
	t.Run("what the client says of itself [361 362]", func(t *testing.T) {
		got := fields(t, new(gatewayhttp.Client), forged...)
		if fmt.Sprint(got[1:]) != "[X-Forwarded-For: 2001:db8::1 X-Forwarded-Host: localhost X-Forwarded-Proto: http]" {
			t.Error(got)
		}
	})
	t.Run("TrustForwarded [361]", func(t *testing.T) {
		got := fields(t, &gatewayhttp.Client{TrustForwarded: true}, forged...)
		if fmt.Sprint(got[1:]) != "[Forwarded: for=x X-Forwarded-For: 192.0.2.1, 2001:db8::1 X-Forwarded-Host: evil X-Forwarded-Port: 1 X-Forwarded-Proto: https X-Real-Ip: 192.0.2.2]" {
			t.Error(got)
		}
	})
	t.Run("faults [360]", func(t *testing.T) {
		rewrite := func(out *http.Request, _ *gateway.Request) error { out.Header.Set("X", "a\nb"); return nil }
		broken, upgrade := gatewaytest.NewRequest("GET", "/", nil), gatewaytest.NewRequest("GET", "/", nil)
		broken.Params.Set("REMOTE_ADDR", "a\r\nX: y")
		upgrade.Upgrade = "a\r\nX: y"
		for name, c := range map[string]struct {
			r       *gateway.Request
			rewrite func(*http.Request, *gateway.Request) error
		}{"REMOTE_ADDR": {broken, nil}, "Upgrade": {upgrade, nil}, "Rewrite": {gatewaytest.NewRequest("GET", "/", nil), rewrite}} {
			o := conformance.Ask(t, &gatewayhttp.Client{Addr: "127.0.0.1:1", Rewrite: c.rewrite}, c.r)
			if e, ok := errors.AsType[*gateway.Error](o.Err); !ok || e.Phase != gateway.PhaseRequest || !errors.Is(e, gateway.ErrParam) {
				t.Errorf("%s: %v", name, o.Err)
			}
		}
	})
	t.Run("Rewrite of the method [375]", func(t *testing.T) {
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Method) }))
		t.Cleanup(web.Close)
		c := &gatewayhttp.Client{Addr: web.Listener.Addr().String(), Rewrite: func(out *http.Request, _ *gateway.Request) error { out.Method = "GET"; return nil }}
		if o := conformance.Ask(t, c, gatewaytest.NewRequest("HEAD", "/", nil)); o.Err != nil || o.Body != "GET" {
			t.Errorf("%q, %v", o.Body, o.Err)
		}
	})
	t.Run("no REMOTE_ADDR, and TLS [362]", func(t *testing.T) {
		got := fields(t, new(gatewayhttp.Client), "REMOTE_ADDR", "", "HTTPS", "on")
		if fmt.Sprint(got[1:]) != "[X-Forwarded-Host: localhost:80 X-Forwarded-Proto: https]" {
			t.Error(got)
		}
	})
}

func TestClientBodies(t *testing.T) {
	sum := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %d %v %d %v", r.Method, r.ContentLength, r.TransferEncoding, len(b), err)
	}))
	t.Cleanup(sum.Close)
	c := &gatewayhttp.Client{Addr: sum.Listener.Addr().String()}
	large := bytes.Repeat([]byte("x"), 1<<20)
	for _, e := range []struct {
		name, method string
		body         io.Reader
		length       int64
		want         string
	}{
		{"a GET without one [364]", "GET", nil, 0, "GET 0 [] 0 <nil>"},
		{"a POST without one [364]", "POST", nil, 0, "POST 0 [] 0 <nil>"},
		{"a small one [364]", "POST", strings.NewReader("hello"), 5, "POST 5 [] 5 <nil>"},
		{"a large one [364]", "POST", io.MultiReader(bytes.NewReader(large)), 1 << 20, "POST 1048576 [] 1048576 <nil>"},
		{"one of unknown length [364]", "PUT", io.MultiReader(bytes.NewReader(large)), -1, "PUT -1 [chunked] 1048576 <nil>"},
	} {
		t.Run(e.name, func(t *testing.T) {
			r := gatewaytest.NewRequest(e.method, "/", nil)
			r.Body, r.ContentLength, r.GetBody = e.body, e.length, nil
			if o := conformance.Ask(t, c, r); o.Body != e.want || o.Err != nil {
				t.Errorf("%q, %v", o.Body, o.Err)
			}
		})
	}
	for name, body := range map[string]string{"a shorter one [364]": "hell", "a longer one [364]": "hello!"} {
		t.Run(name, func(t *testing.T) {
			r := gatewaytest.NewRequest("POST", "/", nil)
			r.Body, r.ContentLength, r.GetBody = io.MultiReader(strings.NewReader(body)), 5, nil
			if o := conformance.Ask(t, c, r); o.Err == nil || body == "hell" && !errors.Is(o.Err, io.ErrUnexpectedEOF) {
				t.Errorf("%q, %v", o.Body, o.Err)
			}
		})
	}
	t.Run("a longer one that comes late [364]", func(t *testing.T) {
		begun, got := make(chan struct{}), make(chan string, 1)
		slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(begun) // the head is there
			b, _ := io.ReadAll(r.Body)
			got <- string(b)
		}))
		t.Cleanup(slow.Close)
		r := gatewaytest.NewRequest("POST", "/", nil)
		late := readerFunc(func([]byte) (int, error) { <-begun; return 0, io.EOF })
		r.Body, r.ContentLength, r.GetBody = io.MultiReader(late, strings.NewReader("hello!")), 5, nil
		o := conformance.Ask(t, &gatewayhttp.Client{Addr: slow.Listener.Addr().String()}, r)
		if body := <-got; o.Err == nil || body == "hello" {
			t.Errorf("%q arrived, %v", body, o.Err)
		}
	})
	t.Run("no Content-Length on GET [364]", func(t *testing.T) {
		for method, want := range map[string]bool{"GET": false, "POST": true} {
			head, err := sentHead(t, new(gatewayhttp.Client), gatewaytest.NewRequest(method, "/", nil))
			if strings.Contains(head, "Content-Length: 0") != want || err != nil {
				t.Errorf("%q, %v", head, err)
			}
		}
	})
}

func TestClientResponses(t *testing.T) {
	t.Run("fields and chunks [365]", func(t *testing.T) {
		addr, _ := rawServer(t, "HTTP/1.1 207 Multi\r\nSet-Cookie: b=1\r\nSet-Cookie: a=2\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: x\r\nTrailer: T\r\nTransfer-Encoding: chunked\r\nX: 1\r\n\r\n"+
			"5\r\nhello\r\n1\r\n!\r\n0\r\nT: 1\r\n\r\n")
		o := conformance.Ask(t, &gatewayhttp.Client{Addr: addr}, gatewaytest.NewRequest("GET", "/", nil))
		var fields []string
		for name, value := range o.Res.Header.All() {
			fields = append(fields, fmt.Sprintf("%s=%s", name, value))
		}
		if o.Err != nil || o.Res.Status != 207 || o.Body != "hello!" || o.Res.ContentLength != -1 || fmt.Sprint(fields) != "[Set-Cookie=b=1 Set-Cookie=a=2 X=1]" {
			t.Errorf("%d %q %v, %v", o.Res.Status, o.Body, fields, o.Err)
		}
	})
	for _, c := range []struct {
		name, method, response string
		status                 int
		length                 int64
	}{
		{"HEAD [365]", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", 200, 10},
		{"204 [365]", "GET", "HTTP/1.1 204 No\r\n\r\n", 204, 0},
		{"304 [365]", "GET", "HTTP/1.1 304 Not\r\nContent-Length: 10\r\n\r\n", 304, 10},
		{"HTTP/1.0 to the end [365]", "GET", "HTTP/1.0 200 OK\r\n\r\n", 200, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr, _ := rawServer(t, c.response)
			o := conformance.Ask(t, &gatewayhttp.Client{Addr: addr}, gatewaytest.NewRequest(c.method, "/", nil))
			if o.Err != nil || o.Res.Status != c.status || o.Res.ContentLength != c.length || o.Body != "" {
				t.Errorf("%d, length %d, %q, %v", o.Res.Status, o.Res.ContentLength, o.Body, o.Err)
			}
		})
	}
	for _, c := range []struct {
		name, response string
		phase          gateway.Phase
		received       bool
		err            error
	}{
		{"cut in chunks [366]", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", gateway.PhaseBody, true, gateway.ErrTruncated},
		{"cut before the last chunk [366]", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", gateway.PhaseBody, true, gateway.ErrTruncated},
		{"chunks that are none [366]", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", gateway.PhaseBody, true, gateway.ErrMalformed},
		{"cut before its length [366]", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", gateway.PhaseBody, true, gateway.ErrTruncated},
		{"cut in the head [366]", "HTTP/1.1 200 OK\r\nContent-Le", gateway.PhaseHead, true, gateway.ErrTruncated},
		{"no head [366]", "hello\r\n\r\n", gateway.PhaseHead, true, gateway.ErrMalformed},
		{"two lengths [366]", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", gateway.PhaseHead, true, gateway.ErrMalformed},
		{"a field without a colon [366]", "HTTP/1.1 200 OK\r\nfield\r\n\r\n", gateway.PhaseHead, true, gateway.ErrMalformed},
		{"a long head [366]", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100_000) + "\r\n\r\n", gateway.PhaseHead, true, gateway.ErrTooLarge},
		{"nothing [366]", "", gateway.PhaseHead, false, gateway.ErrNoResponse},
		{"a 101 that was not asked for [366 368]", "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", gateway.PhaseHead, true, gateway.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr, _ := rawServer(t, c.response)
			o := conformance.Ask(t, &gatewayhttp.Client{Addr: addr}, gatewaytest.NewRequest("GET", "/", nil))
			e, ok := errors.AsType[*gateway.Error](o.Err)
			if !ok || e.Phase != c.phase || !e.Sent || e.Received != c.received || e.Reused || !errors.Is(o.Err, c.err) || e.Addr != addr {
				t.Errorf("%+v, %v", e, o.Err)
			}
		})
	}
	t.Run("interim responses after the end [367]", func(t *testing.T) {
		addr := conformance.Script(t, func(c net.Conn) {
			if _, err := readHead(bufio.NewReader(c)); err == nil {
				io.WriteString(c, strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", 5))
				io.Copy(io.Discard, c)
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		r := gatewaytest.NewRequest("GET", "/", nil)
		var calls int // of Interim; the race detector sees one that is late
		r.Interim = func(int, *gateway.Header) error {
			calls++
			cancel()
			time.Sleep(10 * time.Millisecond) // RoundTrip must wait
			calls++
			return nil
		}
		err := (&gatewayhttp.Client{Addr: addr}).RoundTrip(ctx, r, new(gateway.Response))
		if !errors.Is(err, context.Canceled) || calls%2 != 0 {
			t.Errorf("%d, %v", calls, err)
		}
		before := calls
		time.Sleep(30 * time.Millisecond)
		if calls != before {
			t.Errorf("%d calls after %d", calls-before, before)
		}
	})
	t.Run("interim responses [367]", func(t *testing.T) {
		addr, _ := rawServer(t, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: a\r\nLink: b\r\n\r\n"+empty)
		for _, listen := range []bool{true, false} {
			var got []string
			r := gatewaytest.NewRequest("GET", "/", nil)
			if listen {
				r.Interim = func(status int, h *gateway.Header) error {
					for name, value := range h.All() {
						got = append(got, fmt.Sprintf("%d %s=%s", status, name, value))
					}
					return nil
				}
			}
			o := conformance.Ask(t, &gatewayhttp.Client{Addr: addr, DisableKeepAlives: true}, r)
			if o.Err != nil || o.Res.Status != 200 || listen && fmt.Sprint(got) != "[103 Link=a 103 Link=b]" {
				t.Errorf("%v, %v", got, o.Err)
			}
		}
		r := gatewaytest.NewRequest("GET", "/", nil)
		r.Interim = func(int, *gateway.Header) error { return errOther }
		if o := conformance.Ask(t, &gatewayhttp.Client{Addr: addr}, r); !errors.Is(o.Err, errOther) {
			t.Error(o.Err)
		}
	})
}

func TestClientUpgrade(t *testing.T) {
	t.Run("a stream [368]", func(t *testing.T) {
		addr := conformance.Script(t, func(c net.Conn) {
			in := bufio.NewReader(c)
			readHead(in)
			io.WriteString(c, "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nX: 1\r\n\r\nearly")
			b, _ := io.ReadAll(in)
			io.WriteString(c, " got "+string(b))
		})
		c := &gatewayhttp.Client{Addr: addr, BodyTimeout: 20 * time.Millisecond, SendTimeout: 20 * time.Millisecond, MaxConns: 1}
		r := gatewaytest.NewRequest("GET", "/", nil)
		r.Upgrade = "websocket"
		var res gateway.Response
		if err := c.RoundTrip(t.Context(), r, &res); err != nil || res.Status != 101 || res.Header.Get("Upgrade") != "WebSocket" || res.Header.Get("X") != "1" {
			t.Fatalf("%d, %v", res.Status, err)
		}
		s, ok := res.Body.(gateway.Stream)
		if !ok {
			t.Fatalf("a Body of type %T", res.Body)
		}
		early := make([]byte, 5)
		if _, err := io.ReadFull(s, early); string(early) != "early" || err != nil {
			t.Errorf("%q, %v", early, err)
		}
		s.SetDeadline(time.Now().Add(30 * time.Millisecond))
		if _, err := s.Read(early); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the deadline: %v", err)
		}
		s.SetDeadline(time.Time{})
		io.WriteString(s, "late")
		if err := s.CloseWrite(); err != nil {
			t.Error(err)
		}
		if b, err := io.ReadAll(s); string(b) != " got late" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		if st := c.Stats(); st.InFlight != 1 {
			t.Errorf("%+v", st)
		}
		s.Close()
		if st := c.Stats(); st.InFlight != 0 || st.Idle != 0 {
			t.Errorf("%+v", st)
		}
	})
	t.Run("another token [368]", func(t *testing.T) {
		addr, _ := rawServer(t, "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
		r := gatewaytest.NewRequest("GET", "/", nil)
		r.Upgrade = "websocket"
		if o := conformance.Ask(t, &gatewayhttp.Client{Addr: addr}, r); !errors.Is(o.Err, gateway.ErrMalformed) {
			t.Error(o.Err)
		}
	})
	t.Run("the end of the context", func(t *testing.T) {
		ended := make(chan struct{})
		addr := conformance.Script(t, func(c net.Conn) {
			in := bufio.NewReader(c)
			readHead(in)
			io.WriteString(c, "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			io.Copy(io.Discard, in)
			close(ended)
		})
		ctx, cancel := context.WithCancel(t.Context())
		r := gatewaytest.NewRequest("GET", "/", nil)
		r.Upgrade = "websocket"
		var res gateway.Response
		if err := (&gatewayhttp.Client{Addr: addr}).RoundTrip(ctx, r, &res); err != nil {
			t.Fatal(err)
		}
		cancel()
		<-ended
		res.Body.Close()
	})
}

// TestClientPosts has a server close its kept connections as requests come, in every way.
func TestClientPosts(t *testing.T) {
	t.Run("none is sent twice [370]", func(t *testing.T) {
		var ran sync.Map
		var n atomic.Int64
		addr := conformance.Script(t, func(c net.Conn) {
			in := bufio.NewReader(c)
			for i := 0; ; i++ {
				head, err := readHead(in)
				if err != nil {
					return
				}
				id, _, _ := strings.Cut(head, " HTTP/")
				if _, twice := ran.LoadOrStore(id, true); twice {
					t.Errorf("%s ran twice", id)
				}
				if strings.Contains(head, "Content-Length: 5") {
					io.ReadFull(in, make([]byte, 5))
				}
				if n.Add(1)%3 == 0 { // without a response
					return
				}
				io.WriteString(c, empty)
				if i%2 == 1 { // an idle connection is closed
					return
				}
			}
		})
		c := &gatewayhttp.Client{Addr: addr}
		each := 10_000 / 8
		if race.Enabled {
			each /= 10
		}
		var lost atomic.Int64
		var sending sync.WaitGroup
		for i := range 8 {
			sending.Go(func() {
				for j := range each {
					body := [][]byte{nil, []byte("hello")}[j%2]
					r := gatewaytest.NewRequest("POST", fmt.Sprintf("/%d/%d", i, j), body)
					r.Params.Set("HTTP_IDEMPOTENCY_KEY", "1")
					r.Params.Set("HTTP_X_IDEMPOTENCY_KEY", "1")
					if o := conformance.Ask(t, c, r); o.Err != nil {
						lost.Add(1)
						if _, ok := errors.AsType[*gateway.Error](o.Err); !ok {
							t.Errorf("untyped: %v", o.Err)
						}
					}
				}
			})
		}
		sending.Wait()
		if lost.Load() == 0 || lost.Load() == int64(8*each) {
			t.Errorf("%d lost", lost.Load())
		}
	})
}

// TestClientLeftovers has servers that send a body where a response has none. It must not become
// the response to the next request.
func TestClientLeftovers(t *testing.T) {
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	responses := map[string]struct{ method, head string }{
		"HEAD [365 F67]":                {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 47\r\n\r\n"},
		"204 [365 F67]":                 {"GET", "HTTP/1.1 204 No Content\r\n\r\n"},
		"304 [365 F67]":                 {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 47\r\n\r\n"},
		"304 after 103 [365 F67]":       {"GET", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 304 Not Modified\r\nETag: 304\r\n\r\n"},
		"204 with bare lines [365 F67]": {"GET", "HTTP/1.0 204\nConnection: keep-alive\n\n"},
	}
	for name, c := range responses {
		t.Run(name, func(t *testing.T) {
			var conns atomic.Int64
			web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n := conns.Add(1)
				if r.Method == "POST" {
					io.WriteString(w, "honest")
					return
				}
				c2, buffered, _ := http.NewResponseController(w).Hijack()
				defer c2.Close()
				if n%3 == 0 {
					io.WriteString(c2, c.head+evil)
				} else { // a byte at a time, and evil not before a second request
					for i := range c.head {
						io.WriteString(c2, c.head[i:i+1])
					}
				}
				if _, err := readHead(buffered.Reader); err == nil {
					t.Error("a second request over the connection")
					io.WriteString(c2, evil)
				}
			}))
			for _, secure := range []bool{false, true} {
				if secure {
					web = httptest.NewUnstartedServer(web.Config.Handler)
					web.StartTLS()
				} else {
					web.Start()
				}
				t.Cleanup(web.Close)
				client := &gatewayhttp.Client{Addr: web.Listener.Addr().String(), MaxConns: 1}
				if secure {
					client.TLS = web.Client().Transport.(*http.Transport).TLSClientConfig
				}
				for range 4 {
					if o := conformance.Ask(t, client, gatewaytest.NewRequest(c.method, "/", nil)); o.Err != nil || o.Body != "" {
						t.Errorf("%q, %v", o.Body, o.Err)
					}
					if o := conformance.Ask(t, client, gatewaytest.NewRequest("POST", "/", []byte("x"))); o.Err != nil || o.Body != "honest" {
						t.Errorf("%q, %v", o.Body, o.Err)
					}
				}
			}
		})
	}
	for name, response := range map[string]string{
		"Content-Length: 0 [365 F67]": "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "a length [365 F67]": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"chunks [365 F67]":                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\ntransfer-encoding: Chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nX: 1\r\n\r\n",
		"204 after more spaces [365 F67]": "HTTP/1.1  204 No Content\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var conns atomic.Int64
			addr := conformance.Script(t, func(c net.Conn) {
				in := bufio.NewReader(c)
				for i := 0; ; i++ {
					if _, err := readHead(in); err != nil {
						return
					}
					if i > 0 {
						t.Error("a second request over the connection")
					}
					conns.Add(1)
					io.WriteString(c, response+evil)
				}
			})
			c := &gatewayhttp.Client{Addr: addr, MaxConns: 2}
			var asked sync.WaitGroup
			for range 4 {
				asked.Go(func() {
					for range 50 {
						if o := conformance.Ask(t, c, gatewaytest.NewRequest("GET", "/", nil)); o.Err != nil || o.Body != "" && o.Body != "ok" {
							t.Errorf("%q, %v", o.Body, o.Err)
						}
					}
				})
			}
			asked.Wait()
			if n := conns.Load(); n != 200 {
				t.Errorf("%d connections", n)
			}
		})
	}
	t.Run("chunks in pieces keep the connection [371]", func(t *testing.T) {
		addr := conformance.Script(t, func(c net.Conn) {
			for in := bufio.NewReader(c); ; {
				if _, err := readHead(in); err != nil {
					return
				}
				for _, b := range []byte("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n00a;x\r\n0123456789\r\n1\r\n!\r\n0\r\nX: 1\r\n\r\n") {
					c.Write([]byte{b})
				}
			}
		})
		c := &gatewayhttp.Client{Addr: addr}
		for range 5 {
			if o := conformance.Ask(t, c, gatewaytest.NewRequest("POST", "/", []byte("x"))); o.Err != nil || o.Body != "0123456789!" {
				t.Errorf("%q, %v", o.Body, o.Err)
			}
		}
		if s := c.Stats(); s.Dialed != 1 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("a head in pieces, and other statuses, keep the connection [371]", func(t *testing.T) {
		addr, _ := rawServer(t, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 204\r\nX: HTTP/1.1 304\r\nContent-Length: 0\r\n\r\n")
		c := &gatewayhttp.Client{Addr: addr}
		for range 5 {
			if o := conformance.Ask(t, c, gatewaytest.NewRequest("GET", "/", nil)); o.Err != nil {
				t.Error(o.Err)
			}
		}
		if s := c.Stats(); s.Dialed != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestClientConns(t *testing.T) {
	t.Run("an idle one is dropped [371]", func(t *testing.T) {
		addr, _ := rawServer(t, empty)
		c := &gatewayhttp.Client{Addr: addr, IdleConnTimeout: 20 * time.Millisecond}
		conformance.Ask(t, c, gatewaytest.NewRequest("GET", "/", nil))
		for i := 0; c.Stats().Idle > 0; i++ {
			if time.Sleep(time.Millisecond); i == 5000 {
				t.Fatalf("%+v", c.Stats())
			}
		}
	})
	t.Run("MaxConns and Stats [373]", func(t *testing.T) {
		release := make(chan struct{})
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release }))
		t.Cleanup(web.Close)
		var observed atomic.Int64
		c := &gatewayhttp.Client{Addr: web.Listener.Addr().String(), MaxConns: 2, Observe: func(_ context.Context, x *gateway.Exchange) {
			if x.Status == 0 {
				return // the one that waits in vain
			}
			observed.Add(1)
			if x.Status != 200 || x.Err != nil || x.Total <= 0 || x.Sent != 5 || x.Received != 0 || x.Addr == "" {
				t.Errorf("%+v", x)
			}
		}}
		var asked sync.WaitGroup
		for range 6 {
			asked.Go(func() {
				if o := conformance.Ask(t, c, gatewaytest.NewRequest("POST", "/", []byte("hello"))); o.Err != nil {
					t.Error(o.Err)
				}
			})
		}
		for i := 0; c.Stats().Waiting < 4; i++ {
			if time.Sleep(time.Millisecond); i == 5000 {
				t.Fatalf("%+v", c.Stats())
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		err := c.RoundTrip(ctx, gatewaytest.NewRequest("GET", "/", nil), new(gateway.Response))
		if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Phase != gateway.PhaseWait {
			t.Errorf("%v", err)
		}
		close(release)
		asked.Wait()
		if s := c.Stats(); s.Requests != 7 || s.Dialed != 2 || s.Reused != 4 || s.InFlight != 0 || s.Waiting != 0 || s.Idle > 2 || observed.Load() != 6 {
			t.Errorf("%+v, observed %d", s, observed.Load())
		}
		c.Close()
		for i := 0; c.Stats().Idle > 0; i++ {
			if time.Sleep(time.Millisecond); i == 5000 {
				t.Fatalf("%+v", c.Stats())
			}
		}
	})
	t.Run("a Unix socket [374]", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Skip(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) })}
		go s.Serve(l)
		t.Cleanup(func() { s.Close() })
		if o := conformance.Ask(t, &gatewayhttp.Client{Addr: "unix:" + path}, gatewaytest.NewRequest("GET", "/", nil)); o.Body != "localhost" || o.Err != nil {
			t.Errorf("%q, %v", o.Body, o.Err)
		}
	})
	t.Run("no address, and none that listens [374]", func(t *testing.T) {
		if o := conformance.Ask(t, new(gatewayhttp.Client), gatewaytest.NewRequest("GET", "/", nil)); o.Err == nil {
			t.Error("a response")
		}
		o := conformance.Ask(t, &gatewayhttp.Client{Addr: "127.0.0.1:1"}, gatewaytest.NewRequest("GET", "/", nil))
		if e, ok := errors.AsType[*gateway.Error](o.Err); !ok || e.Phase != gateway.PhaseDial || e.Sent {
			t.Errorf("%v", o.Err)
		}
	})
	t.Run("TLS [374]", func(t *testing.T) {
		var requests atomic.Int64
		web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			fmt.Fprint(w, r.Proto, r.TLS != nil)
		}))
		web.Config.ErrorLog = nil
		t.Cleanup(web.Close)
		roots := x509.NewCertPool()
		roots.AddCert(web.Certificate())
		addr := web.Listener.Addr().String()
		if o := conformance.Ask(t, &gatewayhttp.Client{Addr: addr, TLS: &tls.Config{RootCAs: roots, ServerName: "example.com"}}, gatewaytest.NewRequest("POST", "/", []byte("x"))); o.Body != "HTTP/1.1true" || o.Err != nil {
			t.Errorf("%q, %v", o.Body, o.Err)
		}
		for name, config := range map[string]*tls.Config{"an unknown authority": {}, "another name": {RootCAs: roots, ServerName: "example.org"}} {
			o := conformance.Ask(t, &gatewayhttp.Client{Addr: addr, TLS: config}, gatewaytest.NewRequest("GET", "/", nil))
			if e, ok := errors.AsType[*gateway.Error](o.Err); !ok || e.Phase != gateway.PhaseDial || e.Sent {
				t.Errorf("%s: %v", name, o.Err)
			}
		}
		if n := requests.Load(); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestClientContexts(t *testing.T) {
	block := func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	silent := conformance.Script(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	begun := conformance.Script(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		readHead(in) // net/http does not expect a response before a request
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
		io.Copy(io.Discard, in)
	})
	for name, c := range map[string]struct {
		client *gatewayhttp.Client
		phase  gateway.Phase
	}{
		"while dialing [372]":   {&gatewayhttp.Client{Dial: block, DialTimeout: -1}, gateway.PhaseDial},
		"before the head [372]": {&gatewayhttp.Client{Addr: silent}, gateway.PhaseHead},
		"in the body [372]":     {&gatewayhttp.Client{Addr: begun}, gateway.PhaseBody},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(50*time.Millisecond, func() { cancel(errOther) })
			var res gateway.Response
			err := c.client.RoundTrip(ctx, gatewaytest.NewRequest("GET", "/", nil), &res)
			if err == nil {
				_, err = io.ReadAll(res.Body)
				res.Body.Close()
			}
			if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Phase != c.phase || !errors.Is(err, errOther) {
				t.Errorf("%v", err)
			}
			if s := c.client.Stats(); s.InFlight != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
	t.Run("a context that has ended [372]", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		c := &gatewayhttp.Client{Addr: begun}
		err := c.RoundTrip(ctx, gatewaytest.NewRequest("GET", "/", nil), new(gateway.Response))
		if s := c.Stats(); s.Dialed != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

func TestClientTimeouts(t *testing.T) {
	newClient := func(dial func(context.Context) (net.Conn, error), timeout time.Duration) gateway.RoundTripper {
		return &gatewayhttp.Client{Dial: dial, SendTimeout: timeout, HeadTimeout: timeout, BodyTimeout: timeout, DisableKeepAlives: true}
	}
	conformance.SendTimeout(t, newClient, func(w io.Writer) { io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly") })
	conformance.ResponseTimeouts(t, newClient, func(w io.Writer) { io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nea") })
}

// TestClientBodyTimeoutAgain keeps a connection idle for longer than BodyTimeout, which then limits
// the next body that it carries.
func TestClientBodyTimeoutAgain(t *testing.T) {
	const timeout = 50 * time.Millisecond
	addr := conformance.Script(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		readHead(in)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
		time.Sleep(timeout / 5) // so that the rest is waited for
		io.WriteString(c, "k")
		readHead(in)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
		io.Copy(io.Discard, in)
	})
	c := &gatewayhttp.Client{Addr: addr, BodyTimeout: timeout}
	if o := conformance.Ask(t, c, gatewaytest.NewRequest("GET", "/", nil)); o.Err != nil {
		t.Fatal(o.Err)
	}
	time.Sleep(3 * timeout)
	o := conformance.Ask(t, c, gatewaytest.NewRequest("GET", "/", nil))
	if e, ok := errors.AsType[*gateway.Error](o.Err); !ok || !e.Timeout() || !e.Reused {
		t.Errorf("%v", o.Err)
	}
}

func TestClientCallbacks(t *testing.T) {
	conformance.TestCallbacks(t, "http", func(t testing.TB, b conformance.Callbacks) gateway.RoundTripper {
		back := gatewaytest.Start(t, &scgi.Server{Handler: conformance.Handlers["callbacks"], SendInterim: true, Logger: quiet})
		web := httptest.NewServer(&gatewayhttp.Proxy{Backend: &scgi.Client{Addr: back}, Logger: quiet})
		t.Cleanup(web.Close)
		addr := web.Listener.Addr().String()
		return &gatewayhttp.Client{MaxConns: 1, Observe: b.Observe, Dial: func(context.Context) (net.Conn, error) {
			if b.Connect != nil {
				b.Connect()
			}
			return net.Dial("tcp", addr)
		}}
	})
}
