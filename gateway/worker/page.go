package worker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// StatusHandler returns a Handler that responds as php-fpm does at pm.status_path, in the same
// formats byte for byte: text, JSON if the query contains "json", and OpenMetrics if it contains
// "openmetrics"; with "full" text and JSON list each worker. Programs that read php-fpm's page can
// read this one. What PHP alone knows is 0: the CPU time and the memory of a request. The page
// shows URIs with their queries and must not be public.
func StatusHandler(p *Pool) gateway.Handler {
	return gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
		query := r.Params.Get("QUERY_STRING")
		full := strings.Contains(query, "full")
		page := page{Status: p.Status(), manager: p.manager(), now: time.Now()}
		var b bytes.Buffer
		kind := "text/plain;charset=UTF-8"
		switch {
		case strings.Contains(query, "openmetrics"):
			kind = "application/openmetrics-text; version=1.0.0; charset=utf-8"
			page.metrics(&b)
		case strings.Contains(query, "json"):
			kind = "application/json"
			page.json(&b, full)
		default:
			page.text(&b, full)
		}
		w.Header().Set("Expires", "Thu, 01 Jan 1970 00:00:00 GMT")
		w.Header().Set("Cache-Control", "no-cache, no-store, must-revalidate, max-age=0")
		w.Header().Set("Content-Type", kind)
		_, err := w.Write(b.Bytes())
		return err
	})
}

// manager returns php-fpm's name for the way in which workers are started.
func (p *Pool) manager() string {
	switch {
	case p.MinWorkers > 0 && p.MinWorkers >= p.maxWorkers():
		return "static"
	case p.MinWorkers <= 0 && p.MinIdle <= 0:
		return "ondemand"
	}
	return "dynamic"
}

// A page is a Status as php-fpm would show it.
type page struct {
	Status
	manager string
	now     time.Time
}

// A field is a line of php-fpm's page.
type field struct {
	name  string
	value any // a string, a number or a time
}

// fields are the fields of the pool.
func (s *page) fields() []field {
	return []field{
		{"pool", s.Name}, {"process manager", s.manager}, {"start time", s.Since}, {"start since", s.seconds(s.Since)},
		{"accepted conn", s.Requests}, {"listen queue", s.Waiting}, {"max listen queue", s.PeakWaiting}, {"listen queue len", s.MaxWaiting},
		{"idle processes", s.Idle}, {"active processes", s.active()}, {"total processes", s.Idle + s.active()}, {"max active processes", s.PeakBusy},
		{"max children reached", s.LimitReached}, {"slow requests", s.Slow},
	}
}

// active returns the number of workers that are not idle: php-fpm has no other states.
func (s *page) active() (n int) {
	for _, w := range s.Workers {
		if w.State == Busy || w.State == Leaving {
			n++
		}
	}
	return n
}

// ofWorker are the fields of a worker.
func (s *page) ofWorker(w Worker) []field {
	return []field{
		{"pid", w.PID}, {"state", stateOf(w)}, {"start time", w.Since}, {"start since", s.seconds(w.Since)}, {"requests", w.Requests},
		{"request duration", w.Job.Duration.Microseconds()}, {"request method", orDash(w.Job.Method)}, {"request URI", orDash(w.Job.URI)},
		{"content length", max(w.Job.ContentLength, 0)}, {"user", orDash(w.Job.User)}, {"script", orDash(w.Job.Script)},
		{"last request cpu", cpu{}}, {"last request memory", 0},
	}
}

// cpu is the CPU time of a request in percent, which is not known.
type cpu struct{}

func (cpu) String() string { return "0.00" }

func (cpu) MarshalJSON() ([]byte, error) { return []byte("0.00"), nil }

