package scgi

import (
	"testing"

	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

// TestSettings checks that each field reaches the core under its own name.
func TestSettings(t *testing.T) {
	s := new(Server)
	conformance.Fill(s)
	conformance.SameSettings(t, &s.server().Settings, s)

	c := new(Client)
	conformance.Fill(c)
	conformance.SameSettings(t, &c.client().Settings, c)
}
