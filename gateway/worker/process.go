package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/gatehouse-go/gatehouse/internal/proc"
)

// A worker is a process that a Pool runs. mu of the Pool guards its fields, but for those that are
// set before it is ready: p, number, since, client, process, pid, addr and output.
type worker struct {
	p       *Pool
	in      *run
	number  int // of its folder, which is never used again
	since   time.Time
	addr    string // of its socket: a path
	client  Client
	process *proc.Process
	pid     int
	output  *output
	begun   chan struct{} // closed when process, pid and output are set
	done    chan struct{} // closed when the process has ended

	generation int
	replaces   bool // an old worker is to leave when this one is ready
	state      State
	exited     bool
	told       bool // to end
	reaping    bool // the reaper has it
	checking   bool // a request broke off; whether the worker is free is being found out
	responded  bool // completed a response
	inFlight   int
	requests   uint64
	used       uint64    // the last use, counted by the Pool
	idleAt     time.Time // when it was idle last
	active     []*exchange
	job        job
}

// ended reports whether the process has ended, or does so within d.
func (w *worker) ended(d time.Duration) bool {
	select {
	case <-w.done:
		return true
	case <-time.After(d):
		return false
	}
}

// over notes the end of the process.
func (w *worker) over() {
	<-w.begun
	p := w.p
	state, last := w.process.State(), w.output.lastWords()
	p.mu.Lock()
	w.exited = true
	close(w.done)
	told, reaping := w.told, w.reaping
	if !told {
		p.status.Failed++
		if !w.responded {
			p.failed(w, exitReason(state, last))
		}
	}
	w.state = Ending
	p.mu.Unlock()
	if !told && (!w.responded || !state.Success()) {
		p.logger().Warn("worker ended", "pool", p.name(), "pid", w.pid, "state", state.String(), "output", last)
	}
	w.closeClient()
	held := !w.output.endsWithin(deathWait)
	switch {
	case reaping: // the reaper waits for the rest of its group
	case held: // which therefore has a process left
		p.reaper.End(w.process, p.signal(), p.grace(), w.gone)
	default:
		w.gone()
	}
	if held {
		w.output.giveUp(p.grace())
	}
}

// closeClient closes the worker's client.
func (w *worker) closeClient() {
	defer w.p.recovered("Client.Close")
	w.client.Close()
}

// exitReason says why a worker ended before it has completed a response.
func exitReason(state *os.ProcessState, last string) error {
	if last == "" {
		return fmt.Errorf("worker: the process ended: %v", state)
	}
	return fmt.Errorf("worker: the process ended: %v: %s", state, last)
}

// gone notes that nothing of the worker is left.
func (w *worker) gone() {
	p := w.p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(w)
}

// drop forgets a worker of which nothing is left. mu is held.
func (p *Pool) drop(w *worker) {
	if i := slices.Index(p.workers, w); i >= 0 {
		p.workers = slices.Delete(p.workers, i, i+1)
	}
	if w.addr != "" {
		removeAll(filepath.Dir(w.addr))
	}
	w.in.wake()
}

// failed notes that a worker has not started, or ended without a response. mu is held.
func (p *Pool) failed(w *worker, err error) {
	w.state = Ending
	p.failure.note(err)
	p.notifyStarters(err)
	if w.generation == p.current {
		p.endReload(err)
	}
	if p.live() == 0 {
		p.failWaiting(fmt.Errorf("%w: %w", ErrDown, err))
	}
	p.run.wake()
}

// leave makes a worker leave: it gets no new requests, and is ended when it has none. mu is held.
func (p *Pool) leave(w *worker) {
	switch {
	case w.state >= Leaving:
	case w.inFlight == 0:
		p.end(w)
	default:
		w.state = Leaving
	}
	p.run.wake()
}

// end tells a worker to end. mu is held.
func (p *Pool) end(w *worker) { p.stop(w, p.signal()) }

// kill kills a worker. mu is held.
func (p *Pool) kill(w *worker) { p.stop(w, os.Kill) }

func (p *Pool) stop(w *worker, sig os.Signal) {
	again := w.told
	w.told = true
	switch {
	case w.process == nil: // it is told to end when it has been started
	case w.exited || again && sig != os.Kill:
	case sig == os.Kill:
		w.state = Ending
		w.reap(sig)
	default:
		w.state = Ending
		go func() {
			w.closeClient() // a kept connection may keep it from ending
			p.mu.Lock()
			defer p.mu.Unlock()
			w.reap(sig)
		}()
	}
}

// reap hands the process to the reaper, or kills it if that has it. mu of the Pool is held.
func (w *worker) reap(sig os.Signal) {
	switch {
	case w.exited:
	case !w.reaping:
		w.reaping = true
		w.p.reaper.End(w.process, sig, w.p.grace(), w.gone)
	case sig == os.Kill:
		w.process.Kill()
	}
}

func (p *Pool) signal() os.Signal {
	if p.Signal == nil {
		return syscall.SIGTERM
	}
	return p.Signal
}

func removeAll(dir string) {
	if dir != "" {
		os.RemoveAll(dir)
	}
}

func stack() string { return string(debug.Stack()) }
