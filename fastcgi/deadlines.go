package fastcgi

import (
	"time"

	"github.com/gatehouse-go/gatehouse/internal/server"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// deadlineReader reads from the connection under the deadline that its state asks for.
type deadlineReader serverConn

func (d *deadlineReader) Read(p []byte) (int, error) {
	c := (*serverConn)(d)
	at := atRecord
	if c.rec.left > 0 || c.rec.pad > 0 || c.rec.in.Len() > 0 {
		at = inRecord
	}
	if c.inControl() {
		at = inControl
	}
	c.setDeadline(at)
	return c.c.Read(p)
}

// inControl reports whether the rest of the current record cannot be left for later, as that of a stream can.
func (c *serverConn) inControl() bool {
	return c.rec.left > 0 && c.rec.h.Type != TypeStdin && c.rec.h.Type != TypeData
}

// place is where in the input a read begins.
type place uint8

const (
	atRecord  place = iota // between two records
	inRecord               // inside one
	inControl              // inside the content of one that is not of an input stream
)

// setDeadline sets the deadline of the next read.
func (c *serverConn) setDeadline(at place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arm(c.readDeadline(at))
}

func (c *serverConn) readDeadline(at place) time.Time {
	active := len(c.requests) > 0
	switch {
	case !active && (c.closing || c.orphan != 0):
		return c.within(server.DrainTimeout)
	case !active && at == atRecord:
		c.limit = time.Time{}
		c.idle = renew(c.idle, stream.Timeout(c.s.IdleTimeout, server.DefaultIdleTimeout))
		return c.idle
	case !active || at == inControl && c.heads == 0:
		return c.within(c.headTimeout())
	}
	t := c.headLimit()
	if at == inControl || !c.reading || c.inline == nil {
		return t
	}
	return earlier(t, c.inline.readDeadline)
}

func (c *serverConn) headTimeout() time.Duration {
	return stream.Timeout(c.s.ReadHeadTimeout, server.DefaultReadHeadTimeout)
}

// within returns the end of a time that began when it was first asked for since limit was cleared; d of 0 means that it has
// no end.
func (c *serverConn) within(d time.Duration) time.Time {
	if c.limit.IsZero() && d > 0 {
		c.limit = time.Now().Add(d)
	}
	return c.limit
}

// headLimit is by when the first of the heads that are open must be whole; zero if none is.
func (c *serverConn) headLimit() (t time.Time) {
	for _, r := range c.requests {
		if r.ready || c.heads == 0 {
			continue
		}
		if d := c.headTimeout(); r.headLimit.IsZero() && d > 0 {
			r.headLimit = time.Now().Add(d)
		}
		t = earlier(t, r.headLimit)
	}
	return t
}

// earlier returns the earlier of two deadlines; a zero time means no deadline.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// renew returns a deadline d from now, or t if that is nearly as far away, so that it need not be set again for each of
// many requests. A d of 0 means no deadline.
func renew(t time.Time, d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	now := time.Now()
	if left := t.Sub(now); left > d-d/8 && left <= d {
		return t
	}
	return now.Add(d)
}

// arm sets the deadline if it is another.
func (c *serverConn) arm(t time.Time) {
	if !t.Equal(c.deadline) {
		c.deadline = t
		c.c.SetReadDeadline(t)
	}
}

// armWrite sets the deadline for a write of r's answer; nil stands for a write of nobody's.
func (c *serverConn) armWrite(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writer = r
	var t time.Time
	if r != nil {
		t = r.writeDeadline
	}
	if t.IsZero() {
		t = renew(c.writeLimit, stream.Timeout(c.s.WriteTimeout, server.DefaultWriteTimeout))
	}
	if !t.Equal(c.writeLimit) {
		c.writeLimit = t
		c.c.SetWriteDeadline(t)
	}
}

// wrote ends what armWrite began. After a write that failed the connection is closed before another begins: what it
// left is part of a record.
func (c *serverConn) wrote(err error) {
	if err != nil {
		c.c.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writer = nil
}

func passed(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }
