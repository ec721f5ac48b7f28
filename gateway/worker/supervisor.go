package worker

import (
	"fmt"
	"runtime"
	"time"
)

const (
	firstDelay = 100 * time.Millisecond // of a start after one that failed
	lastDelay  = 30 * time.Second
	maxRate    = 32 // workers that MinIdle starts in a second
)

// A run is the time from the first use of a Pool to Close, or to the end of Shutdown. mu of the
// Pool guards its fields.
type run struct {
	poke     chan struct{} // the supervisor is to look at the Pool
	over     chan struct{} // closed when the supervisor has ended, and no worker is left
	closing  bool
	starters []*starter

	next    time.Time // when the supervisor looks without being woken; zero means not at all
	second  time.Time // when MinIdle and MaxIdle were last looked at
	rate    int       // workers that MinIdle starts next
	dir     string    // the private folder, or "" if there is none
	sockets int       // folders of sockets that were made
}

// wake makes the supervisor look at the Pool.
func (r *run) wake() {
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

// by makes the supervisor look at the Pool by that time. mu of the Pool is held.
func (r *run) by(t time.Time) {
	if r.next.IsZero() || t.Before(r.next) {
		r.next = t
		r.wake()
	}
}

// A failure is what is known of the last starts: err is why they failed.
type failure struct {
	err    error
	delay  time.Duration
	until  time.Time // no worker is started before
	wanted bool      // a request has been refused since
}

// note notes that a start has failed. Several that began together count as one.
func (f *failure) note(err error) {
	f.err = err
	now := time.Now()
	if now.Before(f.until) {
		return
	}
	f.delay = min(max(2*f.delay, firstDelay), lastDelay)
	f.until = now.Add(f.delay)
}

// supervise starts workers and ends them, until none is left after Close or Shutdown. It alone
// starts processes: on Linux they end with the thread that started them, which is therefore this
// goroutine's.
func (p *Pool) supervise(r *run) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		begun, over := p.look(r, time.Now())
		if over {
			return
		}
		for _, w := range begun {
			p.launch(r, w)
		}
		if len(begun) > 0 {
			continue
		}
		p.mu.Lock()
		next := r.next
		p.mu.Unlock()
		timer.Reset(time.Hour)
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
		select {
		case <-r.poke:
		case <-timer.C:
		}
	}
}

// look decides what is to be done now: it returns the workers that are to be started, and ends
// others. over says that the run is over.
func (p *Pool) look(r *run, now time.Time) (begun []*worker, over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.next = time.Time{}
	if r.closing || p.stopping {
		if len(p.workers) == 0 {
			p.finish(r)
			return nil, true
		}
		p.checkTimes(r, now)
		return nil, false
	}
	p.checkTimes(r, now)
	p.endIdle(r, now)
	p.checkReload()
	for range p.missing(r, now) {
		begun = append(begun, p.begin(r, now))
	}
	return begun, false
}

// finish ends a run. mu is held.
func (p *Pool) finish(r *run) {
	p.run = nil
	p.failure = failure{}
	removeAll(r.dir)
	close(r.over)
}

// begin adds a worker that is to be started. mu is held.
func (p *Pool) begin(r *run, now time.Time) *worker {
	r.sockets++
	w := &worker{
		p: p, in: r, number: r.sockets, since: now, generation: p.current, replaces: p.reload != nil,
		begun: make(chan struct{}), done: make(chan struct{}),
	}
	p.workers = append(p.workers, w)
	p.status.Started++
	return w
}

// missing returns the number of workers that are to be started now. mu is held.
func (p *Pool) missing(r *run, now time.Time) int {
	c := p.census()
	wanted := max(p.MinWorkers, 0) - c.live
	if n := (len(p.waiting)+p.concurrency()-1)/p.concurrency() - c.starting; n > 0 {
		wanted = max(wanted, n)
	}
	if p.failure.wanted && c.live == 0 {
		wanted = max(wanted, 1)
	}
	wanted = max(wanted, p.spare(r, now, c), p.toReplace())
	wanted = min(wanted, p.room(c))
	if wanted <= 0 {
		return 0
	}
	if now.Before(p.failure.until) {
		r.by(p.failure.until)
		return 0
	}
	if p.failure.err != nil { // one tries whether it works again
		wanted = min(wanted, 1-min(c.starting, 1))
	}
	p.failure.wanted = false
	return wanted
}

