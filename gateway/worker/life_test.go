//go:build unix

package worker_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/gateway/worker"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

func TestStatic(t *testing.T) {
	t.Parallel()
	t.Run("four run, and one that is killed is replaced [316]", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) { p.MinWorkers, p.MaxWorkers = 4, 4 })
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := ask(t, p, "GET", ""); err != nil { // a first response: no start is delayed
			t.Fatal(err)
		}
		s := p.Status()
		if len(s.Workers) != 4 || s.Idle != 4 {
			t.Fatalf("%+v", s)
		}
		pid := s.Workers[0].PID
		syscall.Kill(pid, syscall.SIGKILL)
		until(t, "replaced", func() bool {
			s := p.Status()
			return s.Idle == 4 && len(s.Workers) == 4 && s.Workers[0].PID != pid && s.Failed == 1
		})
	})
}

func TestSpare(t *testing.T) {
	timed(t)
	t.Parallel()
	t.Run("MinIdle starts 1, 2, 4 a second [317]", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) { p.MinIdle, p.MaxWorkers = 4, 6 })
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		until(t, "four idle", func() bool { return p.Status().Idle == 4 })
		var releases []func()
		for range 4 {
			releases = append(releases, occupy(t, p))
		}
		until(t, "at the limit", func() bool { return len(p.Status().Workers) == 6 })
		if s := p.Status(); s.LimitReached != 0 || s.Busy != 4 {
			t.Errorf("%+v", s)
		}
		for _, release := range releases {
			release()
		}
	})
	t.Run("MaxIdle ends one a second [318]", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) { p.MaxIdle, p.IdleTimeout = 1, -1 })
		var releases []func()
		for range 4 {
			releases = append(releases, occupy(t, p))
		}
		workers := p.Status().Workers
		for _, release := range releases { // in the order of their start
			release()
		}
		last := workers[len(workers)-1].PID
		until(t, "one idle", func() bool { s := p.Status(); return len(s.Workers) == 1 && s.Idle == 1 })
		if pid, _, _, err := ask(t, p, "GET", ""); pid != last || err != nil {
			t.Errorf("pid %d is left, %d was used last, %v", pid, last, err)
		}
	})
	t.Run("IdleTimeout ends those that are not used [310 319]", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) { p.IdleTimeout = 1500 * time.Millisecond })
		slow := occupy(t, p) // which is not idle, however long it takes
		var releases []func()
		for range 3 {
			releases = append(releases, occupy(t, p))
		}
		for _, release := range releases {
			release()
		}
		var used int
		until(t, "one idle", func() bool {
			pid, _, _, err := ask(t, p, "GET", "")
			if used == 0 {
				used = pid
			}
			if pid != used || err != nil {
				t.Fatalf("pid %d, %v", pid, err)
			}
			return len(p.Status().Workers) == 2
		})
		time.Sleep(2 * time.Second)
		slow()
		if s := p.Status(); s.Failed > 0 {
			t.Errorf("%+v", s)
		}
		until(t, "none left", func() bool { return len(p.Status().Workers) == 0 })
	})
}

func TestRecycle(t *testing.T) {
	t.Parallel()
	t.Run("no request fails [320]", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) { p.Recycle = 50; p.MaxWorkers = 4 })
		var clients sync.WaitGroup
		var most atomic.Int64
		for range 16 {
			clients.Go(func() {
				for range 100 {
					_, n, at, err := ask(t, p, "POST", "")
					if at != 1 || err != nil {
						t.Errorf("%d at once, %v", at, err)
						return
					}
					for m := most.Load(); int64(n) > m && !most.CompareAndSwap(m, int64(n)); m = most.Load() {
					}
				}
			})
		}
		clients.Wait()
		if s := p.Status(); most.Load() != 50 || s.Started < 1600/50 || s.Failed > 0 {
			t.Errorf("the most of one process is %d, %+v", most.Load(), s)
		}
	})
}

