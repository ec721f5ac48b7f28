package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/track"
)

// An exchange is a request that a worker has, until its response has ended. It is used once. The
// goroutine of RoundTrip owns it, and then the reader of the response's Body. mu of the Pool guards
// late, slow and upgraded.
type exchange struct {
	track.Body
	p      *Pool
	w      *worker
	ctx    context.Context
	cancel context.CancelCauseFunc // nil unless RequestTimeout is to end the exchange alone
	begun  time.Time

	late     bool // RequestTimeout has passed
	slow     bool // SlowTimeout has passed
	upgraded bool // the response is a 101: the time-outs are over
}

// give gives r to w. mu is held.
func (p *Pool) give(w *worker, ctx context.Context, r *gateway.Request) *exchange {
	now := time.Now()
	x := p.exchanges.Get(len(p.workers) * p.concurrency())
	x.p, x.w, x.ctx, x.begun = p, w, ctx, now
	w.active = append(w.active, x)
	w.inFlight++
	w.requests++
	p.uses++
	w.used = p.uses
	p.status.Requests++
	w.job.begin(x, r)
	if w.state == Idle {
		w.state = Busy
	}
	if p.Recycle > 0 && w.requests >= uint64(p.Recycle) {
		p.leave(w)
	}
	p.noteBusy()
	if d := p.timeout(); d > 0 {
		p.run.by(now.Add(d))
	}
	return x
}

// timeout returns the nearest of RequestTimeout and SlowTimeout, or 0.
func (p *Pool) timeout() time.Duration {
	switch {
	case p.RequestTimeout <= 0:
		return max(p.SlowTimeout, 0)
	case p.SlowTimeout <= 0:
		return p.RequestTimeout
	}
	return min(p.RequestTimeout, p.SlowTimeout)
}

// noteBusy notes how many workers are busy, and whether enough are idle. mu is held.
func (p *Pool) noteBusy() {
	busy, idle := 0, 0
	for _, w := range p.workers {
		switch {
		case w.inFlight > 0:
			busy++
		case w.state == Idle:
			idle++
		}
	}
	p.status.PeakBusy = max(p.status.PeakBusy, busy)
	if idle < p.MinIdle || p.MaxIdle > 0 && idle > p.MaxIdle {
		p.run.by(p.run.second.Add(time.Second))
	}
}

// roundTrip sends r to the worker. If it fails, or the client panics, the exchange is over.
func (x *exchange) roundTrip(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
	if x.p.RequestTimeout > 0 && x.p.concurrency() > 1 {
		ctx = x.cancelable(ctx)
	}
	returned := false
	defer func() {
		if !returned {
			x.Ended(errPanic)
		}
	}()
	err := x.w.client.RoundTrip(ctx, r, res)
	returned = true
	if err != nil {
		e, ok := errors.AsType[*gateway.Error](err)
		if ok && e.Phase == gateway.PhaseRequest {
			x.p.release(x, untouched)
		} else {
			x.p.release(x, broken)
		}
		return x.explain(err)
	}
	res.Body = x.track(res.Body)
	return nil
}

// errPanic is the end of an exchange whose Client has panicked.
var errPanic = errors.New("worker: the client panicked")

func (x *exchange) cancelable(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	x.p.mu.Lock()
	defer x.p.mu.Unlock()
	x.cancel = cancel
	if x.late { // already
		cancel(errLate)
	}
	return ctx
}

// errLate is the cause of a request over RequestTimeout.
var errLate = fmt.Errorf("worker: request over RequestTimeout: %w", os.ErrDeadlineExceeded)

// track returns the Body with which the exchange ends.
func (x *exchange) track(body io.ReadCloser) io.ReadCloser {
	tracked := x.Track(body, x)
	if tracked == io.ReadCloser(&x.Body) {
		return x
	}
	x.p.mu.Lock()
	defer x.p.mu.Unlock()
	x.upgraded = true // a stream
	return tracked
}

// Read reads the body of the response.
func (x *exchange) Read(p []byte) (int, error) {
	n, err := x.Body.Read(p)
	if err != nil && err != io.EOF {
		err = x.explain(err)
	}
	return n, err
}

// Close ends the exchange. If the response has arrived completely, though it was not read, the
// worker is free.
func (x *exchange) Close() error {
	var b [1]byte
	if x.Ready() {
		x.Body.Read(b[:]) // io.EOF ends the exchange well
	}
	return x.Body.Close()
}

// Ended ends an exchange with a response: err is io.EOF if that is complete.
func (x *exchange) Ended(err error) {
	if err != nil && err != io.EOF {
		x.p.count.Failed(err)
	}
	x.p.count.End()
	if err == io.EOF {
		x.p.release(x, complete)
	} else {
		x.p.release(x, broken)
	}
}

// deathWait is how long the end of a process may take to be noticed after its connections have
// ended.
const deathWait = 100 * time.Millisecond

// explain returns the error of an exchange with what is known of its worker.
func (x *exchange) explain(err error) error {
	e, ok := errors.AsType[*gateway.Error](err)
	if !ok || x.ctx.Err() != nil {
		return err
	}
	x.p.mu.Lock()
	late := x.late
	x.p.mu.Unlock()
	explained := *e
	switch {
	case late:
		explained.Err = errLate
	case e.Timeout() || errors.Is(err, gateway.ErrRequestBody) || !x.w.ended(deathWait):
		return err
	default:
		explained.Err = fmt.Errorf("%w (%w)", e.Err, &ExitError{x.w.pid, x.w.process.State()})
	}
	return &explained
}

// An ending is how an exchange ended.
type ending uint8

const (
	complete  ending = iota // its response has ended
	untouched               // the worker has seen nothing of it
	broken                  // the worker may still be busy with it
)

// release ends an exchange.
func (p *Pool) release(x *exchange, how ending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := x.w
	w.remove(x)
	w.job.end(x)
	if x.cancel != nil {
		x.cancel(nil)
	}
	if how == complete {
		w.responded = true
		p.failure = failure{}
	}
	if how == broken && !x.upgraded && p.concurrency() == 1 && w.state <= Leaving && !w.exited {
		w.checking = true
		go p.check(w)
		return
	}
	w.inFlight--
	p.settle(w)
}

// check finds out whether a worker is free after a request that broke off.
func (p *Pool) check(w *worker) {
	w.closeClient() // a kept connection would keep the worker busy
	err := w.isFree()
	p.mu.Lock()
	defer p.mu.Unlock()
	w.checking = false
	w.inFlight--
	if err != nil && !w.exited && w.state <= Leaving {
		p.logger().Warn("worker killed", "pool", p.name(), "pid", w.pid, "error", fmt.Errorf("after a request that broke off: %w", err))
		p.kill(w)
	}
	p.settle(w)
}

// settle decides what a worker with one request less does. mu is held.
func (p *Pool) settle(w *worker) {
	switch {
	case w.inFlight > 0:
	case w.state == Leaving:
		p.end(w)
	case w.state == Busy:
		w.state, w.idleAt = Idle, time.Now()
		if d := p.idleTimeout(); d > 0 {
			p.run.by(w.idleAt.Add(d))
		}
		p.noteBusy()
	}
	p.dispatch()
}

// remove removes an exchange from those of its worker. mu of the Pool is held.
func (w *worker) remove(x *exchange) {
	if i := slices.Index(w.active, x); i >= 0 {
		w.active = slices.Delete(w.active, i, i+1)
	}
}
