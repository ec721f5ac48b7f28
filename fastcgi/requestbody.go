package fastcgi

import (
	"io"

	"github.com/gatehouse-go/gatehouse/internal/server"
)

func (b *bodyHandle) Read(p []byte) (int, error) {
	return (*responseWriter)(b).readStream(TypeStdin, p)
}

func (d *dataHandle) Read(p []byte) (int, error) { return (*responseWriter)(d).readStream(TypeData, p) }

// readStream reads content into p: what waits for it, or, where nobody else reads, straight from the connection.
func (h *responseWriter) readStream(t Type, p []byte) (int, error) {
	c := h.c.Load()
	if c == nil {
		return 0, server.ErrOver
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		r := h.r.Load()
		if r == nil {
			return 0, server.ErrOver
		}
		s, q := r.queueOf(t)
		if t == TypeData && !r.skipBody {
			r.skipBody = true
			c.changed.Broadcast() // the leader may wait for room
		}
		switch {
		case r.aborted.Load():
			return 0, r.fault
		case s.taken == s.length:
			return 0, io.EOF
		case q.Len() > 0:
			n := q.Take(p)
			s.taken += int64(n)
			c.changed.Broadcast() // the leader may wait for room
			return n, nil
		case s.short():
			return 0, errShort
		case s.ended:
			return 0, io.EOF
		case r.fault != nil:
			return 0, r.fault
		case len(p) == 0:
			return 0, nil
		case c.inline == r && !c.reading:
			if n, err := c.readInline(h, r, t, p[:s.room(len(p))]); n > 0 || err != nil {
				return n, err
			}
		default:
			if err := c.waitUntil(r.readDeadline); err != nil {
				return 0, err
			}
		}
	}
}
