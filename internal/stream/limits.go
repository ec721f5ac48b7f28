package stream

import "time"

// Settings of clients, servers and readers share one rule: zero means the default, and a negative
// value means no limit for a time-out, and the default for any other limit.

// Limit returns n, or def if n is zero or negative.
func Limit[N int | time.Duration](n, def N) N {
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

// Deadline returns the end of Timeout(d, def) from now on, or the zero time if there is no limit.
func Deadline(d, def time.Duration) time.Time {
	if t := Timeout(d, def); t > 0 {
		return time.Now().Add(t)
	}
	return time.Time{}
}
