// Package race reports whether the race detector is built in. Builds that have it give out memory
// once and overwrite what was given out before, so that a view that is kept too long fails a test
// instead of a user.
package race

// Poison overwrites b in builds with the race detector and does nothing in others.
func Poison(b []byte) {
	if !Enabled {
		return
	}
	for i := range b {
		b[i] = 0xDB
	}
}
