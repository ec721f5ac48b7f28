package cgi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/client"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// job is a program that is to be run for a request.
type job struct {
	script script
	args   []string
	env    []string
	r      *gateway.Request
}

// process is a program that runs, as the connection of an exchange.
type process struct {
	cmd    *exec.Cmd
	stdin  *os.File
	stdout *os.File
	stderr *os.File
	line   stream.StatusLine
	grace  time.Duration
	timer  *time.Timer // of Timeout
	errs   *errorLog
	over   chan struct{} // closed when the program has ended
	silent chan struct{} // closed when nothing more comes over its STDERR
	gone   chan struct{} // closed when its exchange is over and nothing is left of its group that has not been killed
	reaper *reaper

	rmu sync.Mutex // held while the output is read

	mu       sync.Mutex
	late     bool      // Timeout is over
	eof      bool      // its output has ended
	deadline time.Time // of reading, as the exchange has it
	limit    time.Time // Grace after its end: what is said later is not its own
	rest     int       // bytes that may have been said before, and wait to be read
	closed   bool
}

var (
	_ client.Conn    = (*process)(nil)
	_ client.Process = (*process)(nil)
)

// start runs a program.
func (c *Client) start(ctx context.Context, j *job) (client.Conn, error) {
	if err := c.stillThere(j); err != nil {
		return nil, err
	}
	file := j.script.file
	cmd := exec.Command(file, slices.Concat(c.Args, j.args)...) // not CommandContext: the exchange ends it, by the group
	cmd.Env = j.env                                             // rule F39
	if cmd.Dir = c.Dir; cmd.Dir == "" {
		cmd.Dir = filepath.Dir(file)
	}
	p := &process{
		cmd: cmd, grace: c.grace(), line: stream.LineRefused,
		over: make(chan struct{}), silent: make(chan struct{}), gone: make(chan struct{}), reaper: &c.reaper,
		errs: &errorLog{ctx: ctx, to: j.r.Stderr, lineTo: c.line},
	}
	if c.nph(file) {
		p.line = stream.LineRequired
	}
	pipes, err := p.pipes()
	if err == nil && c.Prepare != nil {
		err = c.Prepare(ctx, cmd, j.r)
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx) // Prepare may have taken its time
	}
	if err == nil {
		isolate(cmd) // whatever Prepare did
		err = cmd.Start()
	}
	for _, f := range pipes.theirs {
		f.Close()
	}
	if err != nil {
		for _, f := range pipes.ours {
			f.Close()
		}
		return nil, err
	}
	if c.Timeout > 0 { // before the end of the program, which stops it, can be seen
		p.mu.Lock()
		p.timer = time.AfterFunc(c.Timeout, p.expire)
		p.mu.Unlock()
	}
	go p.collect()
	go p.wait()
	return p, nil
}

// pipes are the ends of the three pipes: ours are those of standard input, output and error.
type pipes struct{ ours, theirs []*os.File }

// pipes makes the pipes. They are not os/exec's: those would be read to their end before Wait returns, whoever holds
// them, and know no deadlines.
func (p *process) pipes() (ps pipes, err error) {
	for i := range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			return ps, err
		}
		if i == 0 {
			r, w = w, r
		}
		ps.ours, ps.theirs = append(ps.ours, r), append(ps.theirs, w)
	}
	p.stdin, p.stdout, p.stderr = ps.ours[0], ps.ours[1], ps.ours[2]
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = ps.theirs[0], ps.theirs[1], ps.theirs[2]
	return ps, nil
}

// wait waits for the end of the program. What it left behind may keep a reader of its output waiting for Grace.
func (p *process) wait() {
	p.cmd.Wait()
	close(p.over)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop() // the run is over
	}
	p.limit, p.rest = time.Now().Add(p.grace), maxPipe
	p.arm()
}

// maxPipe is as much as a pipe may hold.
const maxPipe = 1 << 20

func (p *process) graceOver() bool { return !p.limit.IsZero() && !time.Now().Before(p.limit) }

// arm gives a Read its deadline, Grace after the end of the program at the latest. p.mu is held.
func (p *process) arm() {
	if p.closed {
		return // Close interrupts who reads
	}
	t := p.deadline
	if !p.limit.IsZero() && (t.IsZero() || p.limit.Before(t)) {
		t = p.limit
	}
	p.stdout.SetReadDeadline(t)
}

// expire ends a program whose time is over, unless it has ended.
func (p *process) expire() {
	if p.ran() {
		return
	}
	p.mu.Lock()
	p.late = true
	p.mu.Unlock()
	p.Close()
}

