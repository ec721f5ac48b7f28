package worker

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/internal/stream"
)

const (
	maxOutput = 64 << 10 // bytes a second that are reported
	maxLast   = 200      // bytes of the last line that are kept
)

// An output reads what a worker writes, so that it never waits, and reports as much as the limit
// allows.
type output struct {
	w    *worker
	r    *os.File
	over chan struct{} // closed when no process has the pipe open, or it was given up

	lines   stream.Lines
	second  time.Time // when left was filled
	left    int       // bytes that may be reported in this second
	dropped int       // bytes that were not reported

	mu   sync.Mutex
	last []byte
}

func newOutput(w *worker, r *os.File) *output {
	o := &output{w: w, r: r, over: make(chan struct{})}
	go o.read()
	return o
}

// read reads the pipe to its end.
func (o *output) read() {
	defer close(o.over)
	defer o.r.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := o.r.Read(buf)
		o.lines.Write(buf[:n], o.line)
		if err != nil {
			o.lines.Flush(o.line)
			o.reportDropped()
			return
		}
	}
}

// line reports a line, which is escaped.
func (o *output) line(b []byte) {
	o.mu.Lock()
	o.last = append(o.last[:0], b[:min(len(b), maxLast)]...)
	o.mu.Unlock()
	if now := time.Now(); now.Sub(o.second) >= time.Second {
		o.reportDropped()
		o.second, o.left = now, maxOutput
	}
	if len(b) > o.left {
		o.dropped += len(b)
		return
	}
	o.left -= len(b)
	o.report(b)
}

// reportDropped reports how much was not.
func (o *output) reportDropped() {
	if o.dropped > 0 {
		o.report(fmt.Appendf(nil, "(%d bytes of output were dropped)", o.dropped))
		o.dropped = 0
	}
}

func (o *output) report(b []byte) {
	p := o.w.p
	defer p.recovered("Output")
	if p.Output != nil {
		p.Output(o.w.pid, b)
		return
	}
	p.logger().Info("worker", "pool", p.name(), "pid", o.w.pid, "output", string(b))
}

// endsWithin reports whether no process has the pipe open, or soon none has.
func (o *output) endsWithin(d time.Duration) bool {
	select {
	case <-o.over:
		return true
	case <-time.After(d):
		return false
	}
}

// lastWords returns the beginning of the last line of a process that has just ended. What it wrote
// may still be in the pipe.
func (o *output) lastWords() string {
	o.endsWithin(deathWait)
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.last)
}

// giveUp gives up a pipe that a process holds for longer than grace.
func (o *output) giveUp(grace time.Duration) {
	if !o.endsWithin(max(grace, 0)) {
		o.r.SetReadDeadline(time.Unix(1, 0))
	}
}