// room returns the number of workers that may be started. While one is replaced there may be one
// more than MaxWorkers. mu is held.
func (p *Pool) room(c census) int {
	limit := p.maxWorkers()
	reloading := p.reload != nil && p.old() > 0
	switch room := limit - c.all; {
	case reloading && room > 0:
		return room
	case reloading:
		return room + 1
	case c.all > c.live:
		return min(limit-c.live, room+1)
	default:
		return room
	}
}

// A census counts workers.
type census struct {
	all      int // of which something is left
	live     int // that take requests, or will
	starting int
	idle     int
}

// census counts the workers. mu is held.
func (p *Pool) census() (c census) {
	c.all, c.live = len(p.workers), p.live()
	for _, w := range p.workers {
		switch w.state {
		case Starting:
			c.starting++
		case Idle:
			c.idle++
		}
	}
	return c
}

// spare returns the number of workers that MinIdle asks for: 1, 2, 4 and so on, a second. mu is
// held.
func (p *Pool) spare(r *run, now time.Time, c census) int {
	lack := p.MinIdle - c.idle - c.starting
	if p.MinIdle <= 0 || c.idle >= p.MinIdle {
		r.rate = 1
		return 0
	}
	if wait := r.second.Add(time.Second).Sub(now); wait > 0 {
		r.by(now.Add(wait))
		return 0
	}
	r.second = now
	r.by(now.Add(time.Second))
	n := min(max(r.rate, 1), lack)
	r.rate = min(2*max(r.rate, 1), maxRate)
	return n
}

// endIdle ends workers that have been idle for too long, and one a second of those above MaxIdle:
// first the one that has not been used for longest. mu is held.
func (p *Pool) endIdle(r *run, now time.Time) {
	for {
		c := p.census()
		w := p.leastUsed()
		if w == nil || c.live <= p.MinWorkers || c.idle <= p.MinIdle {
			return
		}
		timeout := p.idleTimeout()
		switch {
		case timeout > 0 && now.Sub(w.idleAt) >= timeout:
			p.end(w)
			continue
		case timeout > 0:
			r.by(w.idleAt.Add(timeout))
		}
		if p.MaxIdle <= 0 || c.idle <= p.MaxIdle {
			return
		}
		if wait := r.second.Add(time.Second).Sub(now); wait > 0 {
			r.by(now.Add(wait))
			return
		}
		r.second = now
		p.end(w)
	}
}

// leastUsed returns the idle worker that has not been used for longest, or nil. mu is held.
func (p *Pool) leastUsed() (least *worker) {
	for _, w := range p.workers {
		if w.state == Idle && (least == nil || w.used < least.used) {
			least = w
		}
	}
	return least
}

// checkTimes ends the requests that take too long, and reports the slow ones. mu is held.
func (p *Pool) checkTimes(r *run, now time.Time) {
	if p.timeout() <= 0 {
		return
	}
	for _, w := range p.workers {
		for _, x := range w.active {
			p.checkTime(r, x, now)
		}
	}
}

func (p *Pool) checkTime(r *run, x *exchange, now time.Time) {
	if x.upgraded {
		return
	}
	if d := p.SlowTimeout; d > 0 && !x.slow {
		if end := x.begun.Add(d); now.Before(end) {
			r.by(end)
		} else {
			x.slow = true
			p.status.Slow++
			go p.reportSlow(x.w.pid, x.w.job.at(now))
		}
	}
	if d := p.RequestTimeout; d > 0 && !x.late {
		if end := x.begun.Add(d); now.Before(end) {
			r.by(end)
			return
		}
		x.late = true
		switch {
		case p.concurrency() == 1:
			p.kill(x.w)
		case x.cancel != nil:
			x.cancel(errLate)
		}
	}
}

// reportSlow reports a slow request.
func (p *Pool) reportSlow(pid int, job Job) {
	defer p.recovered("Slow")
	if p.Slow != nil {
		p.Slow(pid, job)
		return
	}
	p.logger().Warn("slow request", "pool", p.name(), "pid", pid, "method", job.Method, "path", pathOf(job.URI), "duration", job.Duration)
}

// recovered logs a panic of a function of the caller.
func (p *Pool) recovered(what string) {
	if v := recover(); v != nil {
		p.logger().Error(what+" panicked", "pool", p.name(), "panic", fmt.Sprint(v), "stack", stack())
	}
}
