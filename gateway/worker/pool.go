package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/client"
	"github.com/gatehouse-go/gatehouse/internal/proc"
	"github.com/gatehouse-go/gatehouse/internal/slab"
)

// Client sends requests to one worker. The clients of fastcgi, scgi, uwsgi and gatewayhttp
// implement it.
type Client interface {
	gateway.RoundTripper
	Close() error
}

// ErrDown means that no worker runs and that the last one could not be started. It is wrapped
// together with the reason. errors.Is(err, gateway.ErrRefused) is true as well: the status is 503,
// and another backend may be tried.
var ErrDown = fmt.Errorf("worker: no process runs: %w", gateway.ErrRefused)

// ExitError is the error of a request whose worker ended. It is wrapped together with the error of
// the worker's Client.
type ExitError struct {
	// PID is the process id.
	PID int

	// State says how the process ended.
	State *os.ProcessState
}

// Error names the process and says how it ended.
func (e *ExitError) Error() string { return fmt.Sprintf("worker %d: %v", e.PID, e.State) }

// Pool is a gateway.RoundTripper over processes that it runs. Set the fields before the first use
// and do not change them afterwards. The methods may be called by several goroutines at once. The
// first request starts the Pool, unless Start has.
//
// With the zero values workers run on demand: none until a request comes that no idle worker can
// take, eight at most, and each until it has been idle for ten seconds. php-fpm's "static" is equal
// values of MinWorkers and MaxWorkers, its "dynamic" MinIdle and MaxIdle.
//
// A request is given to the least busy worker, and among equally busy ones to the one that was used
// last. If that worker fails, the request is given to another one, once, if gateway.MayRetry allows
// it. If no worker is free, requests wait in the order in which they came.
type Pool struct {
	// Name identifies the Pool in logs, errors and statistics. Empty means the base name of the
	// program.
	Name string

	// Command is the program, which is looked up in PATH, and its arguments. The package
	// documentation describes "{socket}" and "{fd}".
	Command []string

	// Client returns the client of a new worker. addr is the worker's address, "unix:/path".
	Client func(addr string) Client

	// MaxWorkers limits the number of workers. While one is replaced there may be one more. Zero or
	// a negative value means 8. It is php-fpm's pm.max_children.
	MaxWorkers int

	// MinWorkers is the number of workers that always run. Zero or a negative value means none. It
	// is php-fpm's pm.start_servers; for pm = static set it to MaxWorkers.
	MinWorkers int

	// MinIdle is the number of idle workers that are kept ready. Zero or a negative value means
	// none. It is php-fpm's pm.min_spare_servers.
	MinIdle int

	// MaxIdle is the number of idle workers above which one is ended each second. Zero or a
	// negative value means no limit. It is php-fpm's pm.max_spare_servers.
	MaxIdle int

	// IdleTimeout is how long a worker may be idle before it is ended, if more than MinWorkers run
	// and more than MinIdle are idle. Zero means 10 seconds; a negative value means no limit. It is
	// php-fpm's pm.process_idle_timeout.
	IdleTimeout time.Duration

	// Recycle is the number of requests after which a worker is replaced. Zero or a negative value
	// means no limit. It is php-fpm's pm.max_requests.
	Recycle int

	// Concurrency is the number of requests that a worker takes at once. Zero or a negative value
	// means 1.
	Concurrency int

	// MaxWaiting limits the number of requests that wait for a worker. Further ones fail with
	// gateway.ErrRefused. Zero or a negative value means 1000.
	MaxWaiting int

	// WaitTimeout limits how long a request waits for a worker. Then it fails with
	// gateway.ErrRefused. Zero means 30 seconds; a negative value means no limit but the request's
	// context.
	WaitTimeout time.Duration

	// StartTimeout limits the time until a new worker is free, and until a worker is free again
	// after a request that broke off. Then the worker is killed. Zero means 30 seconds; a negative
	// value means no limit.
	StartTimeout time.Duration

	// RequestTimeout limits the duration of a request, to the end of its response or to the 101 of
	// one that upgrades. Then the worker is killed or, if Concurrency is greater than 1, the
	// request alone is given up. Zero or a negative value means no limit. It is php-fpm's
	// request_terminate_timeout.
	RequestTimeout time.Duration

	// SlowTimeout is the duration after which a request is reported to Slow, once. Zero or a
	// negative value means never. It is php-fpm's request_slowlog_timeout.
	SlowTimeout time.Duration

	// Grace is the time from Signal to SIGKILL. Zero means 5 seconds; a negative value means that
	// SIGKILL is not sent.
	Grace time.Duration

	// Dir is the working directory of the workers. Empty means that of this process.
	Dir string

	// Env lists environment variables as "NAME=value". They override those that every worker has:
	// PATH, InheritEnv, and PHP_FCGI_MAX_REQUESTS=0 and PHP_FCGI_CHILDREN=0, which turn off PHP's
	// own recycling and forking.
	Env []string

	// InheritEnv names variables that are taken from the environment of this process.
	InheritEnv []string

	// Signal tells a worker to end. Nil means SIGTERM. A uWSGI master takes SIGTERM for "reload"
	// unless it was started with --die-on-term.
	Signal os.Signal

	// Ready, if not nil, returns when a worker is free. It replaces the empty connection that the
	// package documentation describes, and is called at the same times, with no connection kept.
	// Its error ends the worker. ctx is done after StartTimeout.
	Ready func(ctx context.Context, c Client) error

	// Prepare, if not nil, changes cmd before it is started, such as its user, limits or control
	// group. Afterwards the Pool sets the process group, standard input and, unless Prepare has set
	// one, the parent-death signal. Its error is the error of the start.
	Prepare func(cmd *exec.Cmd) error

	// Output, if not nil, receives the lines that a worker writes to standard output and standard
	// error: at most 4 KiB each, with control bytes escaped, and at most 64 KiB a second of each
	// worker. line must not be used after Output returns. Output must not block. Nil means Logger.
	Output func(pid int, line []byte)

	// Slow, if not nil, is called in a goroutine of its own for a request that takes longer than
	// SlowTimeout. Nil means a log record with the request's method and path.
	Slow func(pid int, job Job)

	// Logger receives log records. Nil means slog.Default.
	Logger *slog.Logger

	count     client.Counters
	exchanges slab.Pool[exchange]
	reaper    proc.Reaper

	// reloading is held by Reload, one at a time.
	reloading once

	// mu guards the fields below, the workers and the exchanges. No call that can block and no
	// function of the caller is made while it is held.
	mu       sync.Mutex
	run      *run      // nil while there is neither a worker nor a supervisor
	workers  []*worker // in the order of their start, until nothing of them is left
	waiting  []*waiter // in the order of their arrival
	stopping bool      // Shutdown has been called
	status   Status    // the counters of Status
	uses     uint64    // counts the requests that were given to workers
	failure  failure   // of the last starts
	reload   *reload   // in progress, or nil
	current  int       // the generation that workers are started in
}

