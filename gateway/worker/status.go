package worker

import (
	"strings"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// Status is the state of a Pool, with the fields of php-fpm's status page.
type Status struct {
	// Name is the name of the Pool: "pool".
	Name string

	// Since is when the Pool was started: "start time".
	Since time.Time

	// Requests counts the requests since then that were given to a worker: "accepted conn".
	Requests uint64

	// Waiting is the number of requests that wait for a worker: "listen queue".
	Waiting int

	// PeakWaiting is the largest value that Waiting has had: "max listen queue".
	PeakWaiting int

	// MaxWaiting is the limit of Waiting: "listen queue len".
	MaxWaiting int

	// Waited is the time that all requests together have waited.
	Waited time.Duration

	// Idle and Busy are the numbers of workers in these states: "idle processes", "active
	// processes".
	Idle, Busy int

	// PeakBusy is the largest number of workers that have had a request at once: "max active
	// processes".
	PeakBusy int

	// LimitReached counts the requests that had to wait because MaxWorkers were running: "max
	// children reached".
	LimitReached uint64

	// Slow counts the requests that took longer than SlowTimeout: "slow requests".
	Slow uint64

	// Started counts the workers that were started, or could not be.
	Started uint64

	// Failed counts the workers that ended without having been told to.
	Failed uint64

	// Workers lists the workers in the order of their start.
	Workers []Worker
}

// Worker is the state of one process.
type Worker struct {
	// PID is the process id, or 0 if the process has not been started.
	PID int

	// State is what the worker does.
	State State

	// Since is when the worker was started.
	Since time.Time

	// Requests counts the requests that it was given.
	Requests uint64

	// InFlight is the number of requests that it has.
	InFlight int

	// Job is the request that it was given last.
	Job Job
}

// Job describes the request that a worker was given last.
type Job struct {
	// Method, URI, Script and User are params of the request, each cut after 256 bytes. URI
	// includes the query.
	Method, URI, Script, User string

	// ContentLength is the length of the request's body in bytes, or -1 if it is unknown.
	ContentLength int64

	// Since is when the worker was given the request. It is zero if the worker has had none.
	Since time.Time

	// Duration is the time from Since to the end of the response, or until now.
	Duration time.Duration
}

// State is the state of a worker.
type State uint8

const (
	Starting State = iota // has not been free yet
	Idle                  // has no request
	Busy                  // has a request, or has not shown that it is free again
	Leaving               // finishes its requests and gets no new ones
	Ending                // has been told to end, or has ended
)

var stateNames = [...]string{"Starting", "Idle", "Busy", "Leaving", "Ending"}

// String returns the name of the state.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown state"
}

// Status returns the current state of the Pool.
func (p *Pool) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	s := p.status
	s.Name, s.Waiting, s.MaxWaiting = p.name(), len(p.waiting), p.maxWaiting()
	s.Workers = make([]Worker, len(p.workers))
	for i, w := range p.workers {
		s.Workers[i] = Worker{PID: w.pid, State: w.state, Since: w.since, Requests: w.requests, InFlight: w.inFlight, Job: w.job.at(now)}
		switch w.state {
		case Idle:
			s.Idle++
		case Busy:
			s.Busy++
		}
	}
	return s
}

// A job is a Job in memory that is used again, so that a request allocates nothing for it. mu of
// the Pool guards it.
type job struct {
	of                        *exchange
	method, uri, script, user text
	length                    int64
	since, ended              time.Time
}

// maxText limits a param of a Job in bytes.
const maxText = 256

type text struct {
	b [maxText]byte
	n int
}

func (t *text) set(r *gateway.Request, name string) {
	v, _ := r.Params.Lookup(name)
	t.n = copy(t.b[:], v)
}

func (t *text) String() string { return string(t.b[:t.n]) }

// begin notes the request of x.
func (j *job) begin(x *exchange, r *gateway.Request) {
	j.of, j.length, j.since, j.ended = x, r.ContentLength, x.begun, time.Time{}
	j.method.set(r, "REQUEST_METHOD")
	j.uri.set(r, "REQUEST_URI")
	j.script.set(r, "SCRIPT_FILENAME")
	j.user.set(r, "REMOTE_USER")
}

// end notes the end of x.
func (j *job) end(x *exchange) {
	if j.of == x {
		j.of, j.ended = nil, time.Now()
	}
}

// at returns the Job at that time.
func (j *job) at(now time.Time) Job {
	if j.since.IsZero() {
		return Job{}
	}
	end := j.ended
	if end.IsZero() {
		end = now
	}
	return Job{
		Method: j.method.String(), URI: j.uri.String(), Script: j.script.String(), User: j.user.String(),
		ContentLength: j.length, Since: j.since, Duration: end.Sub(j.since),
	}
}

// pathOf returns a URI without its query, which may hold a secret.
func pathOf(uri string) string {
	path, _, _ := strings.Cut(uri, "?")
	return path
}
