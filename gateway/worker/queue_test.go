//go:build unix

package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/gateway/worker"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

// one makes a Pool of one worker.
func one(p *worker.Pool) { p.MaxWorkers = 1 }

// occupy makes the only worker busy until release is called.
func occupy(t *testing.T, p *worker.Pool) (release func()) {
	t.Helper()
	var res gateway.Response
	if err := p.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/?begin", nil), &res); err != nil {
		t.Fatal(err)
	}
	return func() {
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	t.Run("1,000 requests wait in order [311]", func(t *testing.T) {
		p := newPool(t, one)
		release := occupy(t, p)
		var mu sync.Mutex
		var order []int
		var waiting sync.WaitGroup
		for i := range 1000 {
			waiting.Go(func() {
				_, n, _, err := ask(t, p, "POST", "")
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if order[i] = n; n != i+2 {
					t.Errorf("request %d was number %d", i, n)
				}
			})
			mu.Lock()
			order = append(order, 0)
			mu.Unlock()
			until(t, "waiting", func() bool { return p.Status().Waiting == i+1 })
		}
		release()
		waiting.Wait()
		if s := p.Status(); s.PeakWaiting != 1000 || s.LimitReached != 1000 || s.Waited <= 0 || s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
		if !slices.IsSorted(order) {
			t.Error("not in order")
		}
	})
}

