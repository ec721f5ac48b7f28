package uwsgi_test

import (
	"cmp"
	"log/slog"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// This file has the helpers of the tests: heads as bytes, a server that receives bytes, and a
// client that receives bytes.

var quiet = slog.New(slog.DiscardHandler)

const limit = conformance.Limit

// head is a packet of these vars, as they are, with modifiers 0.
func head(nv ...string) string { return packet(0, 0, vars(nv...)) }

func packet(modifier1, modifier2 byte, block string) string {
	return string([]byte{modifier1, byte(len(block)), byte(len(block) >> 8), modifier2}) + block
}

func vars(nv ...string) string {
	var b strings.Builder
	for _, s := range nv {
		b.WriteString(string([]byte{byte(len(s)), byte(len(s) >> 8)}) + s)
	}
	return b.String()
}

var dial, script = conformance.Dial, conformance.Script

// dropped sends input to a server that must close without a response.
func dropped(t testing.TB, s *uwsgi.Server, input string) {
	t.Helper()
	conformance.Dropped(t, gatewaytest.Start(t, silent(s)), input)
}

// play sends input to a server and returns all that it responds.
func play(t testing.TB, s *uwsgi.Server, input string) string {
	t.Helper()
	return conformance.Play(t, dial(t, gatewaytest.Start(t, silent(s))), input)
}

// silent gives a server a Logger that drops its records, unless it has one.
func silent(s *uwsgi.Server) *uwsgi.Server {
	s.Logger = cmp.Or(s.Logger, quiet)
	return s
}

// responding starts an application that reads a request and responds with those bytes.
func responding(t testing.TB, response string) (addr string) {
	return script(t, codec.Responding(response))
}

func fromBytes(b string) (*gateway.Request, error) {
	r := new(gateway.Request)
	return r, uwsgi.NewReader(strings.NewReader(b)).ReadRequest(r)
}