// stateOf returns php-fpm's name of a state.
func stateOf(w Worker) string {
	switch w.State {
	case Starting:
		return "Reading headers"
	case Idle:
		return "Idle"
	case Ending:
		return "Finishing"
	}
	return "Running"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (s *page) seconds(since time.Time) int64 {
	if since.IsZero() {
		return 0
	}
	return int64(s.now.Sub(since).Seconds())
}

// text writes the fields as lines. A control byte in one is escaped.
func (s *page) text(b *bytes.Buffer, full bool) {
	writeText(b, s.fields())
	if !full {
		return
	}
	for _, w := range s.Workers {
		b.WriteString("\n************************\n")
		writeText(b, s.ofWorker(w))
	}
}

func writeText(b *bytes.Buffer, fields []field) {
	for _, f := range fields {
		value := fmt.Sprint(f.value)
		if at, ok := f.value.(time.Time); ok {
			value = at.Format("02/Jan/2006:15:04:05 -0700")
		}
		fmt.Fprintf(b, "%-21s %s\n", f.name+":", escaped(value))
	}
}

// escaped returns s with its control bytes escaped.
func escaped(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == 0x7f {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// json writes the fields as an object.
func (s *page) json(b *bytes.Buffer, full bool) {
	b.WriteByte('{')
	writeJSON(b, s.fields())
	if full {
		b.WriteString(`, "processes":[`)
		for i, w := range s.Workers {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteByte('{')
			writeJSON(b, s.ofWorker(w))
			b.WriteByte('}')
		}
		b.WriteByte(']')
	}
	b.WriteByte('}')
}

func writeJSON(b *bytes.Buffer, fields []field) {
	for i, f := range fields {
		value := f.value
		if at, ok := value.(time.Time); ok {
			value = at.Unix()
		}
		text, err := json.Marshal(value)
		if err != nil { // the values are strings and numbers
			panic(err)
		}
		// PHP escapes slashes, and no other byte that JSON allows.
		text = []byte(strings.NewReplacer("/", `\/`, `\u0026`, "&", `\u003c`, "<", `\u003e`, ">").Replace(string(text)))
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(b, "%q:%s", strings.ToLower(f.name), text)
	}
}

// metrics writes the fields as OpenMetrics.
func (s *page) metrics(b *bytes.Buffer) {
	for _, m := range []struct {
		name, kind, help string
		value            any
	}{
		{"up", "gauge", fmt.Sprintf("Could pool %s using a %s PM on PHP-FPM be reached?", escaped(s.Name), s.manager), 1},
		{"start_since", "counter", "The number of seconds since FPM has started.", s.seconds(s.Since)},
		{"accepted_connections", "counter", "The number of requests accepted by the pool.", s.Requests},
		{"listen_queue", "gauge", "The number of requests in the queue of pending connections.", s.Waiting},
		{"max_listen_queue", "counter", "The maximum number of requests in the queue of pending connections since FPM has started.", s.PeakWaiting},
		{"listen_queue_length", "gauge", "The size of the socket queue of pending connections.", s.MaxWaiting},
		{"idle_processes", "gauge", "The number of idle processes.", s.Idle},
		{"active_processes", "gauge", "The number of active processes.", s.active()},
		{"total_processes", "gauge", "The number of idle + active processes.", s.Idle + s.active()},
		{"max_active_processes", "counter", "The maximum number of active processes since FPM has started.", s.PeakBusy},
		{"max_children_reached", "counter", "The number of times, the process limit has been reached, when pm tries to start more children (works only for pm 'dynamic' and 'ondemand').", s.LimitReached},
		{"slow_requests", "counter", "The number of requests that exceeded your 'request_slowlog_timeout' value.", s.Slow},
	} {
		help := fmt.Sprintf("# HELP phpfpm_%s %s\n", m.name, m.help)
		kind := fmt.Sprintf("# TYPE phpfpm_%s %s\n", m.name, m.kind)
		if m.name == "listen_queue_length" { // as php-fpm has it
			help, kind = kind, help
		}
		fmt.Fprintf(b, "%s%sphpfpm_%s %v\n", help, kind, m.name, m.value)
	}
	b.WriteString("# EOF\n")
}
