package worker

import "context"

// A reload is a Reload in progress: workers of older generations are being replaced. mu of the Pool
// guards it.
type reload struct{ done chan error }

// Reload replaces every worker with a new one, as many at a time as MaxWorkers leaves room for, and
// at least one. An old worker leaves when the new one can take requests; no request is lost. Reload
// returns when the last old worker has ended. If a new worker cannot be started, Reload returns the
// reason, and the remaining old workers stay. If ctx is done, Reload returns its cause;
// replacements that have begun are completed. A second call waits for the first.
func (p *Pool) Reload(ctx context.Context) error {
	if err := p.reloading.lock(ctx); err != nil {
		return err
	}
	defer p.reloading.unlock()
	p.mu.Lock()
	if err := p.open(); err != nil {
		p.mu.Unlock()
		return err
	}
	r := &reload{done: make(chan error, 1)}
	p.reload = r
	p.current++
	p.run.wake()
	p.mu.Unlock()
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reload == r {
		p.reload = nil
	}
	return context.Cause(ctx)
}

// endReload ends a Reload that is in progress. mu is held.
func (p *Pool) endReload(err error) {
	if p.reload != nil {
		p.reload.done <- err
		p.reload = nil
	}
}

// checkReload ends a Reload when no old worker is left. mu is held.
func (p *Pool) checkReload() {
	for _, w := range p.workers {
		if w.generation < p.current {
			return
		}
	}
	p.endReload(nil)
}

// old returns the number of workers that are to be replaced and have not been told to leave. mu is
// held.
func (p *Pool) old() (n int) {
	for _, w := range p.workers {
		if w.generation < p.current && w.state <= Busy {
			n++
		}
	}
	return n
}

// toReplace returns the number of workers that a Reload asks for. mu is held.
func (p *Pool) toReplace() int {
	if p.reload == nil {
		return 0
	}
	return p.old() - p.replacing()
}

// replacing returns the number of workers that start in the place of old ones. mu is held.
func (p *Pool) replacing() (n int) {
	for _, w := range p.workers {
		if w.state == Starting && w.replaces {
			n++
		}
	}
	return n
}

// replace makes an old worker leave, since a new one can take requests: an idle one, or the one
// that was used last. mu is held.
func (p *Pool) replace() {
	var old *worker
	for _, w := range p.workers {
		if w.generation < p.current && w.state <= Busy && (old == nil || old.state > w.state) {
			old = w
		}
	}
	if old != nil {
		p.leave(old)
	}
}
