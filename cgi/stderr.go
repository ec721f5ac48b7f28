package cgi

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// maxStderr is the number of bytes of a run's standard error that are kept.
const maxStderr = 64 << 10

// An errorLog receives a program's standard error until the exchange is over.
type errorLog struct {
	ctx    context.Context
	to     io.Writer // raw; nil means that lines go to lineTo
	lineTo func(ctx context.Context, line []byte)

	dead  atomic.Bool // the exchange is over
	mu    sync.Mutex  // held while to or lineTo is called
	taken int
	lines stream.Lines
}

func (s *errorLog) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keep := b[:min(len(b), maxStderr-s.taken)]
	s.taken += len(keep)
	switch {
	case s.dead.Load() || len(keep) == 0:
	case s.to != nil:
		s.to.Write(keep)
	default:
		s.lines.Write(keep, s.line)
	}
	return len(b), nil // the rest is read all the same: the program must not wait for it
}

func (s *errorLog) line(b []byte) { s.lineTo(s.ctx, b) }

// end stops further calls. It does not wait for one in progress.
func (s *errorLog) end() {
	if !s.mu.TryLock() {
		s.dead.Store(true)
		return
	}
	defer s.mu.Unlock()
	if !s.dead.Swap(true) && s.to == nil {
		s.lines.Flush(s.line)
	}
}

// line passes a line of standard error on.
func (c *Client) line(ctx context.Context, line []byte) {
	if c.Stderr != nil {
		c.Stderr(ctx, line)
		return
	}
	cmp.Or(c.Logger, slog.Default()).LogAttrs(ctx, slog.LevelWarn, "program", slog.String("addr", c.core.Addr), slog.String("stderr", string(line)))
}
