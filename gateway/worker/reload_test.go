//go:build unix

package worker_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/gateway/worker"
)

func TestReload(t *testing.T) {
	t.Parallel()
	t.Run("every 250 ms, and no POST fails [335]", func(t *testing.T) {
		limit := 3 * time.Second
		if testing.Short() {
			limit = time.Second
		}
		p := newPool(t, func(p *worker.Pool) { p.MaxWorkers = 4 })
		over := make(chan struct{})
		var clients sync.WaitGroup
		for range 16 {
			clients.Go(func() {
				for {
					select {
					case <-over:
						return
					default:
					}
					if _, _, at, err := ask(t, p, "POST", ""); at != 1 || err != nil {
						t.Errorf("%d at once, %v", at, err)
						return
					}
				}
			})
		}
		reloads := 0
		for begun := time.Now(); time.Since(begun) < limit; reloads++ {
			before := make(map[int]bool)
			for _, w := range p.Status().Workers {
				before[w.PID] = true
			}
			if err := p.Reload(t.Context()); err != nil {
				t.Error(err)
			}
			for _, w := range p.Status().Workers {
				if before[w.PID] && w.PID != 0 {
					t.Errorf("%d is older than the reload", w.PID)
				}
			}
			time.Sleep(250 * time.Millisecond)
		}
		close(over)
		clients.Wait()
		s := p.Status()
		t.Logf("%d reloads, %d requests, %d workers", reloads, s.Requests, s.Started)
		if s.Failed > 0 || reloads < 2 {
			t.Errorf("%d reloads, %+v", reloads, s)
		}
	})
	t.Run("a program that no longer starts [336]", func(t *testing.T) {
		link := t.TempDir() + "/program"
		p := newPool(t, func(p *worker.Pool) {
			if err := os.Symlink(p.Command[0], link); err != nil {
				t.Fatal(err)
			}
			p.Command = []string{"sh", "-c", `exec "$0"`, link}
			p.MinWorkers, p.MaxWorkers = 2, 2
		})
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		pid, _, _, err := ask(t, p, "GET", "")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
		if err := p.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "not found") {
			t.Errorf("%v", err)
		}
		if again, _, _, err := ask(t, p, "POST", ""); again != pid || err != nil {
			t.Errorf("pid %d, %v", again, err)
		}
	})
	t.Run("as many at a time as there is room for [337]", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) { p.MaxWorkers, p.IdleTimeout = 4, -1 })
		var releases []func()
		for range 4 {
			releases = append(releases, occupy(t, p))
		}
		most, over := 0, make(chan struct{})
		var watching sync.WaitGroup
		watching.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
					most = max(most, len(p.Status().Workers))
				}
			}
		})
		reloaded := make(chan error, 1)
		go func() { reloaded <- p.Reload(t.Context()) }()
		until(t, "one new worker", func() bool { return p.Status().Idle == 1 })
		// The old workers are busy, and others are served meanwhile.
		if _, _, _, err := ask(t, p, "POST", ""); err != nil {
			t.Error(err)
		}
		for _, release := range releases {
			release()
		}
		if err := <-reloaded; err != nil {
			t.Error(err)
		}
		close(over)
		watching.Wait()
		if s := p.Status(); most > 5 || len(s.Workers) != 4 || s.Started != 8 {
			t.Errorf("at the most %d, %+v", most, s)
		}
	})
	t.Run("a slow request [338]", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) { p.MaxWorkers = 2 })
		slow := make(chan error, 1)
		go func() { _, _, _, err := ask(t, p, "POST", "sleep=1500"); slow <- err }()
		until(t, "busy", func() bool { return p.Status().Busy == 1 })
		reloaded := make(chan error, 1)
		go func() { reloaded <- p.Reload(t.Context()) }()
		for range 20 {
			if _, _, _, err := ask(t, p, "POST", ""); err != nil {
				t.Error(err)
			}
		}
		select {
		case err := <-reloaded:
			t.Errorf("Reload returned %v before the old worker had ended", err)
		default:
		}
		if err := <-slow; err != nil {
			t.Error(err)
		}
		if err := <-reloaded; err != nil {
			t.Error(err)
		}
	})
	t.Run("a second one waits, and Shutdown ends it [339]", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) { p.MaxWorkers = 1 })
		release := occupy(t, p)
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- p.Reload(t.Context()) }()
		until(t, "reloading", func() bool { return len(p.Status().Workers) == 2 })
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { second <- p.Reload(ctx) }()
		cancel(errOther)
		if err := <-second; !errors.Is(err, errOther) {
			t.Errorf("the second: %v", err)
		}
		down := make(chan error, 1)
		go func() { down <- p.Shutdown(t.Context()) }()
		if err := <-first; !errors.Is(err, gateway.ErrRefused) {
			t.Errorf("the first: %v", err)
		}
		release()
		if err := <-down; err != nil {
			t.Error(err)
		}
	})
	t.Run("without workers", func(t *testing.T) {
		if err := newPool(t, nil).Reload(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("its context ends", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) { p.MaxWorkers = 1 })
		release := occupy(t, p)
		old := p.Status().Workers[0].PID
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := p.Reload(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		release()
		until(t, "replaced", func() bool { s := p.Status(); return len(s.Workers) == 1 && s.Idle == 1 })
		if pid := p.Status().Workers[0].PID; pid == old {
			t.Log("the replacement had not begun")
		}
	})
}

