package scgi_test

import (
	"cmp"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/scgi"
)

// This file has the helpers of the tests: heads as bytes, a server that receives bytes, and a
// client that receives bytes.

var quiet = slog.New(slog.DiscardHandler)

const limit = conformance.Limit

// head is a request's head of these params, as they are, with CONTENT_LENGTH and SCGI where they
// belong.
func head(nv ...string) string {
	length, rest := "0", ""
	for i := 0; i < len(nv); i += 2 {
		if nv[i] == "CONTENT_LENGTH" {
			length = nv[i+1]
		} else {
			rest += nv[i] + "\x00" + nv[i+1] + "\x00"
		}
	}
	return netstring("CONTENT_LENGTH\x00" + length + "\x00SCGI\x001\x00" + rest)
}

func netstring(s string) string { return strconv.Itoa(len(s)) + ":" + s + "," }

var dial, script = conformance.Dial, conformance.Script

// dropped sends input to a server that must close without a response.
func dropped(t testing.TB, s *scgi.Server, input string) {
	t.Helper()
	conformance.Dropped(t, gatewaytest.Start(t, silent(s)), input)
}

// play sends input to a server and returns all that it responds.
func play(t testing.TB, s *scgi.Server, input string) string {
	t.Helper()
	return conformance.Play(t, dial(t, gatewaytest.Start(t, silent(s))), input)
}

// silent gives a server a Logger that drops its records, unless it has one.
func silent(s *scgi.Server) *scgi.Server {
	s.Logger = cmp.Or(s.Logger, quiet)
	return s
}

// responding starts an application that reads a request and responds with those bytes.
func responding(t testing.TB, response string) (addr string) {
	return script(t, codec.Responding(response))
}

func fromBytes(b string) (*gateway.Request, error) {
	r := new(gateway.Request)
	return r, scgi.NewReader(strings.NewReader(b)).ReadRequest(r)
}

var echo = conformance.Handlers["echo"]
