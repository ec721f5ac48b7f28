package fuzz

import (
	"errors"
	"fmt"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

// records is what a FastCGI server was sent: which requests were begun, and which of them are whole.
type records struct {
	b        []byte
	begun    map[uint16]int      // BEGIN_REQUESTs, whole or not
	requests map[uint16]*request // those that follow the rules
	answers  answers
}

// request is one that was begun once.
type request struct {
	begin     fastcgi.Begin
	params    []byte
	head      bool // PARAMS have ended
	stdin     bool // STDIN has ended
	done      bool // all has, DATA of a Filter too, or ABORT_REQUEST came
	malformed bool // PARAMS are no pairs
}

// newRecords takes the records of b apart, up to the first that breaks the protocol.
func newRecords(b []byte) *records {
	r := &records{b: b, begun: beginnings(b), requests: make(map[uint16]*request)}
	for rest := b; ; {
		rec, n := fastcgi.ConsumeRecord(rest)
		if n <= 0 || !r.record(rec) {
			return r
		}
		rest = rest[n:]
	}
}

// beginnings counts each BEGIN_REQUEST in b: also one that is not whole, or out of place, may be answered.
func beginnings(b []byte) map[uint16]int {
	begun := make(map[uint16]int)
	for {
		h, n := fastcgi.ConsumeHeader(b)
		if n <= 0 {
			return begun
		}
		if h.Type == fastcgi.TypeBegin {
			begun[h.ID]++
		}
		b = b[min(len(b), n+int(h.Length)+int(h.Padding)):]
	}
}

// closes is never sure: a connection may be kept, and be waited on for the next request.
func (r *records) closes() bool { return false }

// record takes one record; it reports whether those that follow it still mean something.
func (r *records) record(rec fastcgi.Record) bool {
	if rec.ID == 0 {
		return true
	}
	q := r.requests[rec.ID]
	if rec.Type == fastcgi.TypeBegin {
		begin, n := fastcgi.ConsumeBegin(rec.Content)
		if n <= 0 || q != nil {
			return false
		}
		r.requests[rec.ID] = &request{begin: begin}
		return true
	}
	if q == nil {
		return false
	}
	end := len(rec.Content) == 0
	switch {
	case rec.Type == fastcgi.TypeAbort:
		q.done = true
	case rec.Type == fastcgi.TypeParams && !q.head:
		q.addParams(rec.Content)
	case rec.Type == fastcgi.TypeStdin && q.head && !q.stdin:
		q.stdin = end
		q.done = q.done || end && q.begin.Role != gateway.RoleFilter
	case rec.Type == fastcgi.TypeData && q.stdin && !q.done:
		q.done = end
	default:
		return false
	}
	return true
}

func (q *request) addParams(content []byte) {
	if len(content) > 0 {
		q.params = append(q.params, content...)
		return
	}
	q.head = true
	var p gateway.Params
	n, err := fastcgi.ConsumeParams(q.params, &p)
	q.malformed = errors.Is(err, gateway.ErrMalformed) || err == nil && n < len(q.params)
}

func (r *records) bytes() []byte { return r.b }

// answered is true when every whole request has its END.
func (r *records) answered(answer []byte) bool {
	r.answers.read(answer)
	for id, q := range r.requests {
		if q.done && r.answers.ends[id] == 0 {
			return false
		}
	}
	return true
}

func (r *records) served(answer []byte) bool {
	r.answers.read(answer)
	return r.answers.ends[1] == 1 && r.answers.status(1) > 0
}

func (r *records) holds(answer []byte, secret string) bool {
	r.answers.read(answer)
	for _, stdout := range r.answers.stdout {
		if pieces(stdout, secret) {
			return true
		}
	}
	return pieces(answer, secret)
}

func (r *records) judge(answer []byte) error {
	a := &r.answers
	a.read(answer)
	if a.err != nil {
		return a.err
	}
	for id, n := range a.ends {
		if n > r.begun[id] {
			return fmt.Errorf("request %d was begun %d times and has %d END_REQUESTs", id, r.begun[id], n)
		}
	}
	for id, after := range a.after {
		if after && a.ends[id] >= r.begun[id] {
			return fmt.Errorf("records of request %d, which was never begun or is over", id)
		}
	}
	for id, q := range r.requests {
		if q.malformed && r.begun[id] == 1 && a.status(id) > 0 && a.status(id) < 400 {
			return fmt.Errorf("request %d, whose params are malformed, is answered with status %d", id, a.status(id))
		}
	}
	return nil
}

// answers is what a FastCGI server said.
type answers struct {
	at     int // bytes that were looked at
	ends   map[uint16]int
	after  map[uint16]bool   // output came, and no END behind it
	stdout map[uint16][]byte // the first of it
	err    error
}

// maxStdout is how much of a request's output is kept.
const maxStdout = 256 << 10

// read looks at what has been added to b, an answer.
func (a *answers) read(b []byte) {
	if a.ends == nil {
		a.ends, a.after, a.stdout = make(map[uint16]int), make(map[uint16]bool), make(map[uint16][]byte)
	}
	for a.err == nil {
		rec, n := fastcgi.ConsumeRecord(b[a.at:])
		if n < 0 {
			a.err = errors.New("the answer is no FastCGI")
		}
		if n <= 0 {
			return
		}
		a.at += n
		switch {
		case rec.ID == 0: // of the application as such
		case rec.Type == fastcgi.TypeEnd:
			a.ends[rec.ID]++
			a.after[rec.ID] = false
		case rec.Type == fastcgi.TypeStdout || rec.Type == fastcgi.TypeStderr:
			a.after[rec.ID] = true
			if rec.Type == fastcgi.TypeStdout && a.ends[rec.ID] == 0 && len(a.stdout[rec.ID]) < maxStdout {
				a.stdout[rec.ID] = append(a.stdout[rec.ID], rec.Content...)
			}
		default:
			a.err = fmt.Errorf("the answer has a record of type %v", rec.Type)
		}
	}
}

// status is that of the first answer to a request, 0 if it has no head.
func (a *answers) status(id uint16) int {
	var res gateway.Response
	if n, err := gateway.ConsumeResponse(a.stdout[id], &res); n <= 0 || err != nil {
		return 0
	}
	return res.Status
}