func TestShutdown(t *testing.T) {
	t.Run("current requests finish [340]", func(t *testing.T) {
		dir := t.TempDir()
		t.Setenv("TMPDIR", dir)
		p := newPool(t, func(p *worker.Pool) { p.MaxWorkers = 2 })
		running := make(chan error, 1)
		go func() { _, _, _, err := ask(t, p, "POST", "sleep=300"); running <- err }()
		until(t, "busy", func() bool { return p.Status().Busy == 1 })
		down := make(chan error, 1)
		go func() { down <- p.Shutdown(t.Context()) }()
		until(t, "refusing", func() bool {
			_, _, _, err := ask(t, p, "GET", "")
			return errors.Is(err, gateway.ErrRefused)
		})
		if err := <-running; err != nil {
			t.Error(err)
		}
		if err := <-down; err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 || len(p.Status().Workers) > 0 {
			t.Errorf("%v is left, %+v", left, p.Status())
		}
	})
	t.Run("a context that ends kills [340]", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) { p.MaxWorkers = 2 })
		running := make(chan error, 1)
		go func() { _, _, _, err := ask(t, p, "POST", "sleep=60000"); running <- err }()
		until(t, "busy", func() bool { return p.Status().Busy == 1 })
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errOther)
		if err := p.Shutdown(ctx); !errors.Is(err, errOther) {
			t.Errorf("%v", err)
		}
		if err := <-running; err == nil {
			t.Error("no error")
		}
	})
	t.Run("a worker that ignores the signal, and its children [341]", func(t *testing.T) {
		pids := t.TempDir() + "/pids"
		p := newPool(t, func(p *worker.Pool) {
			p.Grace, p.MinWorkers = 200*time.Millisecond, 1
			p.Command = []string{"sh", "-c", `trap "" TERM; sleep 1000 & echo $$ $! >"$1"; exec 3<&0; GATEHOUSE_TEST_IGNORE=1 "$0" <&3`, p.Command[0], pids}
		})
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.Close()
		b, err := os.ReadFile(pids)
		if err != nil {
			t.Fatal(err)
		}
		for field := range strings.FieldsSeq(string(b)) {
			until(t, "dead", func() bool { return syscall.Kill(atoi(t, field), 0) != nil })
		}
	})
	t.Run("Close ends requests, and the Pool can be used again", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) { p.Grace = 100 * time.Millisecond; p.MaxWorkers = 1 })
		running, waiting := make(chan error, 1), make(chan error, 1)
		go func() { _, _, _, err := ask(t, p, "POST", "sleep=60000"); running <- err }()
		until(t, "busy", func() bool { return p.Status().Busy == 1 })
		go func() {
			var res gateway.Response
			waiting <- p.RoundTrip(t.Context(), gatewaytest.NewRequest("POST", "/", nil), &res)
		}()
		until(t, "waiting", func() bool { return p.Status().Waiting == 1 })
		p.Close()
		if err := <-running; err == nil {
			t.Error("no error")
		}
		if err := <-waiting; !errors.Is(err, gateway.ErrRefused) {
			t.Errorf("%v", err)
		}
		if _, _, _, err := ask(t, p, "GET", ""); err != nil {
			t.Error(err)
		}
	})
}
