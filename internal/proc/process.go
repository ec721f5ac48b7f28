// Package proc starts programs in process groups of their own, signals the groups, and reaps them.
// On systems without process groups only the program itself is ended.
package proc

import (
	"os"
	"os/exec"
	"sync"
	"time"
)

// A Process is a program that was started, with its process group.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the program has ended
}

// Start starts cmd in its own process group. When the program has ended, and Done is closed, ended
// is called in another goroutine.
func Start(cmd *exec.Cmd, ended func()) (*Process, error) {
	isolate(cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	go func() {
		cmd.Wait()
		close(p.done)
		ended()
	}()
	return p, nil
}

// Done returns a channel that is closed when the program has ended. Processes that it started may
// go on.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended reports whether the program has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// State returns how the program ended. It must not be called before Done is closed.
func (p *Process) State() *os.ProcessState { return p.cmd.ProcessState }

// PID returns the process id of the program.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill kills the group of a program that has not ended.
func (p *Process) Kill() {
	if !p.Ended() {
		kill(p.cmd)
	}
}

// A Reaper ends processes. The zero value is ready.
type Reaper struct {
	mu   sync.Mutex
	n    int           // processes that are being ended
	idle chan struct{} // closed when there are none; nil if no caller waits
}

// End sends sig to the group of p, and SIGKILL to the rest of it after grace, unless that is
// negative. It returns at once; gone is called when the group is empty, or cannot be killed.
func (r *Reaper) End(p *Process, sig os.Signal, grace time.Duration, gone func()) {
	signal(p.cmd, sig)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	go func() {
		p.reap(grace)
		gone()
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.n--; r.n == 0 && r.idle != nil {
			close(r.idle)
			r.idle = nil
		}
	}()
}

// reap waits for the end of the group, and kills it after grace.
func (p *Process) reap(grace time.Duration) {
	const interval = 20 * time.Millisecond
	for end := time.Now().Add(grace); grace < 0 || time.Now().Before(end); time.Sleep(interval) {
		if p.Ended() && !alive(p.cmd) {
			return
		}
	}
	kill(p.cmd)
	select {
	case <-p.done:
	case <-time.After(grace): // a process that we may not kill
	}
}

// Wait waits until no process is being ended.
func (r *Reaper) Wait() {
	r.mu.Lock()
	if r.n > 0 && r.idle == nil {
		r.idle = make(chan struct{})
	}
	idle := r.idle
	r.mu.Unlock()
	if idle != nil {
		<-idle
	}
}
