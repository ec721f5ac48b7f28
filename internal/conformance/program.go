package conformance

import (
	"os"
	"testing"
)

// Environ is what the environment of a test's own program has to hold, when a test starts it with nothing else: it keeps a
// program with the race detector from its second of sleep at the end, and tells one that counts what is covered where to
// write that down, so that it does not speak of it on standard error. GOCOVERDIR, an absolute path, keeps the counts; else
// they go with t. t may be nil in such a program, which has the variable.
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
