package cgi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/client"
	"github.com/gatehouse-go/gatehouse/internal/proc"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// maxPipe is the number of bytes that a pipe may hold.
const maxPipe = 1 << 20

// A job is a program to be run for a request.
type job struct {
	client    *Client
	script    script
	args, env []string
	r         *gateway.Request
}

// A process is a running program as the client.Conn of an exchange.
//
// The exchange reads, writes and closes. Two goroutines go with the program: one waits for its end,
// and one collects its standard error. mu guards the fields below it; rmu is held while the output
// is read, and is locked before mu.
type process struct {
	p      *proc.Process
	reaper *proc.Reaper
	stdin  *os.File
	stdout *os.File
	stderr *os.File
	line   stream.StatusLine
	grace  time.Duration
	errs   *errorLog
	silent chan struct{} // closed when its standard error has ended
	gone   chan struct{} // closed when the exchange is over and nothing of the group is left that has not been killed

	rmu sync.Mutex

	mu       sync.Mutex
	timer    *time.Timer // of Timeout
	late     bool        // Timeout has passed
	eof      bool        // the output has ended
	deadline time.Time   // of reading, as the exchange set it
	limit    time.Time   // Grace after the program's end: later output is not its own
	rest     int         // bytes that may have been written before the program's end and are unread
	closed   bool
}

var _ client.Conn = (*process)(nil)

// start runs the program.
func (j *job) start(ctx context.Context, _ *client.Socket) (client.Conn, error) {
	c := j.client
	if err := c.stillThere(j); err != nil {
		return nil, err
	}
	cmd := exec.Command(j.script.file, slices.Concat(c.Args, j.args)...) // not CommandContext: the exchange ends the group
	cmd.Env = j.env                                                      // rule F39
	cmd.Dir = cmp.Or(c.Dir, filepath.Dir(j.script.file))
	p := &process{
		grace: stream.Limit(c.Grace, defaultGrace), line: c.statusLine(j.script.file), reaper: &c.reaper,
		silent: make(chan struct{}), gone: make(chan struct{}),
		errs: j.errorLog(ctx),
	}
	pipes, err := p.pipes(cmd)
	started := false
	defer func() {
		closeAll(pipes.theirs)
		if !started { // because of an error, or since Prepare has panicked
			closeAll(pipes.ours)
		}
	}()
	if err == nil && c.Prepare != nil {
		err = c.Prepare(ctx, cmd, j.r)
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx) // Prepare may have taken its time
	}
	var open []io.Closer
	if err == nil {
		open, err = c.pin(cmd, j.script)
	}
	if err == nil {
		err = p.run(cmd, c.Timeout)
	}
	for _, f := range open {
		f.Close()
	}
	if started = err == nil; started {
		return p, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w (the program, or the interpreter that its first line names)", err)
	}
	return nil, err
}

// run starts the program, and what goes with it.
func (p *process) run(cmd *exec.Cmd, timeout time.Duration) (err error) {
	p.mu.Lock() // the end of the program, which stops the timer, is not seen before there is one
	defer p.mu.Unlock()
	if p.p, err = proc.Start(cmd, p.ended); err != nil {
		return err
	}
	if timeout > 0 {
		p.timer = time.AfterFunc(timeout, p.expire)
	}
	go p.collect()
	return nil
}

// pipes are both ends of standard input, output and error.
type pipes struct{ ours, theirs [3]*os.File }

// pipes makes the pipes. Those of os/exec would be read to their end before Wait returns, whichever
// process holds them, and have no deadlines.
func (p *process) pipes(cmd *exec.Cmd) (ps pipes, err error) {
	for i := range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			return ps, err
		}
		if i == 0 {
			r, w = w, r
		}
		ps.ours[i], ps.theirs[i] = r, w
	}
	p.stdin, p.stdout, p.stderr = ps.ours[0], ps.ours[1], ps.ours[2]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = ps.theirs[0], ps.theirs[1], ps.theirs[2]
	return ps, nil
}

// closeAll closes files, some of which may be nil.
func closeAll(files [3]*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// ended notes the end of the program. What it left behind may keep a reader of its output waiting
// for Grace.
func (p *process) ended() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
	}
	p.limit, p.rest = time.Now().Add(p.grace), maxPipe
	p.arm()
}

// expire ends a program whose time is over, unless it has ended.
func (p *process) expire() {
	if p.p.Ended() {
		return
	}
	p.mu.Lock()
	p.late = true
	p.mu.Unlock()
	p.Close()
}

func (p *process) graceOver() bool { return !p.limit.IsZero() && !time.Now().Before(p.limit) }

