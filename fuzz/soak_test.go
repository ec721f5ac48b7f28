//go:build unix

package fuzz_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
)

var (
	soak    = flag.Bool("soak", false, "run TestSoak, and TestStress for two hours")
	soakFor = flag.Duration("for", 10*time.Minute, "how long TestSoak takes")
)

// sample holds the resources of the process at one moment.
type sample struct {
	heap int // bytes, after a collection
	balance
}

// TestSoak sends requests over every path, with and without faults, as fast as the machine allows.
// The resources of the process must not grow.
func TestSoak(t *testing.T) {
	if !*soak {
		t.Skip("it takes ten minutes: go test -run '^TestSoak$' -timeout 15m ./fuzz -soak")
	}
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	before := balanceNow(temp)
	t.Run("run", func(t *testing.T) {
		var faulty, sound []gateway.RoundTripper
		for _, start := range faultyWays() {
			faulty = append(faulty, start(t, *seedFlag))
			sound = append(sound, start(t, 0))
		}
		t.Cleanup(func() {
			for _, c := range slices.Concat(faulty, sound) {
				closing(t, c)
			}
		})
		judge(t, load(t, faulty, sound, temp))
	})
	settled(t, before, temp)
}

// load sends requests until the time is over and returns the samples taken meanwhile.
func load(t *testing.T, faulty, sound []gateway.RoundTripper, temp string) (held []sample) {
	ctx, cancel := context.WithTimeout(t.Context(), *soakFor)
	defer cancel()
	var right, failed, n atomic.Int64
	var workers sync.WaitGroup
	for i := range 8 * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			rng := rand.New(rand.NewPCG(*seedFlag, uint64(i)))
			ways := sound
			if i%4 == 0 { // those wait most of the time
				ways = faulty
			}
			for ctx.Err() == nil {
				err := once(ctx, ways[rng.IntN(len(ways))], fmt.Sprint(n.Add(1)), rng)
				if err == nil {
					right.Add(1)
				} else {
					failed.Add(1)
				}
				if errors.Is(err, errCrossed) {
					t.Error(err)
				}
			}
		})
	}
	for tick := time.NewTicker(*soakFor / 60); ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-tick.C:
			held = append(held, sampleNow(temp))
		}
	}
	workers.Wait()
	t.Logf("%v, %d ways, %d CPUs: %d right, %d failed, %.0f a second", *soakFor, len(faulty)+len(sound), runtime.GOMAXPROCS(0), right.Load(), failed.Load(), float64(n.Load())/soakFor.Seconds())
	return held
}

// once asks one thing, and gives some up.
func once(ctx context.Context, c gateway.RoundTripper, id string, rng *rand.Rand) error {
	limit := time.Second
	if rng.IntN(10) == 0 {
		limit = time.Duration(rng.IntN(20)) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return ask(ctx, c, id, size(rng))
}

func sampleNow(temp string) sample {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return sample{int(m.HeapAlloc), balanceNow(temp)}
}

// judge holds the last third of the samples against the second: the first is a process that warms
// up.
func judge(t *testing.T, held []sample) {
	third := len(held) / 3
	for _, c := range []struct {
		name  string
		of    func(s sample) int
		slack int
	}{
		{"heap bytes", func(s sample) int { return s.heap }, 8 << 20},
		{"goroutines", func(s sample) int { return s.goroutines }, 100},
		{"descriptors", func(s sample) int { return s.descriptors }, 100},
		{"processes", func(s sample) int { return s.children }, 20},
		{"temporary files", func(s sample) int { return s.files }, 20},
	} {
		early, late := median(held[third:2*third], c.of), median(held[2*third:], c.of)
		t.Logf("%s: median %d, then %d; at the most %d", c.name, early, late, c.of(slices.MaxFunc(held, func(a, b sample) int { return c.of(a) - c.of(b) })))
		if late > early+early/5+c.slack {
			t.Errorf("%s grew from %d to %d", c.name, early, late)
		}
	}
}

func median(s []sample, of func(s sample) int) int {
	if len(s) == 0 {
		return 0
	}
	v := make([]int, len(s))
	for i := range s {
		v[i] = of(s[i])
	}
	slices.Sort(v)
	return v[len(v)/2]
}
