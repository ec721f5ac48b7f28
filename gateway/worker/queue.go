package worker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// A waiter is a request that waits for a worker.
type waiter struct {
	ctx     context.Context
	r       *gateway.Request
	except  *worker   // which has failed it
	since   time.Time // when it began to wait
	granted chan grant
}

// A grant is what a waiter receives: a worker that was given the request, or an error.
type grant struct {
	x   *exchange
	err error
}

// take gives r to a worker other than except. It waits while none is free.
func (p *Pool) take(ctx context.Context, r *gateway.Request, except *worker) (*exchange, error) {
	if ctx.Err() != nil {
		return nil, &gateway.Error{Phase: gateway.PhaseWait, Addr: p.name(), Err: context.Cause(ctx)}
	}
	p.mu.Lock()
	wait, x, err := p.tryTake(ctx, r, except)
	p.mu.Unlock()
	if wait != nil {
		x, err = p.await(wait)
	}
	if err != nil {
		return nil, &gateway.Error{Phase: gateway.PhaseWait, Addr: p.name(), Err: err}
	}
	return x, nil
}

// tryTake gives r to a free worker, or returns the waiter that it has become. mu is held.
func (p *Pool) tryTake(ctx context.Context, r *gateway.Request, except *worker) (*waiter, *exchange, error) {
	if err := p.open(); err != nil {
		return nil, nil, err
	}
	if w := p.free(except); w != nil {
		return nil, p.give(w, ctx, r), nil
	}
	if p.failure.err != nil && p.live() == 0 {
		p.failure.wanted = true // the next start need not wait for another request
		p.run.wake()
		return nil, nil, fmt.Errorf("%w: %w", ErrDown, p.failure.err)
	}
	if len(p.waiting) >= p.maxWaiting() {
		return nil, nil, fmt.Errorf("worker: more than %d requests wait: %w", p.maxWaiting(), gateway.ErrRefused)
	}
	wait := &waiter{ctx: ctx, r: r, except: except, since: time.Now(), granted: make(chan grant, 1)}
	if except != nil { // it has waited before
		p.waiting = slices.Insert(p.waiting, 0, wait)
	} else {
		p.waiting = append(p.waiting, wait)
	}
	p.status.PeakWaiting = max(p.status.PeakWaiting, len(p.waiting))
	if p.live() >= p.maxWorkers() {
		p.status.LimitReached++
	}
	p.run.wake()
	return wait, nil, nil
}

// await waits until wait is granted, its context is done or WaitTimeout has passed.
func (p *Pool) await(wait *waiter) (*exchange, error) {
	var late <-chan time.Time
	if d := p.waitTimeout(); d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case g := <-wait.granted:
		return g.x, g.err
	case <-wait.ctx.Done():
		return nil, p.giveUp(wait, context.Cause(wait.ctx))
	case <-late:
		return nil, p.giveUp(wait, fmt.Errorf("worker: no worker was free for %v: %w", p.waitTimeout(), gateway.ErrRefused))
	}
}

// giveUp removes a waiter. A worker that it has been granted meanwhile goes to the next one.
func (p *Pool) giveUp(wait *waiter, err error) error {
	p.mu.Lock()
	i := slices.Index(p.waiting, wait)
	if i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		p.status.Waited += time.Since(wait.since)
	}
	p.mu.Unlock()
	if i >= 0 {
		return err
	}
	if g := <-wait.granted; g.x != nil {
		p.giveBack(g.x)
	}
	return err
}

// giveBack takes back a request that was given to a worker and not sent.
func (p *Pool) giveBack(x *exchange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := x.w
	w.remove(x)
	w.requests--
	p.status.Requests--
	w.inFlight--
	p.settle(w)
}

// dispatch gives waiting requests to free workers. mu is held.
func (p *Pool) dispatch() {
	for i := 0; i < len(p.waiting); {
		wait := p.waiting[i]
		w := p.free(wait.except)
		if w == nil && wait.except == nil {
			return
		}
		if w == nil { // the one that is free has failed it
			i++
			continue
		}
		p.waiting = slices.Delete(p.waiting, i, i+1)
		p.status.Waited += time.Since(wait.since)
		wait.granted <- grant{x: p.give(w, wait.ctx, wait.r)}
	}
}

// failWaiting ends the waits. mu is held.
func (p *Pool) failWaiting(err error) {
	for _, wait := range p.waiting {
		wait.granted <- grant{err: err}
	}
	p.waiting = nil
}

// free returns the worker that is to take the next request: the least busy one, and of those the
// one that was used last, so that the others age. mu is held.
func (p *Pool) free(except *worker) (best *worker) {
	limit := p.concurrency()
	for _, w := range p.workers {
		switch {
		case w.state != Idle && w.state != Busy || w.checking || w.inFlight >= limit || w == except:
		case best == nil || w.inFlight < best.inFlight || w.inFlight == best.inFlight && w.used > best.used:
			best = w
		}
	}
	return best
}

// live returns the number of workers that take requests, or will. mu is held.
func (p *Pool) live() (n int) {
	for _, w := range p.workers {
		if w.state <= Busy {
			n++
		}
	}
	return n
}
