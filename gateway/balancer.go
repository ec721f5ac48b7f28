package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/internal/slab"
)

// Balancer is a RoundTripper that distributes requests over several backends, its targets. It gives
// each request to the target with the fewest requests in flight for its weight; targets that are
// equally busy take turns. If a target fails, the request is sent to another one where that is
// safe. Set the fields before the first use and do not change them afterwards. The methods may be
// called by several goroutines at once.
//
// A target fails if no connection can be made, if it closes or resets a connection or truncates a
// response, if its response is malformed, or if it is late. Errors that are the fault of the
// request or of this process do not count, nor does a request whose context is done. ErrRefused
// means that a target is busy: it is passed over and not marked. After MaxFails failures in a row a
// target is marked: it receives no requests for FailTimeout. Then one request probes it, and the
// target is used again if it responds. If every target is marked, the one that was marked first is
// tried: a Balancer never refuses a request because of past failures.
//
// A request is sent to another target if MayRetry allows it, and to each target at most once. A
// POST that a target may have begun is therefore never sent to another.
type Balancer struct {
	// Targets is the initial list of targets. SetTargets replaces it.
	Targets []Target

	// Key, if not nil, returns the key of a request. Requests with the same key go to the same
	// target while it is not marked. An empty key means the least busy target.
	Key func(r *Request) string

	// MaxFails is the number of failures in a row after which a target is marked. Zero or a
	// negative value means 1.
	MaxFails int

	// FailTimeout is how long a marked target receives no requests. Zero means 10 seconds; a
	// negative value means that no target is ever marked.
	FailTimeout time.Duration

	// MaxTries limits the number of targets that a request is sent to. Zero or a negative value
	// means all of them.
	MaxTries int

	// Failed, if not nil, reports whether a response counts as a failure, such as one with the
	// status 503. A request that may be repeated is then sent to another target. Any other request
	// receives the response as it is, and so does one for which no other target is left.
	Failed func(res *Response) bool

	// Changed, if not nil, is called when a target is marked, with the reason, and when it is used
	// again, with a nil error. It is not called when a probe fails. Several goroutines may call it
	// at once. It must not block.
	Changed func(name string, err error)

	once     sync.Once
	attempts slab.Pool[attempt]

	// mu guards the fields below and the targets. No function of the caller is called while it is
	// held.
	mu       sync.Mutex
	targets  []*target
	inFlight int
	marked   int // how many of targets are
}

// Target is one backend of a Balancer.
type Target struct {
	// Name identifies the target in Stats and Changed, and Key chooses by it. Of several targets
	// with the same name, or without one, only the last is used.
	Name string

	// Backend receives the requests.
	Backend RoundTripper

	// Weight is the target's share of the requests. Zero or a negative value means 1.
	Weight int

	// Backup reserves the target for requests for which no other one is left: the others are
	// marked, or have failed this request.
	Backup bool
}

// TargetStats holds the counters of a target since it was added, and its current state.
type TargetStats struct {
	// Name is the name of the target.
	Name string

	// Requests counts the requests that were sent to the target, and Failed those that failed.
	Requests, Failed uint64

	// InFlight is the number of requests whose response has not ended. Those that wait for a
	// connection are included.
	InFlight int

	// MarkedUntil is when a marked target will be probed. It is zero if the target is not marked.
	MarkedUntil time.Time
}

// SetTargets replaces the targets. A target whose Name was there before keeps its counters and its
// mark. A target that is removed receives no new requests; those that it has go on. Its Backend is
// not closed.
func (b *Balancer) SetTargets(targets ...Target) {
	b.once.Do(func() {}) // the field Targets no longer counts
	b.mu.Lock()
	defer b.mu.Unlock()
	b.set(targets)
}

// setUp sets the initial targets.
func (b *Balancer) setUp() {
	b.once.Do(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.set(b.Targets)
	})
}

// Stats returns the statistics of every target, in the order of the targets.
func (b *Balancer) Stats() []TargetStats {
	b.setUp()
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]TargetStats, len(b.targets))
	for i, t := range b.targets {
		if all[i] = t.stats; t.marked {
			all[i].MarkedUntil = t.since.Add(b.failTimeout())
		}
	}
	return all
}

// RoundTrip sends r to a target. It returns the error of the last target that was tried. Without
// targets the error is ErrRefused in PhaseWait.
func (b *Balancer) RoundTrip(ctx context.Context, r *Request, res *Response) error {
	b.setUp()
	var key string
	if b.Key != nil {
		key = b.Key(r)
	}
	res.Reset()
	var memory [8]*target
	tried := memory[:0]
	a := b.choose(key, tried)
	if a == nil {
		return &Error{Phase: PhaseWait, Err: fmt.Errorf("no targets: %w", ErrRefused)}
	}
	for {
		tried = append(tried, a.t)
		err := a.roundTrip(ctx, r, res)
		if err == nil && !a.bad || ctx.Err() != nil || len(tried) == b.MaxTries {
			return err
		}
		if a, r = b.again(key, tried, r, res, err); a == nil {
			return err
		}
	}
}

// badResponse takes the place of an error after a response that counts as a failure. For it
// MayRetry looks at the method and the body of the request alone.
var badResponse = &Error{Phase: PhaseHead, Sent: true, Err: ErrNoResponse}

// again returns an attempt at another target after err, which is nil if there was a response, and
// the request for it. The attempt is nil if the request must not be repeated or no target is left.
func (b *Balancer) again(key string, tried []*target, r *Request, res *Response, err error) (a *attempt, next *Request) {
	bad := err == nil
	if bad {
		err = badResponse
	}
	if !MayRetry(err, r) {
		return nil, nil
	}
	if a = b.choose(key, tried); a == nil {
		return nil, nil
	}
	defer func() {
		if next == nil { // GetBody has failed, or a function of the caller has panicked
			a.cancel()
			a = nil
		}
	}()
	prepared := false
	defer func() {
		if bad && !prepared && next == nil { // GetBody has panicked
			res.Body.Close()
		}
	}()
	again, err := repeat(r, err)
	prepared = true
	if err != nil {
		return a, nil
	}
	if bad {
		res.Body.Close()
	}
	return a, again
}

// repeat returns the request to be sent after err. A body that may have been read is read again
// from its beginning.
func repeat(r *Request, err error) (*Request, error) {
	e, _ := errors.AsType[*Error](err)
	if body, _ := r.body(); body == nil || e.Phase == PhaseWait || e.Phase == PhaseDial {
		return r, nil
	}
	body, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	next := new(Request) // r does not change
	next.CopyFrom(r)
	next.Body = body
	return next, nil
}
