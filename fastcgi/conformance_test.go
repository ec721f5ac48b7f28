package fastcgi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/internal/vectors"
)

// TestConformance is the suite that the siblings share.
func TestConformance(t *testing.T) {
	conformance.Run(t, conformance.Protocol{
		Name: "fastcgi", Refuses: true, Stderr: true, UnknownLength: true,
		Serve: func(t testing.TB, handler string) gateway.RoundTripper {
			c := &fastcgi.Client{Addr: gatewaytest.Start(t, &fastcgi.Server{Handler: conformance.Handlers[handler], Logger: quiet}), MaxIdleConns: 1, Logger: quiet}
			t.Cleanup(func() { c.Close() })
			return c
		},
		Respond: func(t testing.TB, content string) gateway.RoundTripper {
			b := rec(fastcgi.TypeStdout, 1, "") + end(1, 0, fastcgi.StatusComplete)
			for rest := content; len(rest) > 0; { // from the end: the records before it are put in front
				n := (len(rest)-1)%65000 + 1
				b = rec(fastcgi.TypeStdout, 1, rest[len(rest)-n:]) + b
				rest = rest[:len(rest)-n]
			}
			if content == "" {
				b = ""
			}
			return &fastcgi.Client{Addr: responding(t, b), Logger: quiet}
		},
		Ask: func(t testing.TB, handler, body string, nv ...string) string {
			s := serve(t, &fastcgi.Server{Handler: conformance.Handlers[handler]})
			var content strings.Builder
			for i := 0; i < len(nv); i += 2 {
				content.WriteString(pairs(nv[i], nv[i+1]))
			}
			s.send(begin(1, 1, false))
			for rest := content.String(); len(rest) > 0; {
				n := min(len(rest), 65000)
				s.send(rec(fastcgi.TypeParams, 1, rest[:n]))
				rest = rest[n:]
			}
			s.send(rec(fastcgi.TypeParams, 1, "") + stdin(1, body))
			if body != "" {
				s.send(stdin(1, ""))
			}
			return s.reply(1).stdout
		},
		Sent: func(t testing.TB, r *gateway.Request) (*gateway.Params, error) {
			b, err := fastcgi.AppendRequest(nil, 1, false, r)
			if err != nil {
				return nil, err
			}
			p := new(gateway.Params)
			if _, _, _, err := fastcgi.ConsumeRequest(b, p); err != nil {
				t.Fatal(err)
			}
			return p, nil
		},
	})
}

// verdict is the word that vectors have for an error.
var verdict = conformance.Verdict

// readRequests describes every request in src.
func readRequests(src io.Reader) (read []string, err error) {
	r := fastcgi.NewReader(src)
	var req gateway.Request
	for {
		if err := r.ReadRequest(&req); err != nil {
			return read, err
		}
		id, begin := r.Begin()
		line := fmt.Sprintf("id %d, %v, keep %v, %d params, length %d", id, begin.Role, begin.KeepConn, req.Params.Len(), req.ContentLength)
		if req.Body == gateway.NoBody {
			read = append(read, line)
			continue
		}
		body, err := io.ReadAll(req.Body)
		read = append(read, fmt.Sprintf("%s, body %d", line, len(body)))
		if err != nil {
			return read, err
		}
	}
}

// readResponses describes every response in src.
func readResponses(src io.Reader) (read []string, err error) {
	r := fastcgi.NewReader(src)
	var res gateway.Response
	for {
		if err := r.ReadResponse(&res); err != nil {
			return read, err
		}
		body, err := io.ReadAll(res.Body)
		read = append(read, fmt.Sprintf("status %d, %d fields, length %d, body %d, appStatus %d", res.Status, res.Header.Len(), res.ContentLength, len(body), res.AppStatus))
		if err != nil {
			return read, err
		}
	}
}

func readVector(side string, src io.Reader) ([]string, error) {
	if side == "request" {
		return readRequests(src)
	}
	return readResponses(src)
}

func TestVectors(t *testing.T) {
	all, err := vectors.All("fastcgi")
	if err != nil || len(all) < 100 {
		t.Fatalf("%d vectors, %v", len(all), err)
	}
	for _, v := range all {
		t.Run(v.Name, func(t *testing.T) {
			for name, src := range map[string]io.Reader{
				"whole": bytes.NewReader(v.Bytes),
				"byte":  iotest.OneByteReader(bytes.NewReader(v.Bytes)),
			} {
				read, err := readVector(v.Side, src)
				if got := verdict(err); got != v.Expect {
					t.Errorf("%s: %s (%v), want %s", name, got, err, v.Expect)
				}
				if diff := cmp.Diff(v.Read, read); diff != "" {
					t.Errorf("%s: %s", name, diff)
				}
			}
		})
	}
}

