package cgi

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"runtime/debug"
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
	logger *slog.Logger
	about  [5]slog.Attr // names the run

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
		s.guard(func() { s.to.Write(keep) })
	default:
		s.guard(func() { s.lines.Write(keep, s.line) })
	}
	return len(b), nil // the rest is read all the same: the program must not wait for it
}

// guard calls a function of the caller, from a goroutine that is not the caller's. If it panics,
// that is logged, and it is not called again.
func (s *errorLog) guard(f func()) {
	defer func() {
		if v := recover(); v != nil {
			s.dead.Store(true)
			s.log(slog.LevelError, "Stderr panicked", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
		}
	}()
	f()
}

// line passes a line on.
func (s *errorLog) line(b []byte) {
	if s.lineTo != nil {
		s.lineTo(s.ctx, b)
		return
	}
	s.log(slog.LevelWarn, "program", slog.String("stderr", string(b)))
}

// end stops further calls. It does not wait for one in progress.
func (s *errorLog) end() {
	if !s.mu.TryLock() {
		s.dead.Store(true)
		return
	}
	defer s.mu.Unlock()
	if !s.dead.Swap(true) && s.to == nil {
		s.guard(func() { s.lines.Flush(s.line) })
	}
}

func (s *errorLog) log(level slog.Level, message string, attrs ...slog.Attr) {
	s.logger.LogAttrs(s.ctx, level, message, append(attrs, s.about[:]...)...)
}

// errorLog returns the errorLog of j. The request is the caller's, so what names it is copied.
func (j *job) errorLog(ctx context.Context) *errorLog {
	c := j.client
	return &errorLog{
		ctx: ctx, to: j.r.Stderr, lineTo: c.Stderr, logger: cmp.Or(c.Logger, slog.Default()),
		about: [...]slog.Attr{
			slog.String("addr", c.core.Addr), slog.String("script", j.script.file), slog.String("method", j.r.Method()), slog.String("path", j.r.Path()), slog.String("remote", j.r.RemoteAddr()),
		},
	}
}
