package server

import (
	"io"
	"testing"
)

// TestSweepEnds checks that a connection whose watcher is not to start again is not swept until its
// handler returns.
func TestSweepEnds(t *testing.T) {
	for name, c := range map[string]*conn{
		"the peer has left":   {running: true, lost: io.EOF},
		"it is to end":        {running: true, stopped: true},
		"the watcher runs":    {running: true, watching: true},
		"the handler is over": {},
	} {
		if c.Sweep() {
			t.Errorf("%s: it is to be swept again", name)
		}
	}
	if c := (&conn{running: true, reading: true}); !c.Sweep() {
		t.Error("a connection whose handler reads is not swept again")
	}
}
