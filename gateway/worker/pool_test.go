//go:build unix

package worker_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/worker"
)

func TestOnDemand(t *testing.T) {
	t.Run("no process before the first request [315 310]", func(t *testing.T) {
		p := newPool(t, nil)
		if s := p.Status(); len(s.Workers) != 0 {
			t.Fatalf("%+v", s)
		}
		first, _, _, err := ask(t, p, "GET", "")
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if pid, _, at, err := ask(t, p, "POST", ""); pid != first || at != 1 || err != nil {
				t.Fatalf("pid %d, %d at once, %v; the first was %d", pid, at, err, first)
			}
		}
		s := p.Status()
		if len(s.Workers) != 1 || s.Workers[0].PID != first || s.Workers[0].Requests != 21 || s.Idle != 1 || s.Requests != 21 {
			t.Errorf("%+v", s)
		}
		if err := p.Close(); err != nil || alive(first) {
			t.Errorf("%v, alive %v", err, alive(first))
		}
		if pid, _, _, err := ask(t, p, "GET", ""); pid == first || err != nil {
			t.Errorf("after Close: pid %d, %v", pid, err)
		}
	})
}

func TestOneAtATime(t *testing.T) {
	t.Run("8 workers, 64 clients [308]", func(t *testing.T) {
		p := newPool(t, nil)
		var clients sync.WaitGroup
		for range 64 {
			clients.Go(func() {
				for range 150 {
					if _, _, at, err := ask(t, p, "POST", ""); at != 1 || err != nil {
						t.Errorf("%d at once, %v", at, err)
						return
					}
				}
			})
		}
		clients.Wait()
		if s := p.Status(); s.PeakBusy != 8 || s.Requests != 64*150 || s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestDeath(t *testing.T) {
	t.Run("a worker that dies with a request [323]", func(t *testing.T) {
		p := newPool(t, nil)
		pid, _, _, err := ask(t, p, "GET", "")
		if err != nil {
			t.Fatal(err)
		}
		_, _, _, err = ask(t, p, "POST", "kill")
		exit, ok := errors.AsType[*worker.ExitError](err)
		if !ok || exit.PID != pid || !errors.Is(err, gateway.ErrNoResponse) {
			t.Errorf("%v", err)
		}
		if again, _, _, err := ask(t, p, "POST", ""); again == pid || err != nil {
			t.Errorf("pid %d, %v", again, err)
		}
	})
}
