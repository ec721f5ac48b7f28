package fastcgi

import (
	"time"

	"github.com/gatehouse-go/gatehouse/internal/server"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// A deadlineReader reads from the connection. Before each Read it sets the deadline that fits what
// is being read.
type deadlineReader struct{ c *serverConn }

func (d *deadlineReader) Read(p []byte) (int, error) {
	c := d.c
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

// inControl reports whether the rest of the current record must be read now. The rest of a stream's
// record can be left for later.
func (c *serverConn) inControl() bool {
	return c.rec.left > 0 && c.rec.h.Type != TypeStdin && c.rec.h.Type != TypeData
}

// A place is where in the input a read begins.
type place uint8

const (
	atRecord  place = iota // between two records
	inRecord               // inside a record
	inControl              // inside the content of a record that is not of an input stream
)

// setDeadline sets the deadline of the next read.
func (c *serverConn) setDeadline(at place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arm(c.readDeadline(at))
}

// readDeadline returns the deadline of the next read. c.mu is held.
func (c *serverConn) readDeadline(at place) time.Time {
	active := len(c.requests) > 0
	switch {
	case !active && c.orphan != 0:
		return c.within(server.UploadDrainTimeout)
	case !active && c.closing:
		return c.within(server.DrainTimeout)
	case !active && at == atRecord && c.stopping:
		return c.stopAt
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

// within returns c.limit, and first sets it to d from now if it is not set. A d of 0 means no
// deadline. c.mu is held.
func (c *serverConn) within(d time.Duration) time.Time {
	if c.limit.IsZero() && d > 0 {
		c.limit = time.Now().Add(d)
	}
	return c.limit
}

// headLimit returns the deadline of the first open head, or the zero time if no head is open. c.mu
// is held.
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

// renew returns a deadline d from now, or t if that is less than d/8 earlier, to avoid setting a
// deadline for every request. A d of 0 means no deadline.
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

// arm sets the read deadline, unless it is set already. c.mu is held.
func (c *serverConn) arm(t time.Time) {
	if !t.Equal(c.deadline) {
		c.deadline = t
		c.c.SetReadDeadline(t)
	}
}

// armWrite sets the deadline for a write of r's response. A nil r means a write that belongs to no
// request.
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

// wrote ends what armWrite began. After a write that failed the connection is closed before another
// begins, since part of a record was sent.
func (c *serverConn) wrote(err error) {
	if err != nil {
		c.closeConn()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writer = nil
}

func passed(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }
