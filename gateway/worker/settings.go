package worker

import (
	"cmp"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/gatehouse-go/gatehouse/internal/stream"
)

const (
	defaultMaxWorkers   = 8
	defaultIdleTimeout  = 10 * time.Second
	defaultMaxWaiting   = 1000
	defaultWaitTimeout  = 30 * time.Second
	defaultStartTimeout = 30 * time.Second
	defaultGrace        = 5 * time.Second
)

func (p *Pool) maxWorkers() int            { return stream.Limit(p.MaxWorkers, defaultMaxWorkers) }
func (p *Pool) concurrency() int           { return stream.Limit(p.Concurrency, 1) }
func (p *Pool) maxWaiting() int            { return stream.Limit(p.MaxWaiting, defaultMaxWaiting) }
func (p *Pool) idleTimeout() time.Duration { return stream.Timeout(p.IdleTimeout, defaultIdleTimeout) }
func (p *Pool) waitTimeout() time.Duration { return stream.Timeout(p.WaitTimeout, defaultWaitTimeout) }
func (p *Pool) startTimeout() time.Duration {
	return stream.Timeout(p.StartTimeout, defaultStartTimeout)
}
func (p *Pool) logger() *slog.Logger { return cmp.Or(p.Logger, slog.Default()) }

// grace returns the time from Signal to SIGKILL, or -1 if that is not sent.
func (p *Pool) grace() time.Duration {
	switch {
	case p.Grace < 0:
		return -1
	case p.Grace == 0:
		return defaultGrace
	}
	return p.Grace
}

func (p *Pool) name() string {
	if p.Name == "" && len(p.Command) > 0 {
		return filepath.Base(p.Command[0])
	}
	return p.Name
}
