package stream

import "time"

// Limit returns n, or def if n is zero or negative.
func Limit(n, def int) int {
	if n <= 0 {
		return def
	}
	return n
}

// Timeout returns d, def if d is zero, and 0, which means no limit, if d is negative.
func Timeout(d, def time.Duration) time.Duration {
	switch {
	case d < 0:
		return 0
	case d == 0:
		return def
	}
	return d
}
