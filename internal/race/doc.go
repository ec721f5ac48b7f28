// Package race reports whether the race detector is on. In such builds memory is not reused but
// overwritten, so that a view that is kept too long makes a test fail.
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