// Read reads the output. What the program said before it ended is given, however slow the reader is; what somebody else of
// its group says goes on for Grace.
func (p *process) Read(b []byte) (int, error) {
	p.rmu.Lock()
	defer p.rmu.Unlock()
	n, err := p.stdout.Read(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(err, os.ErrDeadlineExceeded) && p.graceOver() && !p.closed {
		b = b[:min(len(b), p.rest)]
		n, err = readNow(p.stdout, b)
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

// errLate is what a program becomes whose time is over, however its end is seen.
var errLate = fmt.Errorf("program ended by Timeout: %w", os.ErrDeadlineExceeded)

func (p *process) Write(b []byte) (int, error) { return p.stdin.Write(b) }

// CloseWrite says that the request's body is whole.
func (p *process) CloseWrite() error { return p.stdin.Close() }

func (p *process) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = t
	p.arm()
	return nil
}

// SetWriteDeadline bounds the writes of the request's body.
func (p *process) SetWriteDeadline(t time.Time) error { return p.stdin.SetWriteDeadline(t) }

func (p *process) StatusLine() stream.StatusLine { return p.line }

// Close ends the exchange, and the program's group unless program and output have ended: somebody else of the group may
// write it.
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
	if p.ran() && (eof || !p.held()) {
		close(p.gone)
	} else {
		terminate(p.cmd)
		p.reaper.start(p.reap)
	}
	p.stdin.Close()
	p.stdout.Close()
	p.stderr.Close()
	p.errs.end()
	return nil
}

// held reports whether somebody holds the output of a program that has ended. If nobody does the group may be empty, and
// its number another's by now.
func (p *process) held() bool {
	if !groups {
		return false // nobody else could be ended
	}
	p.stdout.SetReadDeadline(time.Unix(1, 0))
	p.rmu.Lock()
	defer p.rmu.Unlock()
	scrap := make([]byte, 64<<10)
	for range maxPipe / len(scrap) {
		if _, err := readNow(p.stdout, scrap); err != nil {
			return errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
	return true
}

// ran reports whether the program has ended.
func (p *process) ran() bool {
	select {
	case <-p.over:
		return true
	default:
		return false
	}
}

// reap kills what SIGTERM did not end, in all of the group.
func (p *process) reap() {
	defer close(p.gone)
	const often = 20 * time.Millisecond
	for end := time.Now().Add(p.grace); time.Now().Before(end); time.Sleep(often) {
		if p.ran() && !alive(p.cmd) {
			return
		}
	}
	kill(p.cmd)
	select {
	case <-p.over:
	case <-time.After(p.grace): // one that we may not kill
	}
}

// Gone is closed when nothing of the program is left.
func (p *process) Gone() <-chan struct{} { return p.gone }

// Wait waits, Grace at the most, for the end of a program whose output has ended, and returns its exit status. One that
// was killed did not finish its answer.
func (p *process) Wait() (status uint32, err error) {
	drained := make(chan struct{})
	go func() { // what it says beyond its Content-Length must not keep it waiting
		defer close(drained)
		io.Copy(io.Discard, p)
	}()
	limit, cancel := context.WithTimeout(context.Background(), p.grace)
	defer cancel()
	select {
	case <-p.over:
	case <-limit.Done():
		return 0, nil
	}
	for _, end := range []chan struct{}{p.silent, drained} {
		select {
		case <-end:
		case <-limit.Done():
		}
	}
	state := p.cmd.ProcessState
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

// ended tells how a program ended that has closed its output, "" if it has not.
func (p *process) ended() string {
	select {
	case <-p.over:
		return "the program ended: " + p.cmd.ProcessState.String()
	case <-time.After(p.grace):
		return ""
	}
}

// maxStderr is how many bytes of a run's STDERR are kept.
const maxStderr = 64 << 10

// errorLog is where a program's STDERR goes, until the exchange is over.
type errorLog struct {
	ctx    context.Context
	to     io.Writer // as it is; nil stands for lines
	lineTo func(ctx context.Context, line []byte)

	dead  atomic.Bool // nobody listens any more
	mu    sync.Mutex  // held while somebody is told
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

// end says that nobody listens any more. It does not wait for somebody who is being told.
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

// collect reads the program's STDERR to its end.
func (p *process) collect() {
	defer close(p.silent)
	io.Copy(p.errs, p.stderr)
	p.errs.end()
}

// line gives a line of STDERR to whoever takes it.
func (c *Client) line(ctx context.Context, line []byte) {
	if c.Stderr != nil {
		c.Stderr(ctx, line)
		return
	}
	client.Logger(c.Logger).LogAttrs(ctx, slog.LevelWarn, "program", slog.String("addr", c.core.Addr), slog.String("stderr", string(line)))
}

// reaper is what a client's programs are ended by.
type reaper struct {
	mu   sync.Mutex
	n    int           // that work
	idle chan struct{} // closed when none does; nil if nobody waits
}

// start runs f, which ends a program, in a goroutine of its own.
func (r *reaper) start(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	go func() {
		f()
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.n--; r.n == 0 && r.idle != nil {
			close(r.idle)
			r.idle = nil
		}
	}()
}

// wait waits until none works.
func (r *reaper) wait() {
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