// arm sets the deadline of a Read: Grace after the end of the program at the latest. p.mu is held.
func (p *process) arm() {
	if p.closed {
		return // Close interrupts the reader
	}
	t := p.deadline
	if !p.limit.IsZero() && (t.IsZero() || p.limit.Before(t)) {
		t = p.limit
	}
	p.stdout.SetReadDeadline(t)
}

// Read reads the output. What the program wrote before it ended is returned, however slow the
// reader is; what other processes of its group write is read for Grace.
func (p *process) Read(b []byte) (int, error) {
	p.rmu.Lock()
	defer p.rmu.Unlock()
	n, err := p.stdout.Read(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(err, os.ErrDeadlineExceeded) && p.graceOver() && !p.closed {
		b = b[:min(len(b), p.rest)]
		n, err = proc.ReadNow(p.stdout, b)
		p.rest -= n
		p.arm()
	}
	switch {
	case p.late && err != nil:
		err = errLate
	case err == io.EOF:
		p.eof = true
	case errors.Is(err, os.ErrDeadlineExceeded) && p.closed:
		err = os.ErrClosed
	case errors.Is(err, os.ErrDeadlineExceeded) && p.graceOver():
		err = io.EOF
	}
	return n, err
}

// errLate is the error of a program whose Timeout has passed.
var errLate = fmt.Errorf("program ended by Timeout: %w", os.ErrDeadlineExceeded)

// Write writes to the program's standard input.
func (p *process) Write(b []byte) (int, error) { return p.stdin.Write(b) }

// SetReadDeadline sets the deadline for reads of the output.
func (p *process) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = t
	p.arm()
	return nil
}

// SetWriteDeadline sets the deadline for writes of the request's body.
func (p *process) SetWriteDeadline(t time.Time) error { return p.stdin.SetWriteDeadline(t) }

func (p *process) Writer() io.Writer { return p }

// Started returns true: the program was given the params when it was started.
func (p *process) Started() bool { return true }

func (p *process) StatusLine() stream.StatusLine { return p.line }

// EndRequest ends the program's standard input.
func (p *process) EndRequest() { p.stdin.Close() }

// Detach stops the writes to the caller's Stderr.
func (p *process) Detach() { p.errs.end() }

// NetConn returns nil: there is nothing to hand over.
func (p *process) NetConn() net.Conn { return nil }

// Close ends the exchange, and the program's group unless program and output have ended: another
// process of the group may write it.
func (p *process) Close() error {
	p.mu.Lock()
	again, eof := p.closed, p.eof
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	if again {
		return nil
	}
	if p.p.Ended() && (eof || !p.held()) {
		close(p.gone)
	} else {
		p.reaper.End(p.p, syscall.SIGTERM, p.grace, func() { close(p.gone) })
	}
	p.stdin.Close()
	p.stdout.Close()
	p.stderr.Close()
	p.errs.end()
	return nil
}

// held reports whether a process holds the output of a program that has ended. If none does the
// group may be empty, and its number another's by now.
func (p *process) held() bool {
	if !proc.Groups {
		return false // no other process could be ended
	}
	p.stdout.SetReadDeadline(time.Unix(1, 0))
	p.rmu.Lock()
	defer p.rmu.Unlock()
	scrap := make([]byte, 64<<10)
	for range maxPipe / len(scrap) {
		if _, err := proc.ReadNow(p.stdout, scrap); err != nil {
			return errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
	return true
}

// Gone is closed when nothing of the program is left.
func (p *process) Gone() <-chan struct{} { return p.gone }

// EndResponse waits, for at most Grace, for the end of a program whose output has ended, and
// returns its exit status. A program that was killed did not finish its response.
func (p *process) EndResponse() (status uint32, err error) {
	drained := make(chan struct{})
	go func() { // output beyond Content-Length must not keep the program waiting
		defer close(drained)
		io.Copy(io.Discard, p)
	}()
	limit, cancel := context.WithTimeout(context.Background(), p.grace)
	defer cancel()
	select {
	case <-p.p.Done():
	case <-limit.Done():
		return 0, nil
	}
	for _, end := range []chan struct{}{p.silent, drained} {
		select {
		case <-end:
		case <-limit.Done():
		}
	}
	state := p.p.State()
	if code := state.ExitCode(); code >= 0 {
		return uint32(code), nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.late {
		return 0, errLate
	}
	return 0, fmt.Errorf("program: %s: %w", state, gateway.ErrTruncated)
}

// Silence waits, for at most Grace, for the end of a program that closed its output without
// writing, and returns how it ended.
func (p *process) Silence(int) string {
	select {
	case <-p.p.Done():
		return "; the program ended: " + p.p.State().String()
	case <-time.After(p.grace):
		return ""
	}
}

// collect reads the program's standard error to its end.
func (p *process) collect() {
	defer close(p.silent)
	io.Copy(p.errs, p.stderr)
	p.errs.end()
}