// seed gives a fuzz target the vectors of one side.
func seed(f *testing.F, side string) {
	all, err := vectors.All("fastcgi")
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range all {
		if v.Side == side {
			f.Add(v.Bytes)
		}
	}
}

func TestCallbacks(t *testing.T) {
	conformance.TestCallbacks(t, "fastcgi", func(t testing.TB, b conformance.Callbacks) gateway.RoundTripper {
		addr := gatewaytest.Start(t, &fastcgi.Server{Handler: conformance.Handlers["callbacks"], SendInterim: true, Logger: quiet})
		return &fastcgi.Client{Addr: addr, MaxConns: 1, Logger: quiet, Observe: b.Observe, Stderr: b.Stderr, Dial: func(context.Context) (net.Conn, error) {
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
			return &fastcgi.Server{Handler: h, MaxConns: maxConns, Logger: quiet}
		},
		NewClient: func(addr string) gateway.RoundTripper { return &fastcgi.Client{Addr: addr} },
		Request:   head(1, 1, false, "REQUEST_METHOD", "GET") + stdin(1, ""),
		Upload: func(size int, params ...string) string {
			const piece = 32 << 10
			return head(1, 1, false, append([]string{"REQUEST_METHOD", "POST", "CONTENT_LENGTH", strconv.Itoa(size)}, params...)...) +
				strings.Repeat(stdin(1, strings.Repeat("x", piece)), size/piece) + stdin(1, "")
		},
	})
}

func TestResponseTimeouts(t *testing.T) {
	conformance.ResponseTimeouts(t, func(dial func(context.Context) (net.Conn, error), timeout time.Duration) gateway.RoundTripper {
		return &fastcgi.Client{Dial: dial, HeadTimeout: timeout, BodyTimeout: timeout, Logger: quiet}
	}, func(w io.Writer) { io.WriteString(w, rec(fastcgi.TypeStdout, 1, okHead+"ea")) })
}

func TestAbortIsTheCause(t *testing.T) {
	t.Run("ABORT [478]", func(t *testing.T) {
		got := make(chan error, 2)
		s := serve(t, &fastcgi.Server{Handler: gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			<-r.Context().Done()
			got <- context.Cause(r.Context())
			_, err := r.Body.Read(make([]byte, 1))
			got <- err
			return nil
		})})
		s.send(head(1, 1, true, "CONTENT_LENGTH", "5") + rec(fastcgi.TypeAbort, 1, ""))
		if cause, err := <-got, <-got; cause != gateway.ErrAborted || !errors.Is(err, gateway.ErrAborted) {
			t.Errorf("cause %v, body %v", cause, err)
		}
	})
}

func TestServerObserve(t *testing.T) {
	conformance.TestObserve(t, conformance.ObserveKit{
		NewServer: func(h gateway.Handler, maxRequests int, observe conformance.Observe) conformance.ObservedServer {
			return &fastcgi.Server{Handler: h, MaxRequests: maxRequests, Observe: observe, Logger: quiet}
		},
		NewClient: func(addr string) gateway.RoundTripper { return &fastcgi.Client{Addr: addr} },
		Head:      func(nv ...string) string { return head(1, 1, false, nv...) + stdin(1, "") },
		Malformed: "GET / HTTP/1.1\r\n",
	})
}

func TestLogs(t *testing.T) {
	conformance.TestLogs(t, conformance.ObserveKit{Head: func(nv ...string) string { return head(1, 1, false, nv...) + stdin(1, "") }}, func(h gateway.Handler, l *slog.Logger) conformance.Server {
		return &fastcgi.Server{Handler: h, Logger: l}
	})
}

func TestBodyAfterClose(t *testing.T) {
	conformance.BodyAfterClose(t, func(dial func(context.Context) (net.Conn, error)) gateway.RoundTripper {
		return &fastcgi.Client{Dial: dial, Logger: quiet}
	}, rec(fastcgi.TypeStdout, 1, "Status: 204 No Content\r\n\r\n"))
}
