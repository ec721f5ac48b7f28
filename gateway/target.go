package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"syscall"
	"time"

	"github.com/gatehouse-go/gatehouse/internal/paths"
	"github.com/gatehouse-go/gatehouse/internal/track"
)

// A target is a Target with its state. The mu of its Balancer guards it.
type target struct {
	Target
	stats   TargetStats
	weight  int
	hash    uint64    // of Name
	turn    int       // what the target has gained in the turns of equally busy ones
	fails   int       // in a row
	marked  bool      // it receives no requests
	since   time.Time // when it was marked
	probing bool      // a request tries whether it works again
	removed bool
}

// set makes list the targets. mu is held.
func (b *Balancer) set(list []Target) {
	old := make(map[string]*target, len(b.targets))
	for _, t := range b.targets {
		t.removed = true
		old[t.Name] = t
	}
	b.targets, b.marked = nil, 0
	for i, spec := range list {
		if slices.ContainsFunc(list[i+1:], func(later Target) bool { return later.Name == spec.Name }) {
			continue
		}
		t := old[spec.Name]
		if t == nil {
			t = &target{stats: TargetStats{Name: spec.Name}, hash: hash(spec.Name)}
		}
		t.Target, t.weight, t.removed = spec, min(max(spec.Weight, 1), maxWeight), false
		b.targets = append(b.targets, t)
		if t.marked {
			b.marked++
		}
	}
}

func (b *Balancer) failTimeout() time.Duration {
	if b.FailTimeout == 0 {
		return 10 * time.Second
	}
	return b.FailTimeout
}

// An attempt is a request that was sent to a target, until its response has ended. It is used once.
// The goroutine of RoundTrip owns it, and then the reader of the response's Body.
type attempt struct {
	track.Body
	b       *Balancer
	t       *target
	backend RoundTripper
	ctx     context.Context
	probe   bool // its success shows that a marked target works again
	bad     bool // its response counts as a failure
}

// choose returns an attempt at the target that is to receive a request with that key, or nil if
// each was tried.
func (b *Balancer) choose(key string, tried []*target) *attempt {
	b.mu.Lock()
	defer b.mu.Unlock()
	var now time.Time
	if b.marked > 0 {
		now = time.Now()
	}
	t := b.best(key, tried, now, false)
	if t == nil {
		t = b.best(key, tried, now, true)
	}
	if t == nil {
		t = b.firstMarked(tried)
	}
	if t == nil {
		return nil
	}
	a := b.attempts.Get(b.inFlight)
	a.b, a.t, a.backend, a.probe = b, t, t.Backend, t.marked
	t.probing = t.probing || a.probe
	t.stats.Requests++
	t.stats.InFlight++
	b.inFlight++
	return a
}

// usable reports whether t may receive a request: it was not tried by it, and is not marked, or is
// to be probed.
func (b *Balancer) usable(t *target, tried []*target, now time.Time) bool {
	return (!t.marked || !t.probing && now.Sub(t.since) >= b.failTimeout()) && (len(tried) == 0 || !slices.Contains(tried, t))
}

// best returns the target among the usable ones, of the backups or the others, that key chooses, or
// the least busy one. Equally busy ones take turns, as in nginx: each turn adds its weight to the
// count of each, and subtracts the sum of the weights from the highest count, whose target is
// taken.
func (b *Balancer) best(key string, tried []*target, now time.Time, backup bool) (best *target) {
	keyed := hash(key)
	for _, t := range b.targets {
		switch {
		case t.Backup != backup || !b.usable(t, tried, now):
		case key != "":
			if best == nil || t.outscores(best, keyed) {
				best = t
			}
		case best == nil || t.stats.InFlight*best.weight < best.stats.InFlight*t.weight:
			best = t
		}
	}
	if best == nil || key != "" {
		return best
	}
	least, sum := best, 0
	best = nil
	for _, t := range b.targets {
		if t.Backup != backup || t.stats.InFlight*least.weight != least.stats.InFlight*t.weight || !b.usable(t, tried, now) {
			continue
		}
		t.turn += t.weight
		sum += t.weight
		if best == nil || t.turn > best.turn {
			best = t
		}
	}
	best.turn -= sum
	return best
}

// firstMarked returns the target that was marked first of those that were not tried.
func (b *Balancer) firstMarked(tried []*target) (first *target) {
	for _, t := range b.targets {
		if !slices.Contains(tried, t) && (first == nil || t.since.Before(first.since)) {
			first = t
		}
	}
	return first
}

