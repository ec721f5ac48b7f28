package server

import (
	"fmt"
	"sync/atomic"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// DefaultMaxOpenHeadBytes is the default of a server's MaxOpenHeadBytes.
const DefaultMaxOpenHeadBytes = 64 << 20

// A HeadBudget counts the bytes of all request heads of a server that are incomplete: peers that
// never end their heads must not fill the memory.
type HeadBudget struct{ used atomic.Int64 }

// Take counts n more bytes. The error is ErrRefused if there would be more than limit; zero or a
// negative limit means the default.
func (b *HeadBudget) Take(n, limit int) error {
	limit = stream.Limit(limit, DefaultMaxOpenHeadBytes)
	if b.used.Add(int64(n)) > int64(limit) { // rule F54
		b.used.Add(-int64(n))
		return fmt.Errorf("incomplete heads of more than %d bytes: %w", limit, gateway.ErrRefused)
	}
	return nil
}

// Give counts n bytes less.
func (b *HeadBudget) Give(n int) { b.used.Add(-int64(n)) }
