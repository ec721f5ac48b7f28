package client

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A Closer is a connection that a Pool can keep.
type Closer interface {
	comparable
	Close() error
}

// A Pool counts connections and keeps idle ones. The zero value is ready; the fields must be set
// before the first use. Several goroutines may use it at once. It does not know whether an idle
// connection is still good: fastcgi checks that in clientConn.usable before it uses one, and in
// reusable before it returns one.
//
// The Pool owns a connection between Put and Get. mu is locked after every other lock, and no call
// that can block is made while it is held.
type Pool[C Closer] struct {
	Max     int           // connections at once; 0 means no limit
	MaxIdle int           // idle connections; 0 means that none is kept
	MaxAge  time.Duration // how long one is kept idle; 0 means no limit

	mu      sync.Mutex
	open    int
	idle    []kept[C] // the one that was returned last is taken first
	waiters []chan grant[C]
	timer   *time.Timer
}

type kept[C Closer] struct {
	c     C
	since time.Time
}

// A grant is what a waiting caller receives: a kept connection, or the right to open one.
type grant[C Closer] struct {
	c    C
	kept bool
}

// Get returns an idle connection, or with kept false a place for a new one. The caller returns
// either with Put or Drop. Get waits while Max connections are in use, until ctx is done. If ctx is
// done already, it returns the cause.
func (p *Pool[C]) Get(ctx context.Context) (c C, kept bool, err error) {
	if ctx.Err() != nil {
		return c, false, context.Cause(ctx)
	}
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		c = p.idle[n-1].c
		p.idle = slices.Delete(p.idle, n-1, n)
		p.mu.Unlock()
		return c, true, nil
	}
	if p.Max <= 0 || p.open < p.Max {
		p.open++
		p.mu.Unlock()
		return c, false, nil
	}
	wait := make(chan grant[C], 1) // with room, since the grant is sent while mu is held
	p.waiters = append(p.waiters, wait)
	p.mu.Unlock()
	select {
	case g := <-wait:
		return g.c, g.kept, nil
	case <-ctx.Done():
		p.giveUp(wait)
		return c, false, context.Cause(ctx)
	}
}

// giveUp passes on what may have been granted to a caller that no longer waits.
func (p *Pool[C]) giveUp(wait chan grant[C]) {
	p.mu.Lock()
	i := slices.Index(p.waiters, wait)
	if i >= 0 {
		p.waiters = slices.Delete(p.waiters, i, i+1)
	}
	p.mu.Unlock()
	if i >= 0 {
		return
	}
	// The grant was sent after ctx was done and before this caller was removed.
	if g := <-wait; g.kept {
		p.Put(g.c)
	} else {
		p.Drop()
	}
}

// Put returns a connection that can carry another request.
func (p *Pool[C]) Put(c C) {
	if !p.keep(c) {
		c.Close()
	}
}

// keep passes c to a waiting caller or to the idle connections. It returns false if these are
// enough.
func (p *Pool[C]) keep(c C) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.grantLocked(grant[C]{c, true}) {
		return true
	}
	if len(p.idle) >= p.MaxIdle {
		p.open--
		return false
	}
	p.idle = append(p.idle, kept[C]{c, time.Now()})
	switch {
	case p.MaxAge <= 0:
	case p.timer == nil:
		p.timer = time.AfterFunc(p.MaxAge, p.expire)
	case len(p.idle) == 1:
		p.timer.Reset(p.MaxAge)
	}
	return true
}

// Drop notes that a connection is closed, or was not opened.
func (p *Pool[C]) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.grantLocked(grant[C]{}) {
		p.open--
	}
}

// grantLocked passes g to the caller that has waited longest, if one waits. mu is held.
func (p *Pool[C]) grantLocked(g grant[C]) bool {
	if len(p.waiters) == 0 {
		return false
	}
	p.waiters[0] <- g
	p.waiters = slices.Delete(p.waiters, 0, 1)
	return true
}

// expire closes the connections that have been idle too long.
func (p *Pool[C]) expire() { closeAll(p.takeExpired()) }

// takeExpired removes the connections that have been idle too long. The oldest come first.
func (p *Pool[C]) takeExpired() []kept[C] {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	n := 0
	for n < len(p.idle) && now.Sub(p.idle[n].since) >= p.MaxAge {
		n++
	}
	expired := slices.Clone(p.idle[:n])
	p.idle = slices.Delete(p.idle, 0, n)
	p.open -= n
	if len(p.idle) > 0 {
		p.timer.Reset(p.MaxAge - now.Sub(p.idle[0].since))
	}
	return expired
}

// CloseIdle closes the idle connections.
func (p *Pool[C]) CloseIdle() { closeAll(p.takeIdle()) }

// takeIdle removes all idle connections. The timer stops, and runs again after the next Put.
func (p *Pool[C]) takeIdle() []kept[C] {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := p.idle
	p.idle = nil
	p.open -= len(idle)
	if p.timer != nil {
		p.timer.Stop()
	}
	return idle
}

func closeAll[C Closer](conns []kept[C]) {
	for _, k := range conns {
		k.c.Close()
	}
}

// Counts returns the number of idle connections and of waiting callers.
func (p *Pool[C]) Counts() (idle, waiting int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle), len(p.waiters)
}