// roundTrip sends r to the target of a. If it fails, or panics, the attempt is over.
func (a *attempt) roundTrip(ctx context.Context, r *Request, res *Response) error {
	a.ctx = ctx
	returned := false
	defer func() {
		if !returned {
			a.Ended(errPanic)
		}
	}()
	err := a.backend.RoundTrip(ctx, r, res)
	returned = true
	if err != nil {
		a.Ended(err)
		return err
	}
	res.Body = a.Track(res.Body, a)
	a.judge(res)
	return nil
}

// judge decides by the head of the response whether the target has failed or works again.
func (a *attempt) judge(res *Response) {
	returned := false
	defer func() {
		if !returned { // Failed or Changed has panicked
			res.Body.Close()
		}
	}()
	if a.bad = a.b.Failed != nil && a.b.Failed(res); a.bad {
		a.b.fail(a, fmt.Errorf("gateway: response with status %d", res.Status))
	} else if a.probe {
		a.b.succeed(a)
	}
	returned = true
}

// errPanic says nothing about a target: its Backend has panicked.
var errPanic = errors.New("gateway: the backend panicked")

// cancel takes back an attempt that was not made.
func (a *attempt) cancel() {
	b, t := a.b, a.t
	b.mu.Lock()
	defer b.mu.Unlock()
	t.stats.Requests--
	t.stats.InFlight--
	b.inFlight--
	if a.probe {
		t.probing = false
	}
}

// Ended notes the end of the attempt.
func (a *attempt) Ended(err error) {
	b, t := a.b, a.t
	b.mu.Lock()
	t.stats.InFlight--
	b.inFlight--
	failed := !a.bad && err != nil && err != io.EOF && a.ctx.Err() == nil && isFailure(err)
	switch {
	case a.probe && t.marked:
		t.probing = false // another request may probe; or fail marks the target again
	case !failed && !a.bad && (err == nil || err == io.EOF):
		t.fails = 0
	}
	b.mu.Unlock()
	a.ctx, a.backend = nil, nil // the slab lives longer
	if failed {
		b.fail(a, err)
	}
}

// fail counts a failure and marks the target if there were enough in a row.
func (b *Balancer) fail(a *attempt, reason error) {
	t := a.t
	b.mu.Lock()
	t.stats.Failed++
	t.fails++
	was := t.marked
	mark := b.FailTimeout >= 0 && !t.removed && (a.probe && was || !was && t.fails >= max(b.MaxFails, 1))
	if mark {
		t.marked, t.since, t.probing = true, time.Now(), false
	}
	if mark && !was {
		b.marked++
	}
	b.mu.Unlock()
	if mark && !was && b.Changed != nil {
		b.Changed(t.stats.Name, reason)
	}
}

// succeed notes that the target that a probes responds. The next failure marks it again.
func (b *Balancer) succeed(a *attempt) {
	t := a.t
	b.mu.Lock()
	was := t.marked
	if was {
		t.marked, t.probing, t.fails = false, false, max(b.MaxFails, 1)-1
		if !t.removed {
			b.marked--
		}
	}
	b.mu.Unlock()
	if was && b.Changed != nil {
		b.Changed(t.stats.Name, nil)
	}
}

// failures are causes for which the target is responsible, in every phase.
var failures = [...]error{ErrNoResponse, ErrTruncated, ErrMalformed, ErrTooLarge, syscall.ECONNRESET, syscall.EPIPE}

// maxWeight keeps the products with weights far from an overflow.
const maxWeight = 1 << 20

// isFailure reports whether the target is responsible for err, and not the request, its body or
// this process.
func isFailure(err error) bool {
	e, ok := errors.AsType[*Error](err)
	switch {
	case !ok, e.Phase == PhaseRequest, errors.Is(err, ErrRefused), errors.Is(err, ErrRequestBody), errors.Is(err, ErrBodyTooLarge):
		return false
	case e.Phase == PhaseDial:
		return !paths.Lacking(err)
	case e.Timeout():
		return e.Phase != PhaseWait
	}
	return slices.ContainsFunc(failures[:], func(cause error) bool { return errors.Is(err, cause) })
}

// outscores compares two targets by rendezvous hashing with weights: of all targets the one with
// the highest score receives the requests of a key, so that no key moves but those of a target that
// is gone.
func (t *target) outscores(o *target, key uint64) bool {
	x, y := mix(t.hash^key), mix(o.hash^key)
	if t.weight == o.weight {
		return x > y
	}
	return lot(x)*float64(o.weight) < lot(y)*float64(t.weight)
}

// lot returns a number of the exponential distribution. It falls as x grows.
func lot(x uint64) float64 { return -math.Log((float64(x>>11) + 0.5) / (1 << 53)) }

// hash is the same in every process: FNV-1a, mixed.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix spreads a change of any bit over all bits, as the end of SplitMix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
