package client

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

type conn struct{ shut atomic.Bool }

func (c *conn) Close() error { c.shut.Store(true); return nil }

func (c *conn) closed() bool { return c.shut.Load() }

func get(t *testing.T, p *Pool[*conn]) (c *conn, kept bool) {
	t.Helper()
	c, kept, err := p.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c, kept
}

func TestMaxIdle(t *testing.T) {
	p := &Pool[*conn]{MaxIdle: 1, MaxAge: time.Minute}
	conns := []*conn{{}, {}, {}}
	for range conns {
		get(t, p)
	}
	for _, c := range conns {
		p.Put(c)
	}
	if idle, _ := p.Counts(); idle != 1 || conns[0].closed() || !conns[1].closed() || !conns[2].closed() || open(p) != 1 {
		t.Errorf("%d idle, %d open", idle, open(p))
	}
	if c, kept := get(t, p); !kept || c != conns[0] {
		t.Errorf("%v %v", c, kept)
	}
	p.Put(conns[0])
	p.CloseIdle()
	if idle, _ := p.Counts(); idle != 0 || !conns[0].closed() || open(p) != 0 {
		t.Errorf("%d idle, %d open", idle, open(p))
	}
}

func TestMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool[*conn]{MaxIdle: 2, MaxAge: time.Minute}
		first, second := new(conn), new(conn)
		get(t, p)
		get(t, p)
		p.Put(first)
		time.Sleep(30 * time.Second)
		p.Put(second)
		time.Sleep(31 * time.Second)
		if !first.closed() || second.closed() {
			t.Errorf("after 61 s: %v %v", first.closed(), second.closed())
		}
		time.Sleep(30 * time.Second)
		if !second.closed() || open(p) != 0 {
			t.Errorf("after 91 s: %v, %d open", second.closed(), open(p))
		}
		third := new(conn)
		get(t, p)
		p.Put(third)
		time.Sleep(61 * time.Second)
		if !third.closed() {
			t.Error("the second time around nothing expires")
		}
	})
}

func TestMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool[*conn]{Max: 1, MaxIdle: 1, MaxAge: time.Minute}
		defer p.CloseIdle()
		get(t, p)
		granted := make(chan bool, 3)
		for range 2 {
			go func() {
				_, kept, _ := p.Get(context.Background())
				granted <- kept
			}()
		}
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			_, _, err := p.Get(ctx)
			gone <- err
		}()
		synctest.Wait()
		if _, waiting := p.Counts(); waiting != 3 {
			t.Errorf("%d wait", waiting)
		}
		cancel()
		if err := <-gone; err != context.Canceled {
			t.Errorf("got %v", err)
		}
		p.Put(new(conn))
		if !<-granted {
			t.Error("a waiter did not get the connection that was put back")
		}
		p.Drop()
		if <-granted {
			t.Error("a waiter got a connection that was dropped")
		}
		p.Drop()
		if open(p) != 0 {
			t.Errorf("%d open", open(p))
		}
	})
}

// A connection that was granted to a caller that has just stopped waiting goes to the next caller.
func TestGiveUp(t *testing.T) {
	p := &Pool[*conn]{Max: 1, MaxIdle: 1, MaxAge: time.Minute}
	defer p.CloseIdle()
	for _, c := range []*conn{nil, {}} {
		p.open = 1
		wait := make(chan grant[*conn], 1)
		wait <- grant[*conn]{c, c != nil}
		p.giveUp(wait)
		if idle, _ := p.Counts(); c == nil && open(p) != 0 || c != nil && idle != 1 {
			t.Errorf("%d open, %d idle", open(p), idle)
		}
	}
}

// open is how many connections p counts.
func open(p *Pool[*conn]) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

// slow is a connection whose Close waits.
type slow struct{ release chan struct{} }

func (c *slow) Close() error { <-c.release; return nil }

// TestSlowClose checks that a Close that waits does not delay other callers of the pool.
func TestSlowClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool[*slow]{MaxIdle: 1, MaxAge: time.Minute}
		c := &slow{make(chan struct{})}
		for range 3 {
			p.Get(t.Context())
		}
		p.Put(c)
		go p.Put(c)
		synctest.Wait()
		go p.CloseIdle()
		synctest.Wait()
		if _, kept, err := p.Get(t.Context()); kept || err != nil {
			t.Errorf("kept %v, %v", kept, err)
		}
		close(c.release)
	})
}
