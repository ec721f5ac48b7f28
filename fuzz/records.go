package fuzz

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

// records is what was sent to a FastCGI server: which requests were begun, and which are complete.
type records struct {
	b         []byte
	begun     map[uint16]int      // BEGIN_REQUESTs, complete or not
	requests  map[uint16]*request // those that follow the rules
	first     uint16              // the id of the first
	alone     bool                // the server does not multiplex: the first alone must get a response
	responses responses
}

// A request is one that was begun once.
type request struct {
	begin     fastcgi.Begin
	params    []byte
	head      bool // PARAMS have ended
	stdin     bool // STDIN has ended
	done      bool // the end of all streams, including DATA of a Filter, or ABORT_REQUEST
	malformed bool // the content of PARAMS is malformed
}

// newRecords splits b into records, up to the first that violates the protocol.
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

// beginnings counts the BEGIN_REQUESTs in b. Even one that is incomplete or out of place may get a
// response.
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

// closes returns false: a connection may be kept, and wait for the next request.
func (r *records) closes() bool { return false }

// record handles one record. It reports whether later records are still meaningful.
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
		if len(r.requests) == 0 {
			r.first = rec.ID
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

// responded returns true when every complete request has its END, as far as the server has to read
// it.
func (r *records) responded(response []byte) bool {
	r.responses.read(response)
	for id, q := range r.requests {
		if q.done && r.responses.ends[id] == 0 && (id == r.first || !r.alone) {
			return false
		}
	}
	return true
}

func (r *records) served(response []byte) bool {
	r.responses.read(response)
	return r.responses.ends[1] == 1 && r.responses.status(1) > 0
}

func (r *records) holds(response []byte, secret string) bool {
	r.responses.read(response)
	for _, stdout := range r.responses.stdout {
		if pieces(stdout, secret) {
			return true
		}
	}
	return pieces(response, secret)
}

func (r *records) judge(response []byte) error {
	a := &r.responses
	a.read(response)
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
			return fmt.Errorf("request %d, whose params are malformed, has a response with status %d", id, a.status(id))
		}
	}
	return nil
}

// responses is what a FastCGI server sent.
type responses struct {
	at     int // bytes that were looked at
	ends   map[uint16]int
	after  map[uint16]bool   // output without END
	stdout map[uint16][]byte // the beginning of it
	err    error
}

// maxStdout limits the output of a request that is kept.
const maxStdout = 256 << 10

// read handles what was added to b, a response.
func (a *responses) read(b []byte) {
	if a.ends == nil {
		a.ends, a.after, a.stdout = make(map[uint16]int), make(map[uint16]bool), make(map[uint16][]byte)
	}
	for a.err == nil {
		rec, n := fastcgi.ConsumeRecord(b[a.at:])
		if n < 0 {
			a.err = errors.New("the response is not FastCGI")
		}
		if n <= 0 {
			return
		}
		a.at += n
		switch {
		case rec.ID == 0: // of the application itself
		case rec.Type == fastcgi.TypeEnd:
			a.ends[rec.ID]++
			a.after[rec.ID] = false
		case rec.Type == fastcgi.TypeStdout || rec.Type == fastcgi.TypeStderr:
			a.after[rec.ID] = true
			if rec.Type == fastcgi.TypeStdout && a.ends[rec.ID] == 0 && len(a.stdout[rec.ID]) < maxStdout {
				a.stdout[rec.ID] = append(a.stdout[rec.ID], rec.Content...)
			}
		default:
			a.err = fmt.Errorf("the response has a record of type %v", rec.Type)
		}
	}
}

// status returns the status of the first response to a request, or 0 if it has no head.
func (a *responses) status(id uint16) int {
	var res gateway.Response
	if n, err := gateway.ConsumeResponse(a.stdout[id], &res); n <= 0 || err != nil {
		return 0
	}
	return res.Status
}

// multiplexes asks a FastCGI server whether it accepts a request while another is not over, section
// 4.1. A server that closes without a response, has another one, or none in time, does not. known
// is false if the server could not be asked.
func (s *Server) multiplexes(ctx context.Context) (plexed, known bool) {
	conn, err := s.Dial(ctx)
	if err != nil {
		return false, false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(s.wait()))
	const name = "FCGI_MPXS_CONNS"
	content, err := fastcgi.AppendParam(nil, name, "")
	if err != nil {
		panic(err) // it is always the same
	}
	b, err := fastcgi.AppendRecord(nil, fastcgi.TypeGetValues, 0, content)
	if err != nil {
		panic(err)
	}
	conn.Write(b) // an error is one of reading as well
	result := make([]byte, 0, 4<<10)
	for {
		if rec, n := fastcgi.ConsumeRecord(result); n != 0 || len(result) == cap(result) {
			got, value, m := fastcgi.ConsumeParam(rec.Content)
			return n > 0 && rec.Type == fastcgi.TypeGetValuesResult && m > 0 && string(got) == name && string(value) == "1", true
		}
		n, err := conn.Read(result[len(result):cap(result)])
		if result = result[:len(result)+n]; n == 0 && err != nil {
			return false, true
		}
	}
}
