package conformance

import (
	"os"
	"testing"
)

// Environ returns the variables that a test's own program needs, if a test starts it with no
// others. They keep a program with the race detector from sleeping a second at its end, and tell
// one that counts coverage where to write, so that it does not print a warning. The counts go to
// GOCOVERDIR, an absolute path, or else are removed with t. t may be nil in such a program, which
// has the variable.
func Environ(t testing.TB) []string {
	env := []string{"GORACE=atexit_sleep_ms=0"}
	if testing.CoverMode() == "" {
		return env
	}
	dir := os.Getenv("GOCOVERDIR")
	if dir == "" {
		dir = t.TempDir()
	}
	return append(env, "GOCOVERDIR="+dir)
}
