package fastcgi

import (
	"io"

	"github.com/gatehouse-go/gatehouse/internal/server"
)

// A requestBody is the Body or the Data of a request.
type requestBody struct {
	w *responseWriter
	t Type // TypeStdin or TypeData
}

// Read reads content: what was buffered, or else directly from the connection, unless another
// goroutine reads that.
func (b *requestBody) Read(p []byte) (int, error) {
	c := b.w.c.Load()
	if c == nil {
		return 0, server.ErrOver
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		r := b.w.r.Load()
		if r == nil {
			return 0, server.ErrOver
		}
		s, q := r.queueOf(b.t)
		if b.t == TypeData && !r.skipBody {
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
			if n, err := c.readInline(b, r, p[:s.room(len(p))]); n > 0 || err != nil {
				return n, err
			}
		default:
			if err := server.WaitUntil(&c.changed, r.readDeadline); err != nil {
				return 0, err
			}
		}
	}
}