func TestWaiting(t *testing.T) {
	t.Parallel()
	refused := func(t *testing.T, err error) {
		t.Helper()
		e, ok := errors.AsType[*gateway.Error](err)
		if !ok || e.Phase != gateway.PhaseWait || !errors.Is(err, gateway.ErrRefused) || gateway.ErrorStatus(err) != 503 {
			t.Errorf("%v", err)
		}
	}
	t.Run("MaxWaiting [312]", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) { p.MaxWorkers, p.MaxWaiting = 1, 3 })
		release := occupy(t, p)
		var waiting sync.WaitGroup
		for i := range 3 {
			waiting.Go(func() { ask(t, p, "GET", "") })
			until(t, "waiting", func() bool { return p.Status().Waiting == i+1 })
		}
		_, _, _, err := ask(t, p, "GET", "")
		refused(t, err)
		if s := p.Status(); s.Waiting != 3 || s.PeakWaiting != 3 || s.MaxWaiting != 3 {
			t.Errorf("%+v", s)
		}
		release()
		waiting.Wait()
	})
	t.Run("WaitTimeout [313]", func(t *testing.T) {
		timed(t)
		p := newPool(t, func(p *worker.Pool) { p.MinWorkers, p.MaxWorkers, p.WaitTimeout = 1, 1, 50*time.Millisecond })
		if err := p.Start(t.Context()); err != nil { // a start may take longer
			t.Fatal(err)
		}
		release := occupy(t, p)
		_, _, _, err := ask(t, p, "GET", "")
		refused(t, err)
		release()
		if _, n, _, err := ask(t, p, "GET", ""); n != 2 || err != nil {
			t.Errorf("number %d, %v", n, err)
		}
	})
	t.Run("a context that ends [314]", func(t *testing.T) {
		p := newPool(t, one)
		release := occupy(t, p)
		for range 200 { // the end of the context meets the grant
			ctx, cancel := context.WithCancelCause(t.Context())
			ended := make(chan error, 1)
			go func() {
				var res gateway.Response
				err := p.RoundTrip(ctx, gatewaytest.NewRequest("GET", "/", nil), &res)
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				ended <- err
			}()
			until(t, "waiting", func() bool { return p.Status().Waiting == 1 })
			go cancel(errOther)
			release()
			if err := <-ended; err != nil && !errors.Is(err, errOther) {
				t.Fatal(err)
			}
			release = occupy(t, p)
		}
		release()
		if s := p.Status(); s.Busy != 0 || s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestFree(t *testing.T) {
	t.Parallel()
	t.Run("at the end of the body, before Close [309]", func(t *testing.T) {
		p := newPool(t, one)
		var res gateway.Response
		if err := p.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/", nil), &res); err != nil {
			t.Fatal(err)
		}
		if s := p.Status(); s.Busy != 1 || s.Workers[0].InFlight != 1 {
			t.Errorf("%+v", s)
		}
		if _, err := io.ReadAll(res.Body); err != nil {
			t.Fatal(err)
		}
		if s := p.Status(); s.Idle != 1 {
			t.Errorf("%+v", s)
		}
		if _, n, _, err := ask(t, p, "GET", ""); n != 2 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		res.Body.Close() // late, and of no effect
		if s := p.Status(); s.Idle != 1 || s.Workers[0].InFlight != 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("a body closed before its end [309 328]", func(t *testing.T) {
		p := newPool(t, one)
		var res gateway.Response
		if err := p.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/?begin&sleep=300", nil), &res); err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if s := p.Status(); s.Busy != 1 {
			t.Errorf("%+v", s)
		}
		pid, n, at, err := ask(t, p, "POST", "")
		if n != 2 || at != 1 || err != nil {
			t.Errorf("number %d of %d, %d at once, %v", n, pid, at, err)
		}
	})
	t.Run("a response without a body", func(t *testing.T) {
		p := newPool(t, one)
		for i := range 20 {
			var res gateway.Response
			if err := p.RoundTrip(t.Context(), gatewaytest.NewRequest("HEAD", "/", nil), &res); err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			_, n, at, err := ask(t, p, "GET", "")
			if n != 2*i+2 || at != 1 || err != nil {
				t.Fatalf("number %d, %d at once, %v", n, at, err)
			}
		}
	})
	t.Run("a request that nothing was sent of", func(t *testing.T) {
		p := newPool(t, one)
		if _, _, _, err := ask(t, p, "GET", ""); err != nil {
			t.Fatal(err)
		}
		r := gatewaytest.NewRequest("GET", "/", nil)
		r.Params.Set("HTTP_X", "a\nb")
		if o := conformance.Ask(t, p, r); !errors.Is(o.Err, gateway.ErrParam) {
			t.Error(o.Err)
		}
		if s := p.Status(); s.Idle != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestBrokenOff(t *testing.T) {
	t.Parallel()
	t.Run("a context that ends during a request [326]", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) { p.MaxWorkers = 2 })
		for i := range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			var res gateway.Response
			err := p.RoundTrip(ctx, gatewaytest.NewRequest("POST", "/?sleep=200", nil), &res)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			begun := time.Now()
			if _, _, at, err := ask(t, p, "POST", ""); at != 1 || err != nil {
				t.Errorf("%d at once, %v", at, err)
			}
			if took := time.Since(begun); i == 0 && took > 5*time.Second {
				t.Errorf("the next request waited %v", took)
			}
		}
		until(t, "idle again", func() bool { return p.Status().Idle == len(p.Status().Workers) })
		if s := p.Status(); s.Failed > 0 || len(s.Workers) > 2 || s.Started != uint64(len(s.Workers)) {
			t.Errorf("%+v", s)
		}
	})
	t.Run("Ready takes the place of the empty connection [327]", func(t *testing.T) {
		var mu sync.Mutex
		calls, fail := 0, false
		p := newPool(t, func(p *worker.Pool) {
			p.MaxWorkers = 1
			p.Ready = func(ctx context.Context, c worker.Client) error {
				mu.Lock()
				defer mu.Unlock()
				if calls++; fail {
					fail = false
					return errOther
				}
				return nil
			}
		})
		first, _, _, err := ask(t, p, "GET", "")
		if err != nil || calls != 1 {
			t.Fatalf("%d calls, %v", calls, err)
		}
		mu.Lock()
		fail = true
		mu.Unlock()
		var res gateway.Response
		if err := p.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/?begin&sleep=10", nil), &res); err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if pid, _, _, err := ask(t, p, "GET", ""); pid == first || err != nil {
			t.Errorf("pid %d, %v", pid, err)
		}
		if alive(first) || calls != 3 {
			t.Errorf("alive %v, %d calls", alive(first), calls)
		}
	})
}

func TestConcurrency(t *testing.T) {
	timed(t)
	t.Parallel()
	t.Run("several at once, the least busy first", func(t *testing.T) {
		p := newPool(t, func(p *worker.Pool) {
			p.MinWorkers, p.MaxWorkers = 2, 2
			many(p, 4)
		})
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		var asking sync.WaitGroup
		var most sync.Map
		for range 8 {
			asking.Go(func() {
				pid, _, at, err := ask(t, p, "GET", "sleep=1500")
				if at > 4 || err != nil {
					t.Errorf("%d at once, %v", at, err)
				}
				most.Store(fmt.Sprint(pid), at)
			})
		}
		asking.Wait()
		n := 0
		most.Range(func(any, any) bool { n++; return true })
		if s := p.Status(); n != 2 || s.Waiting != 0 || s.LimitReached != 0 || s.Workers[0].Requests != 4 || s.Workers[1].Requests != 4 {
			t.Errorf("%d workers, %+v", n, s)
		}
	})
}