func TestKills(t *testing.T) {
	t.Parallel()
	t.Run("no POST runs twice, and each failure is typed [324]", func(t *testing.T) {
		requests := 2000
		if testing.Short() {
			requests = 300
		}
		notes := t.TempDir() + "/notes"
		p := newPool(t, func(p *worker.Pool) { p.MaxWorkers = 4 })
		var sending sync.WaitGroup
		var sent, failed, down atomic.Int64
		over := make(chan struct{})
		for i := range 8 {
			sending.Go(func() {
				for id := i; id < requests; id += 8 {
					r := gatewaytest.NewRequest("POST", "/?note="+notes, nil)
					r.Params.Set("HTTP_X_ID", fmt.Sprint("id-", id))
					o := conformance.Ask(t, p, r)
					sent.Add(1)
					if o.Err == nil {
						continue
					}
					if _, ok := errors.AsType[*gateway.Error](o.Err); !ok {
						t.Errorf("%v", o.Err)
					}
					if errors.Is(o.Err, worker.ErrDown) {
						down.Add(1) // all that ran were killed before their first response
					} else {
						failed.Add(1)
					}
				}
			})
		}
		go func() { sending.Wait(); close(over) }()
		kills := 0
		for done := false; !done; {
			select {
			case <-over:
				done = true
			case <-time.After(50 * time.Millisecond):
				for _, w := range p.Status().Workers {
					if w.State == worker.Busy {
						syscall.Kill(w.PID, syscall.SIGKILL)
						kills++
						break
					}
				}
			}
		}
		b, err := os.ReadFile(notes)
		if err != nil {
			t.Fatal(err)
		}
		ran := make(map[string]int)
		for id := range strings.FieldsSeq(string(b)) {
			if ran[id]++; ran[id] > 1 {
				t.Errorf("%s ran twice", id)
			}
		}
		t.Logf("%d sent, %d killed, %d failed, %d refused", sent.Load(), kills, failed.Load(), down.Load())
		if int(failed.Load()) > kills || len(ran) < requests-int(failed.Load()+down.Load()) || down.Load() > sent.Load()/2 {
			t.Errorf("%d failed, %d killed, %d ran", failed.Load(), kills, len(ran))
		}
	})
	t.Run("a GET whose worker dies is given to another [324]", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) { p.MaxWorkers = 2 })
		if _, _, _, err := ask(t, p, "GET", ""); err != nil { // a first response: the next start is not delayed
			t.Fatal(err)
		}
		marker := t.TempDir() + "/once"
		r := gatewaytest.NewRequest("GET", "/?once="+marker, nil)
		if o := conformance.Ask(t, p, r); o.Err != nil {
			t.Errorf("GET: %v", o.Err)
		}
		os.Remove(marker)
		r = gatewaytest.NewRequest("POST", "/?once="+marker, nil)
		if o := conformance.Ask(t, p, r); o.Err == nil {
			t.Error("the POST was given to another")
		}
	})
	t.Run("one that dies idle [324]", func(t *testing.T) {
		p := newPool(t, one)
		for range 20 {
			pid, _, _, err := ask(t, p, "POST", "")
			if err != nil {
				t.Fatal(err)
			}
			syscall.Kill(pid, syscall.SIGKILL)
			until(t, "dead", func() bool { s := p.Status(); return len(s.Workers) == 0 || s.Workers[0].State == worker.Ending })
		}
	})
}

func TestRequestTimeout(t *testing.T) {
	timed(t)
	t.Parallel()
	late := func(t *testing.T, err error) {
		t.Helper()
		if !errors.Is(err, os.ErrDeadlineExceeded) || gateway.ErrorStatus(err) != 504 {
			t.Errorf("%v", err)
		}
	}
	t.Run("the worker is killed [329]", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) { p.MaxWorkers, p.RequestTimeout = 1, time.Second })
		pid, _, _, err := ask(t, p, "GET", "")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(1500 * time.Millisecond) // idle, with a kept connection: the clock does not run
		if !alive(pid) {
			t.Error("an idle worker was killed")
		}
		_, _, _, err = ask(t, p, "POST", "sleep=60000")
		late(t, err)
		_, _, _, err = ask(t, p, "POST", "begin&sleep=60000")
		late(t, err)
		if again, _, _, err := ask(t, p, "GET", ""); again == pid || err != nil {
			t.Errorf("pid %d, %v", again, err)
		}
	})
	t.Run("only the exchange, with Concurrency [330]", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) {
			p.MaxWorkers, p.RequestTimeout = 1, 2*time.Second
			many(p, 8)
		})
		pid, _, _, err := ask(t, p, "GET", "")
		if err != nil {
			t.Fatal(err)
		}
		var asking sync.WaitGroup
		for range 3 {
			asking.Go(func() { _, _, _, err := ask(t, p, "POST", "sleep=30000"); late(t, err) })
			asking.Go(func() {
				if got, _, _, err := ask(t, p, "POST", "sleep=50"); got != pid || err != nil {
					t.Errorf("pid %d, %v", got, err)
				}
			})
		}
		asking.Wait()
		if got, _, _, err := ask(t, p, "GET", ""); got != pid || err != nil {
			t.Errorf("pid %d, %v", got, err)
		}
	})
}

