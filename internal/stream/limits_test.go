package stream

import (
	"testing"
	"time"
)

func TestLimit(t *testing.T) {
	for n, want := range map[int]int{5: 5, 0: 7, -1: 7} {
		if got := Limit(n, 7); got != want {
			t.Errorf("Limit(%d, 7) = %d, want %d", n, got, want)
		}
	}
}

func TestTimeout(t *testing.T) {
	for d, want := range map[time.Duration]time.Duration{time.Second: time.Second, 0: time.Minute, -1: 0} {
		if got := Timeout(d, time.Minute); got != want {
			t.Errorf("Timeout(%v, 1m) = %v, want %v", d, got, want)
		}
	}
}

func TestDeadline(t *testing.T) {
	if got := Deadline(-1, time.Minute); !got.IsZero() {
		t.Errorf("a negative timeout has the deadline %v", got)
	}
	if got := time.Until(Deadline(0, time.Minute)); got > time.Minute || got < 50*time.Second {
		t.Errorf("the default deadline is %v away", got)
	}
}
