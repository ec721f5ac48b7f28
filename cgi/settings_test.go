package cgi

import (
	"testing"

	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

// TestSettings checks that each field reaches the core under its own name.
func TestSettings(t *testing.T) {
	c := new(Client)
	conformance.Fill(c)
	core := c.client()
	conformance.SameSettings(t, &core.Settings, c)
	if core.MaxConns != c.MaxProcs {
		t.Errorf("MaxConns is %d, want MaxProcs, %d", core.MaxConns, c.MaxProcs)
	}
}