// A once is a lock that a context can interrupt.
type once struct {
	init sync.Once
	ch   chan struct{}
}

func (o *once) lock(ctx context.Context) error {
	o.init.Do(func() { o.ch = make(chan struct{}, 1) })
	select {
	case o.ch <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (o *once) unlock() { <-o.ch }

// Start starts the workers that always run and returns when they can take requests, or with the
// reason why one cannot.
func (p *Pool) Start(ctx context.Context) error {
	p.mu.Lock()
	err := p.open()
	if err != nil {
		p.mu.Unlock()
		return err
	}
	s := &starter{done: make(chan error, 1)}
	p.run.starters = append(p.run.starters, s)
	p.notifyStarters(nil)
	p.mu.Unlock()
	select {
	case err := <-s.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A starter is a call of Start that waits.
type starter struct{ done chan error }

// notifyStarters ends the calls of Start: with err, or if the workers that always run are ready. mu
// is held.
func (p *Pool) notifyStarters(err error) {
	ready := 0
	for _, w := range p.workers {
		if w.state == Idle || w.state == Busy {
			ready++
		}
	}
	if err == nil && ready < min(p.MinWorkers, p.maxWorkers()) {
		return
	}
	for _, s := range p.run.starters {
		s.done <- err
	}
	p.run.starters = nil
}

// open starts the supervisor, unless it runs. mu is held.
func (p *Pool) open() error {
	switch {
	case !supported:
		return fmt.Errorf("worker: %w", errors.ErrUnsupported)
	case p.stopping || p.run != nil && p.run.closing:
		return fmt.Errorf("worker: the pool is closed: %w", gateway.ErrRefused)
	case len(p.Command) == 0 || p.Client == nil:
		return errors.New("worker: no Command or no Client")
	case p.run == nil:
		p.status.Since = time.Now()
		p.run = &run{poke: make(chan struct{}, 1), over: make(chan struct{})}
		go p.supervise(p.run)
	}
	return nil
}

// RoundTrip gives r to a worker; see gateway.RoundTripper. Errors are *gateway.Error. In
// gateway.PhaseWait the causes are gateway.ErrRefused (MaxWaiting, WaitTimeout, Shutdown), ErrDown
// and that of ctx. Other errors are those of the worker's Client, together with an *ExitError if
// the worker ended, or with os.ErrDeadlineExceeded after RequestTimeout.
//
// The worker is free again when res.Body has returned io.EOF. If ctx is done, or Body is closed
// before its end, the worker may still be busy: it gets no new request until it has shown that it
// is free; see Ready.
func (p *Pool) RoundTrip(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
	res.Reset()
	p.count.Begin()
	err := p.roundTrip(ctx, r, res)
	if err != nil {
		p.count.Failed(err)
		p.count.End()
	}
	return err
}

func (p *Pool) roundTrip(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
	var failed *worker
	for {
		x, err := p.take(ctx, r, failed)
		if err != nil {
			return err
		}
		err = x.roundTrip(ctx, r, res)
		if err == nil || failed != nil || ctx.Err() != nil || !gateway.MayRetry(err, r) {
			return err
		}
		next, fault := again(r, err)
		if fault != nil {
			return err
		}
		failed, r = x.w, next
	}
}

// again returns the request to be given to another worker after err. A body that may have been read
// is read again from its beginning.
func again(r *gateway.Request, err error) (*gateway.Request, error) {
	e, _ := errors.AsType[*gateway.Error](err)
	if r.Body == nil || r.Body == gateway.NoBody || e.Phase == gateway.PhaseWait || e.Phase == gateway.PhaseDial {
		return r, nil
	}
	body, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	next := new(gateway.Request) // r does not change
	next.CopyFrom(r)
	next.Body = body
	return next, nil
}

// Stats returns the counters since the first use, and the current number of requests and workers.
// Dialed counts the workers that were started.
func (p *Pool) Stats() gateway.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := 0
	for _, w := range p.workers {
		if w.state == Idle {
			idle++
		}
	}
	return p.count.Stats(idle, len(p.waiting))
}

// Shutdown refuses new requests, waits for the current ones and ends the workers. Requests that
// wait for a worker are refused as well. If ctx is done first, Shutdown kills the remaining workers
// and returns the context's cause.
func (p *Pool) Shutdown(ctx context.Context) error {
	p.mu.Lock()
	p.stopping = true
	r := p.run
	p.refuseAll(fmt.Errorf("worker: the pool is shut down: %w", gateway.ErrRefused))
	for _, w := range p.workers {
		p.leave(w)
	}
	p.mu.Unlock()
	if r == nil {
		return nil
	}
	r.wake()
	select {
	case <-r.over:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	for _, w := range p.workers {
		p.kill(w)
	}
	p.mu.Unlock()
	<-r.over
	return context.Cause(ctx)
}

// Close ends all workers and waits until they have ended, for Grace at most. Current requests fail.
// The Pool can be used again. Close returns nil.
func (p *Pool) Close() error {
	p.mu.Lock()
	r := p.run
	if r != nil {
		r.closing = true
	}
	p.refuseAll(fmt.Errorf("worker: the pool is closed: %w", gateway.ErrRefused))
	for _, w := range p.workers {
		p.end(w)
	}
	p.mu.Unlock()
	if r != nil {
		r.wake()
		<-r.over
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopping = false
	return nil
}

// refuseAll ends the waits of requests, Start and Reload. mu is held.
func (p *Pool) refuseAll(err error) {
	p.failWaiting(err)
	if p.run != nil {
		p.notifyStarters(err)
	}
	p.endReload(err)
}