func TestSlow(t *testing.T) {
	timed(t)
	t.Parallel()
	t.Run("once for each request [331]", func(t *testing.T) {
		jobs := make(chan worker.Job, 10)
		p := newPool(t, func(p *worker.Pool) {
			p.SlowTimeout = time.Second
			p.Slow = func(pid int, job worker.Job) { jobs <- job; panic("of Slow") }
		})
		r := gatewaytest.NewRequest("POST", "/a?sleep=1500&secret=x", []byte("body"))
		r.Params.Set("SCRIPT_FILENAME", "/srv/a.php")
		r.Params.Set("REMOTE_USER", "ada")
		if o := conformance.Ask(t, p, r); o.Err != nil {
			t.Fatal(o.Err)
		}
		job := <-jobs
		if job.Method != "POST" || job.URI != "/a?sleep=1500&secret=x" || job.Script != "/srv/a.php" || job.User != "ada" || job.ContentLength != 4 || job.Duration < time.Second {
			t.Errorf("%+v", job)
		}
		if _, _, _, err := ask(t, p, "GET", ""); err != nil || len(jobs) > 0 || p.Status().Slow != 1 {
			t.Errorf("%v, %d jobs, %+v", err, len(jobs), p.Status())
		}
	})
}

func TestBackoff(t *testing.T) {
	timed(t)
	t.Parallel()
	t.Run("starts that fail are delayed, and requests fail at once [333]", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) { p.Command = []string{"false"} })
		begun, requests := time.Now(), 0
		for time.Since(begun) < time.Second {
			_, _, _, err := ask(t, p, "GET", "")
			if !errors.Is(err, worker.ErrDown) || !errors.Is(err, gateway.ErrRefused) || !strings.Contains(err.Error(), "exit status 1") {
				t.Fatal(err)
			}
			requests++
			time.Sleep(time.Millisecond)
		}
		if s := p.Status(); s.Started > 6 || s.Started < 2 || s.Failed != s.Started || requests < 10 {
			t.Errorf("%d requests, %+v", requests, s)
		}
	})
	t.Run("an exit with status 0 after a response is no failure [334]", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) { p.MaxWorkers, p.MinWorkers = 1, 1 })
		for range 2 {
			pid, _, _, err := ask(t, p, "GET", "")
			if err != nil {
				t.Fatal(err)
			}
			syscall.Kill(pid, syscall.SIGTERM) // it ends well
			until(t, "replaced", func() bool {
				s := p.Status()
				return len(s.Workers) == 1 && s.Idle == 1 && s.Workers[0].PID != pid
			})
		}
	})
	t.Run("a worker that works again", func(t *testing.T) {
		marker := t.TempDir() + "/works"
		p := newPool(t, func(p *worker.Pool) {
			p.Command = []string{"sh", "-c", `test -e "$1" && exec "$0"`, p.Command[0], marker}
		})
		if _, _, _, err := ask(t, p, "GET", ""); !errors.Is(err, worker.ErrDown) {
			t.Fatal(err)
		}
		if err := os.WriteFile(marker, nil, 0o666); err != nil {
			t.Fatal(err)
		}
		until(t, "works", func() bool { _, _, _, err := ask(t, p, "GET", ""); return err == nil })
	})
}
