package fastcgi_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
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
