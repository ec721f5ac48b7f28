//go:build unix

package worker_test

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/gateway/worker"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

// varies matches what differs between two pages: numbers, times, states, and what was asked for.
var varies = regexp.MustCompile(`\d\d/\w+/\d{4}:[\d:]+ [+-]\d{4}|\d+(\.\d+)?|Idle|Running|GET|/fpm-status\?[\w&]+|\\/fpm-status\?[\w&]+|/srv/a\.php|\\/srv\\/a\.php`)

// TestStatusPage compares the pages with those of php-fpm, captured from version 8.2.
func TestStatusPage(t *testing.T) {
	p := newPool(t, func(p *worker.Pool) { p.Name, p.MinWorkers, p.MaxWorkers = "www", 2, 4 })
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 { // both have had a request
		if o := conformance.Ask(t, p, gatewaytest.NewRequest("GET", "/fpm-status?full", nil)); o.Err != nil {
			t.Fatal(o.Err)
		}
		release := occupy(t, p)
		if o := conformance.Ask(t, p, gatewaytest.NewRequest("GET", "/fpm-status?full", nil)); o.Err != nil {
			t.Fatal(o.Err)
		}
		release()
	}
	page := gateway.InProcess(worker.StatusHandler(p))
	for file, query := range map[string]string{"": "", "-full": "full", "-json": "json", "-json-full": "json&full", "-openmetrics": "openmetrics", "-openmetrics-full": "openmetrics&full"} {
		t.Run("as php-fpm"+file+" [349]", func(t *testing.T) {
			captured, err := os.ReadFile("testdata/php8.2-fpm-status" + file + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			head, body, _ := strings.Cut(string(captured), "\r\n\r\n")
			o := conformance.Ask(t, page, gatewaytest.NewRequest("GET", "/status?"+query, nil))
			got := strings.ReplaceAll(o.Body, "/?begin", "/fpm-status?full")
			got = strings.ReplaceAll(got, `\/?begin`, `\/fpm-status?full`)
			if plain(got) != plain(body) {
				t.Errorf("got\n%s\nwant\n%s", plain(got), plain(body))
			}
			if want := o.Res.Header.Get("Content-Type"); !strings.Contains(strings.ToLower(head), "content-type: "+strings.ToLower(want)) {
				t.Errorf("%s is not in\n%s", want, head)
			}
			if strings.Contains(query, "json") && !json.Valid([]byte(o.Body)) {
				t.Error("not JSON")
			}
		})
	}
	t.Run("every URI is escaped [349]", func(t *testing.T) {
		r := gatewaytest.NewRequest("GET", "/", nil)
		r.Params.Set("REQUEST_URI", "/\x01\"<x>\x7f\\")
		r.Params.Set("SCRIPT_FILENAME", "a\nslow requests: 7")
		if o := conformance.Ask(t, p, r); o.Err != nil {
			t.Fatal(o.Err)
		}
		for _, query := range []string{"full", "json&full"} {
			o := conformance.Ask(t, page, gatewaytest.NewRequest("GET", "/status?"+query, nil))
			if strings.Contains(o.Body, "\x01") || query == "full" && strings.Contains(o.Body, "\x7f") || bytes.Contains([]byte(o.Body), []byte("\nslow requests: 7")) || query == "json&full" && !json.Valid([]byte(o.Body)) {
				t.Errorf("%q", o.Body)
			}
		}
	})
}

func plain(s string) string { return varies.ReplaceAllString(s, "N") }

func TestStatus(t *testing.T) {
	t.Parallel()
	t.Run("states add up in every snapshot [348]", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) { p.Recycle, p.MaxWorkers = 20, 4 })
		over := make(chan struct{})
		for range 8 {
			go func() {
				for {
					select {
					case <-over:
						return
					default:
						ask(t, p, "GET", "")
					}
				}
			}()
		}
		var last worker.Status
		for i := range 10000 {
			s := p.Status()
			var counts [5]int
			for _, w := range s.Workers {
				counts[w.State]++
				if (w.State == worker.Idle) != (w.InFlight == 0 && w.State != worker.Starting && w.State != worker.Ending) && w.State != worker.Leaving {
					t.Fatalf("%+v", w)
				}
			}
			if counts[worker.Idle] != s.Idle || counts[worker.Busy] != s.Busy || len(s.Workers) > 5 {
				t.Fatalf("%v, %+v", counts, s)
			}
			if s.Requests < last.Requests || s.Started < last.Started || s.Failed < last.Failed || s.Waited < last.Waited || s.PeakBusy < last.PeakBusy || s.PeakWaiting < last.PeakWaiting {
				t.Fatalf("%+v, then %+v", last, s)
			}
			if last = s; i%100 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		close(over)
		if s := p.Stats(); s.Requests < 10 || s.Dialed < 2 || s.Failed > 0 {
			t.Errorf("%+v", s)
		}
	})
}
