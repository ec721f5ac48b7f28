package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/race"
	"github.com/gatehouse-go/gatehouse/scgi"
)

// A fakeTarget is a backend that counts its requests and responds "ok", unless it is told
// otherwise.
type fakeTarget struct {
	name     string
	requests atomic.Int64
	respond  func(ctx context.Context, r *gateway.Request, res *gateway.Response) error // nil means "ok"
}

func (f *fakeTarget) RoundTrip(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
	f.requests.Add(1)
	if f.respond != nil {
		return f.respond(ctx, r, res)
	}
	respondWith(res, 200, f.name)
	return nil
}

func respondWith(res *gateway.Response, status int, body string) {
	res.Reset()
	res.Status, res.ContentLength, res.Body = status, int64(len(body)), io.NopCloser(strings.NewReader(body))
}

// failing makes every request fail.
func failing(phase gateway.Phase, err error) func(context.Context, *gateway.Request, *gateway.Response) error {
	return func(_ context.Context, _ *gateway.Request, res *gateway.Response) error {
		res.Reset()
		return &gateway.Error{Phase: phase, Sent: phase >= gateway.PhaseSend, Received: phase == gateway.PhaseBody, Err: err}
	}
}

var errDial = failing(gateway.PhaseDial, syscall.ECONNREFUSED)

// fakes returns n targets, and a Balancer of them.
func fakes(n int) ([]*fakeTarget, *gateway.Balancer) {
	var all []*fakeTarget
	b := new(gateway.Balancer)
	for i := range n {
		f := &fakeTarget{name: string(rune('a' + i))}
		all = append(all, f)
		b.Targets = append(b.Targets, gateway.Target{Name: f.name, Backend: f})
	}
	return all, b
}

// askTarget returns the name of the target that responded to a request of that method, or the
// error.
func askTarget(t testing.TB, b *gateway.Balancer, method, target string) (string, error) {
	t.Helper()
	var res gateway.Response
	if err := b.RoundTrip(t.Context(), gatewaytest.NewRequest(method, target, nil), &res); err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

func TestBalancerChoice(t *testing.T) {
	t.Run("turns [387]", func(t *testing.T) {
		all, b := fakes(4)
		for range 1000 {
			askTarget(t, b, "GET", "/")
		}
		for _, f := range all {
			if n := f.requests.Load(); n != 250 {
				t.Errorf("%s: %d", f.name, n)
			}
		}
	})
	t.Run("turns by weight [387]", func(t *testing.T) {
		_, b := fakes(3)
		b.Targets[0].Weight = 5
		var order strings.Builder
		for range 14 {
			name, _ := askTarget(t, b, "GET", "/")
			order.WriteString(name)
		}
		if order.String() != "aabacaaaabacaa" {
			t.Error(order.String())
		}
	})
	t.Run("the least busy by weight [386]", func(t *testing.T) {
		all, b := fakes(2)
		b.Targets[0].Weight = 3
		var open []io.Closer
		for range 100 {
			var res gateway.Response
			if err := b.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/", nil), &res); err != nil {
				t.Fatal(err)
			}
			open = append(open, res.Body)
		}
		if n := all[0].requests.Load(); n < 74 || n > 76 {
			t.Errorf("%d of 100", n)
		}
		if s := b.Stats(); s[0].InFlight+s[1].InFlight != 100 || s[0].Name != "a" || s[0].Requests != uint64(all[0].requests.Load()) {
			t.Errorf("%+v", s)
		}
		for _, c := range open {
			c.Close()
		}
		if s := b.Stats(); s[0].InFlight+s[1].InFlight != 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("no targets [403]", func(t *testing.T) {
		_, err := askTarget(t, new(gateway.Balancer), "GET", "/")
		if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Phase != gateway.PhaseWait || !errors.Is(err, gateway.ErrRefused) || gateway.ErrorStatus(err) != 503 {
			t.Error(err)
		}
	})
	t.Run("a target alone [385]", func(t *testing.T) {
		all, b := fakes(1)
		if name, err := askTarget(t, b, "GET", "/"); name != "a" || err != nil {
			t.Errorf("%q, %v", name, err)
		}
		all[0].respond = failing(gateway.PhaseHead, gateway.ErrMalformed)
		for range 3 { // marked or not
			if _, err := askTarget(t, b, "GET", "/"); !errors.Is(err, gateway.ErrMalformed) {
				t.Error(err)
			}
		}
	})
}

func TestBalancerKey(t *testing.T) {
	keyed := func(n int) ([]*fakeTarget, *gateway.Balancer) {
		all, b := fakes(n)
		b.Key = func(r *gateway.Request) string { return r.Path() }
		return all, b
	}
	t.Run("of 10,000 keys only those of a lost target move [388]", func(t *testing.T) {
		_, b := keyed(5)
		before := make(map[string]string)
		shares := make(map[string]int)
		for i := range 10_000 {
			key := fmt.Sprintf("/%d", i)
			before[key], _ = askTarget(t, b, "GET", key)
			shares[before[key]]++
		}
		for name, n := range shares {
			if n < 1900 || n > 2100 {
				t.Errorf("%s has %d", name, n)
			}
		}
		b.SetTargets(b.Targets[:4]...)
		for key, name := range before {
			if now, _ := askTarget(t, b, "GET", key); now != name && name != "e" {
				t.Fatalf("%s moved from %s to %s", key, name, now)
			}
		}
	})
	t.Run("weights [388]", func(t *testing.T) {
		all, b := keyed(2)
		b.Targets[0].Weight = 3
		for i := range 10_000 {
			askTarget(t, b, "GET", fmt.Sprintf("/%d", i))
		}
		if n := all[0].requests.Load(); n < 7125 || n > 7875 {
			t.Errorf("%d of 10,000", n)
		}
	})
	t.Run("a marked target's keys go to one other [389 408]", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			all, b := keyed(4)
			first, _ := askTarget(t, b, "GET", "/key")
			own := all[first[0]-'a']
			own.respond = errDial
			second, _ := askTarget(t, b, "GET", "/key")
			for range 10 {
				if name, _ := askTarget(t, b, "GET", "/key"); name != second || name == first {
					t.Errorf("%s, then %s", second, name)
				}
			}
			own.respond = nil
			time.Sleep(10 * time.Second)
			for range 10 {
				if name, _ := askTarget(t, b, "GET", "/key"); name != first {
					t.Errorf("%s, not %s", name, first)
				}
			}
		})
	})
}

func TestBalancerMarks(t *testing.T) {
	in := func(name string, f func(t *testing.T)) { t.Run(name, func(t *testing.T) { synctest.Test(t, f) }) }
	in("failures in a row [390 408]", func(t *testing.T) {
		all, b := fakes(2)
		b.MaxFails = 3
		all[0].respond = errDial
		ask := func(n int) {
			for range n {
				if _, err := askTarget(t, b, "GET", "/"); err != nil {
					t.Error(err)
				}
			}
		}
		ask(4) // two of them at a
		all[0].respond = nil
		ask(2)
		all[0].respond = errDial
		ask(4)
		if s := b.Stats(); s[0].Failed != 4 || !s[0].MarkedUntil.IsZero() {
			t.Errorf("%+v", s[0])
		}
		ask(2)
		if s := b.Stats(); s[0].Failed != 5 || s[0].MarkedUntil != time.Now().Add(10*time.Second) {
			t.Errorf("%+v", s[0])
		}
	})
	in("one request probes [390 405 408]", func(t *testing.T) {
		all, b := fakes(2)
		var changes []string
		b.Changed = func(name string, err error) {
			b.Stats() // no lock is held
			changes = append(changes, fmt.Sprint(name, " ", err != nil))
		}
		all[0].respond = errDial
		askTarget(t, b, "GET", "/")
		askTarget(t, b, "GET", "/")
		before := all[0].requests.Load()
		for _, works := range []bool{false, true} {
			time.Sleep(10*time.Second - 1)
			askTarget(t, b, "GET", "/")
			if n := all[0].requests.Load() - before; n != 0 {
				t.Errorf("%d requests before FailTimeout", n)
			}
			time.Sleep(time.Nanosecond)
			release := make(chan struct{})
			all[0].respond = func(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
				<-release
				if works {
					respondWith(res, 200, "a")
					return nil
				}
				return errDial(ctx, r, res)
			}
			var asked sync.WaitGroup
			for range 100 {
				asked.Go(func() { askTarget(t, b, "GET", "/") })
			}
			synctest.Wait()
			if n := all[0].requests.Load() - before; n != 1 {
				t.Errorf("%d requests probe", n)
			}
			close(release)
			asked.Wait()
			before = all[0].requests.Load()
		}
		if s := b.Stats(); !s[0].MarkedUntil.IsZero() {
			t.Errorf("%+v", s[0])
		}
		if fmt.Sprint(changes) != "[a true a false]" {
			t.Error(changes)
		}
	})
	in("all are marked [391]", func(t *testing.T) {
		all, b := fakes(3)
		b.FailTimeout = time.Hour
		late := func(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
			time.Sleep(time.Second)
			return errDial(ctx, r, res)
		}
		for _, f := range all {
			f.respond = late
		}
		b.Key = func(*gateway.Request) string { return "key" }
		// Each fails in turn, a second apart, since no connection was made.
		askTarget(t, b, "POST", "/")
		first := 0
		for i, s := range b.Stats() {
			if s.MarkedUntil.Before(b.Stats()[first].MarkedUntil) {
				first = i
			}
		}
		all[0].respond, all[1].respond, all[2].respond = nil, nil, nil
		if name, err := askTarget(t, b, "GET", "/"); name != all[first].name || err != nil {
			t.Errorf("%q, %v; %s was marked first", name, err, all[first].name)
		}
		for i, s := range b.Stats() {
			if s.MarkedUntil.IsZero() != (i == first) {
				t.Errorf("%+v", s)
			}
		}
	})
	in("after a probe one failure marks again [390]", func(t *testing.T) {
		all, b := fakes(1)
		b.MaxFails = 3
		marked := func() bool { return !b.Stats()[0].MarkedUntil.IsZero() }
		all[0].respond = errDial
		for i := range 3 {
			if askTarget(t, b, "GET", "/"); marked() != (i == 2) {
				t.Errorf("marked %v after %d failures", marked(), i+1)
			}
		}
		time.Sleep(10 * time.Second)
		all[0].respond = func(_ context.Context, _ *gateway.Request, res *gateway.Response) error {
			respondWith(res, 200, "a")
			res.Body = io.NopCloser(errReader{&gateway.Error{Phase: gateway.PhaseBody, Received: true, Err: gateway.ErrTruncated}})
			return nil
		}
		askTarget(t, b, "GET", "/") // the head ends the mark, and the body is a failure
		if !marked() {
			t.Errorf("%+v", b.Stats())
		}
	})
	in("a probe that is not sent [405]", func(t *testing.T) {
		all, b := fakes(2)
		all[1].respond = errDial
		for range 2 {
			askTarget(t, b, "GET", "/")
		}
		time.Sleep(10 * time.Second)
		all[0].respond = failing(gateway.PhaseHead, gateway.ErrRefused)
		b.Targets[0].Weight = 1 << 20 // a comes first
		b.SetTargets(b.Targets...)
		r := gatewaytest.NewRequest("POST", "/", []byte("body"))
		r.GetBody = func() (io.Reader, error) { return nil, errors.New("no body") }
		b.RoundTrip(t.Context(), r, new(gateway.Response)) // b would be probed by the body that is missing
		all[0].respond, all[1].respond = nil, nil
		b.Targets[0].Weight = 1
		b.SetTargets(b.Targets...)
		before := all[1].requests.Load()
		for range 4 {
			askTarget(t, b, "GET", "/")
		}
		if all[1].requests.Load() == before {
			t.Error("b is not probed any more")
		}
	})
	in("backups [392]", func(t *testing.T) {
		all, b := fakes(3)
		b.Targets[2].Backup = true
		for range 10 {
			askTarget(t, b, "GET", "/")
		}
		if n := all[2].requests.Load(); n > 0 {
			t.Errorf("the backup has %d requests", n)
		}
		all[0].respond, all[1].respond = errDial, errDial
		for range 10 {
			if name, err := askTarget(t, b, "GET", "/"); name != "c" || err != nil {
				t.Errorf("%q, %v", name, err)
			}
		}
		all[0].respond, all[1].respond = nil, nil
		time.Sleep(10 * time.Second)
		askTarget(t, b, "GET", "/")
		askTarget(t, b, "GET", "/")
		backup := all[2].requests.Load()
		for range 10 {
			askTarget(t, b, "GET", "/")
		}
		if n := all[2].requests.Load(); n != backup {
			t.Errorf("the backup has %d requests more", n-backup)
		}
	})
	in("FailTimeout is negative", func(t *testing.T) {
		all, b := fakes(2)
		b.FailTimeout = -1
		all[0].respond = errDial
		for range 10 {
			askTarget(t, b, "GET", "/")
		}
		if s := b.Stats(); s[0].Failed != 5 || !s[0].MarkedUntil.IsZero() {
			t.Errorf("%+v", s[0])
		}
	})
	in("SetTargets keeps the state of a name [401]", func(t *testing.T) {
		all, b := fakes(2)
		all[0].respond = errDial
		askTarget(t, b, "GET", "/")
		before := b.Stats()
		b.SetTargets(gateway.Target{Name: "new", Backend: all[1]}, b.Targets[0], gateway.Target{Name: "new", Backend: all[0]})
		if s := b.Stats(); len(s) != 2 || s[0] != before[0] || s[1].Name != "new" || s[1].Requests != 0 {
			t.Errorf("%+v, before %+v", s, before)
		}
	})
}

func TestBalancerFailures(t *testing.T) {
	for _, c := range []struct {
		name   string
		phase  gateway.Phase
		err    error
		failed bool
		tries  [2]int64 // of a GET and of a POST without a body
	}{
		{"ErrParam [393]", gateway.PhaseRequest, gateway.ErrParam, false, [2]int64{1, 1}},
		{"ErrLengthRequired [393]", gateway.PhaseRequest, gateway.ErrLengthRequired, false, [2]int64{1, 1}},
		{"ErrBodyTooLarge [393]", gateway.PhaseRequest, gateway.ErrBodyTooLarge, false, [2]int64{1, 1}},
		{"the client's body [393]", gateway.PhaseHead, gateway.ErrRequestBody, false, [2]int64{1, 1}},
		{"no descriptors [393]", gateway.PhaseDial, syscall.EMFILE, false, [2]int64{2, 2}},
		{"ErrRefused [393]", gateway.PhaseHead, gateway.ErrRefused, false, [2]int64{2, 2}},
		{"no connection [394 395]", gateway.PhaseDial, syscall.ECONNREFUSED, true, [2]int64{2, 2}},
		{"a time-out of Dial [394]", gateway.PhaseDial, context.DeadlineExceeded, true, [2]int64{2, 2}},
		{"ErrNoResponse [394 395 396]", gateway.PhaseHead, gateway.ErrNoResponse, true, [2]int64{2, 1}},
		{"a reset [394 395 396]", gateway.PhaseHead, syscall.ECONNRESET, true, [2]int64{2, 1}},
		{"ErrMalformed [394 396]", gateway.PhaseHead, gateway.ErrMalformed, true, [2]int64{1, 1}},
		{"ErrTooLarge of a head [394]", gateway.PhaseHead, gateway.ErrTooLarge, true, [2]int64{1, 1}},
		{"a time-out [394 397]", gateway.PhaseHead, context.DeadlineExceeded, true, [2]int64{1, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i, method := range []string{"GET", "POST"} {
				all, b := fakes(3)
				for _, f := range all {
					f.respond = failing(c.phase, c.err)
				}
				b.MaxTries = 2
				if _, err := askTarget(t, b, method, "/"); !errors.Is(err, c.err) {
					t.Errorf("%s: %v", method, err)
				}
				var tried, failed int64
				for _, s := range b.Stats() {
					tried, failed = tried+int64(s.Requests), failed+int64(s.Failed)
					if s.InFlight != 0 || s.MarkedUntil.IsZero() == (c.failed && s.Requests > 0) {
						t.Errorf("%s: %+v", method, s)
					}
				}
				if tried != c.tries[i] || failed != 0 != c.failed {
					t.Errorf("%s: %d tries, %d failures", method, tried, failed)
				}
			}
		})
	}
	t.Run("a truncated body [394 402]", func(t *testing.T) {
		all, b := fakes(2)
		all[0].respond = func(_ context.Context, _ *gateway.Request, res *gateway.Response) error {
			res.Reset()
			res.Status, res.ContentLength, res.Body = 200, -1, io.NopCloser(errReader{&gateway.Error{Phase: gateway.PhaseBody, Sent: true, Received: true, Err: gateway.ErrTruncated}})
			return nil
		}
		if _, err := askTarget(t, b, "GET", "/"); !errors.Is(err, gateway.ErrTruncated) {
			t.Error(err)
		}
		if s := b.Stats(); s[0].Failed != 1 || s[0].InFlight != 0 || s[0].MarkedUntil.IsZero() {
			t.Errorf("%+v", s[0])
		}
	})
	t.Run("a client that breaks off its upload [393 F68]", func(t *testing.T) {
		addr := gatewaytest.Start(t, &scgi.Server{Handler: gateway.HandlerFunc(func(_ gateway.ResponseWriter, r *gateway.Request) error {
			_, err := io.Copy(io.Discard, r.Body)
			return err
		}), Logger: slog.New(slog.DiscardHandler)})
		b := &gateway.Balancer{Targets: []gateway.Target{{Name: "a", Backend: &scgi.Client{Addr: addr}}, {Name: "b", Backend: &scgi.Client{Addr: addr}}}, MaxFails: 1}
		for _, cause := range []error{syscall.ECONNRESET, gateway.ErrMalformed, os.ErrDeadlineExceeded} {
			r := gatewaytest.NewRequest("POST", "/", nil)
			r.Body, r.ContentLength, r.GetBody = io.MultiReader(strings.NewReader("half"), iotest.ErrReader(cause)), 8, nil
			if err := b.RoundTrip(t.Context(), r, new(gateway.Response)); !errors.Is(err, gateway.ErrRequestBody) || !errors.Is(err, cause) {
				t.Errorf("%v: %v", cause, err)
			}
		}
		for _, s := range b.Stats() {
			if s.Failed != 0 || !s.MarkedUntil.IsZero() {
				t.Errorf("%+v", s)
			}
		}
	})
	t.Run("a context that ends [393]", func(t *testing.T) {
		all, b := fakes(2)
		ctx, cancel := context.WithCancel(t.Context())
		all[0].respond = func(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
			cancel()
			return failing(gateway.PhaseHead, gateway.ErrNoResponse)(ctx, r, res)
		}
		if err := b.RoundTrip(ctx, gatewaytest.NewRequest("GET", "/", nil), new(gateway.Response)); err == nil {
			t.Error("a response")
		}
		if s := b.Stats(); s[0].Failed != 0 || s[1].Requests != 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("a panic of the backend", func(t *testing.T) {
		all, b := fakes(1)
		all[0].respond = func(context.Context, *gateway.Request, *gateway.Response) error { panic("of the backend") }
		func() {
			defer func() { recover() }()
			askTarget(t, b, "GET", "/")
		}()
		if s := b.Stats(); s[0].InFlight != 0 {
			t.Errorf("%+v", s[0])
		}
	})
	t.Run("a panic of the backend is no success", func(t *testing.T) {
		all, b := fakes(1)
		b.MaxFails = 2
		calls := 0
		all[0].respond = func(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
			if calls++; calls == 2 {
				panic("of the backend")
			}
			return errDial(ctx, r, res)
		}
		for range 3 {
			func() {
				defer func() { recover() }()
				askTarget(t, b, "GET", "/")
			}()
		}
		if s := b.Stats(); s[0].MarkedUntil.IsZero() {
			t.Errorf("%+v", s[0])
		}
	})
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

func TestBalancerBodies(t *testing.T) {
	const content = "the body"
	for name, c := range map[string]struct {
		phase gateway.Phase
		err   error
		again bool // GetBody is set
		tries int64
	}{
		"read again [398]":          {gateway.PhaseHead, gateway.ErrRefused, true, 2},
		"read once [398]":           {gateway.PhaseHead, gateway.ErrRefused, false, 1},
		"untouched by Dial [398]":   {gateway.PhaseDial, syscall.ECONNREFUSED, false, 2},
		"MaxTries is reached [399]": {gateway.PhaseDial, syscall.ECONNREFUSED, true, 2},
	} {
		t.Run(name, func(t *testing.T) {
			all, b := fakes(5)
			b.MaxTries = 2
			all[0].respond = func(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
				if c.phase > gateway.PhaseDial {
					io.ReadFull(r.Body, make([]byte, 3))
				}
				return failing(c.phase, c.err)(ctx, r, res)
			}
			all[1].respond = func(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
				if strings.HasPrefix(name, "MaxTries") {
					return failing(c.phase, c.err)(ctx, r, res)
				}
				b, _ := io.ReadAll(r.Body)
				respondWith(res, 200, string(b)+" "+r.Path())
				return nil
			}
			r := gatewaytest.NewRequest("POST", "/path", []byte(content))
			if !c.again {
				r.Body, r.GetBody = io.MultiReader(strings.NewReader(content)), nil
			}
			before := r.Body
			var res gateway.Response
			err := b.RoundTrip(t.Context(), r, &res)
			if err == nil {
				if got, _ := io.ReadAll(res.Body); string(got) != content+" /path" {
					t.Errorf("%q", got)
				}
			} else if c.tries == 2 && !strings.HasPrefix(name, "MaxTries") {
				t.Error(err)
			}
			if r.Body != before {
				t.Error("the request has changed")
			}
			var tries uint64
			for _, s := range b.Stats() {
				tries += s.Requests
			}
			if int64(tries) != c.tries {
				t.Errorf("%d tries", tries)
			}
		})
	}
}

// TestBalancerOpensNoBodyInVain counts the bodies that are opened when no target is left, or when
// one cannot be opened.
func TestBalancerOpensNoBodyInVain(t *testing.T) {
	all, b := fakes(1)
	all[0].respond = func(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
		io.ReadFull(r.Body, make([]byte, 1))
		return failing(gateway.PhaseHead, gateway.ErrRefused)(ctx, r, res)
	}
	opened := 0
	r := gatewaytest.NewRequest("POST", "/", []byte("body"))
	r.GetBody = func() (io.Reader, error) {
		opened++
		return nil, errors.New("no body")
	}
	for targets := 1; targets <= 2; targets++ {
		var res gateway.Response
		if err := b.RoundTrip(t.Context(), r, &res); !errors.Is(err, gateway.ErrRefused) {
			t.Error(err)
		}
		if opened != targets-1 {
			t.Errorf("%d targets: %d bodies opened", targets, opened)
		}
		b.SetTargets(b.Targets[0], gateway.Target{Name: "other", Backend: &fakeTarget{}})
	}
	if s := b.Stats(); s[0].InFlight != 0 || s[1].InFlight != 0 || s[1].Requests != 0 {
		t.Errorf("%+v", s)
	}
}

func TestBalancerFailed(t *testing.T) {
	unavailable := func(f *fakeTarget, closed *atomic.Int64) {
		f.respond = func(_ context.Context, _ *gateway.Request, res *gateway.Response) error {
			respondWith(res, 503, "busy "+f.name)
			res.Body = closeCounter{res.Body, closed}
			return nil
		}
	}
	t.Run("a GET goes elsewhere [400]", func(t *testing.T) {
		all, b := fakes(2)
		b.Failed = func(res *gateway.Response) bool { return res.Status == 503 }
		var closed atomic.Int64
		unavailable(all[0], &closed)
		if name, err := askTarget(t, b, "GET", "/"); name != "b" || err != nil || closed.Load() != 1 {
			t.Errorf("%q, %v, closed %d times", name, err, closed.Load())
		}
		if s := b.Stats(); s[0].Failed != 1 || s[0].InFlight != 0 || s[0].MarkedUntil.IsZero() {
			t.Errorf("%+v", s[0])
		}
	})
	t.Run("a POST and the last target receive the response [400]", func(t *testing.T) {
		for _, method := range []string{"POST", "GET"} {
			all, b := fakes(2)
			b.Failed = func(res *gateway.Response) bool { return res.Status == 503 }
			var closed atomic.Int64
			unavailable(all[0], &closed)
			unavailable(all[1], &closed)
			want := map[string]string{"POST": "busy a", "GET": "busy b"}[method]
			if name, err := askTarget(t, b, method, "/"); name != want || err != nil {
				t.Errorf("%s: %q, %v", method, name, err)
			}
		}
	})
}

// TestBalancerPanickingClose closes a response that counts as a failure with a Close that panics.
func TestBalancerPanickingClose(t *testing.T) {
	all, b := fakes(2)
	b.Failed = func(res *gateway.Response) bool { return res.Status == 503 }
	all[0].respond = func(_ context.Context, _ *gateway.Request, res *gateway.Response) error {
		respondWith(res, 503, "busy")
		res.Body = panickingCloser{res.Body}
		return nil
	}
	func() {
		defer func() { recover() }()
		askTarget(t, b, "GET", "/")
	}()
	if s := b.Stats(); s[0].InFlight != 0 || s[1].InFlight != 0 || s[1].Requests != 0 {
		t.Errorf("%+v", s)
	}
}

// TestBalancerPanickingGetBody has GetBody panic after a response that counts as a failure.
func TestBalancerPanickingGetBody(t *testing.T) {
	all, b := fakes(2)
	b.Failed = func(res *gateway.Response) bool { return res.Status == 503 }
	all[0].respond = func(_ context.Context, _ *gateway.Request, res *gateway.Response) error {
		respondWith(res, 503, "busy")
		return nil
	}
	r := gatewaytest.NewRequest("GET", "/", []byte("body"))
	r.GetBody = func() (io.Reader, error) { panic("of GetBody") }
	func() {
		defer func() { recover() }()
		b.RoundTrip(t.Context(), r, new(gateway.Response))
	}()
	for _, s := range b.Stats() {
		if s.InFlight != 0 {
			t.Errorf("%+v", s)
		}
	}
}

type panickingCloser struct{ io.ReadCloser }

func (panickingCloser) Close() error { panic("of Close") }

type closeCounter struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c closeCounter) Close() error { c.n.Add(1); return c.ReadCloser.Close() }

// TestBalancerUnderLoad sends 100,000 requests, or fewer with the race detector, over three targets
// that refuse, reset, cut and die at random, and whose list changes meanwhile.
func TestBalancerUnderLoad(t *testing.T) {
	t.Run("no POST runs twice [395 401]", func(t *testing.T) {
		all, b := fakes(3)
		b.FailTimeout = time.Millisecond
		var ran sync.Map // of ids
		for i, f := range all {
			f.respond = func(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
				dice := rand.IntN(20)
				switch dice {
				case 0:
					return errDial(ctx, r, res)
				case 1:
					return failing(gateway.PhaseHead, gateway.ErrRefused)(ctx, r, res)
				}
				if n, twice := ran.LoadOrStore(r.URI(), i); twice && r.Method() == "POST" {
					t.Errorf("%s ran at %v and %d", r.URI(), n, i)
				}
				switch dice {
				case 2:
					return failing(gateway.PhaseHead, syscall.ECONNRESET)(ctx, r, res)
				case 3:
					return failing(gateway.PhaseHead, gateway.ErrNoResponse)(ctx, r, res)
				}
				respondWith(res, 200, r.URI())
				if dice == 4 {
					res.Body = io.NopCloser(errReader{&gateway.Error{Phase: gateway.PhaseBody, Err: gateway.ErrTruncated}})
				}
				return nil
			}
		}
		over := make(chan struct{})
		go func() {
			for {
				select {
				case <-over:
					return
				default:
					b.SetTargets(b.Targets[:1+rand.IntN(3)]...)
					time.Sleep(100 * time.Microsecond)
				}
			}
		}()
		each := 100_000 / 16
		if race.Enabled {
			each /= 10
		}
		var asked sync.WaitGroup
		for i := range 16 {
			asked.Go(func() {
				for j := range each {
					method, target := []string{"GET", "POST"}[j%2], fmt.Sprintf("/%d/%d", i, j)
					got, err := askTarget(t, b, method, target)
					if _, typed := errors.AsType[*gateway.Error](err); err != nil && !typed || err == nil && got != target {
						t.Errorf("%s: %q, %v", target, got, err)
					}
				}
			})
		}
		asked.Wait()
		close(over)
		b.SetTargets(b.Targets...)
		for _, s := range b.Stats() {
			if s.InFlight != 0 {
				t.Errorf("%+v", s)
			}
		}
	})
}

func TestBalancerEnds(t *testing.T) {
	t.Run("a response ends once [402 406]", func(t *testing.T) {
		_, b := fakes(1)
		var first, second gateway.Response
		if err := b.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/", nil), &first); err != nil {
			t.Fatal(err)
		}
		stale := first.Body
		io.ReadAll(stale)
		if s := b.Stats(); s[0].InFlight != 0 {
			t.Errorf("after io.EOF: %+v", s[0])
		}
		if err := b.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/", nil), &second); err != nil {
			t.Fatal(err)
		}
		stale.Close()
		if s := b.Stats(); s[0].InFlight != 1 {
			t.Errorf("a Close that comes late: %+v", s[0])
		}
		second.Body.Close()
		second.Body.Close()
		if s := b.Stats(); s[0].InFlight != 0 {
			t.Errorf("after Close: %+v", s[0])
		}
	})
	t.Run("a Stream at its Close [402]", func(t *testing.T) {
		all, b := fakes(1)
		all[0].respond = func(_ context.Context, _ *gateway.Request, res *gateway.Response) error {
			res.Reset()
			res.Status, res.Body = 101, new(endedStream)
			return nil
		}
		var res gateway.Response
		if err := b.RoundTrip(t.Context(), gatewaytest.NewRequest("GET", "/", nil), &res); err != nil {
			t.Fatal(err)
		}
		s, ok := res.Body.(gateway.Stream)
		if !ok {
			t.Fatalf("a Body of type %T", res.Body)
		}
		s.Read(nil)
		if s := b.Stats(); s[0].InFlight != 1 {
			t.Errorf("after io.EOF: %+v", s[0])
		}
		s.Close()
		if s := b.Stats(); s[0].InFlight != 0 {
			t.Errorf("after Close: %+v", s[0])
		}
	})
	t.Run("no allocation [385 406]", func(t *testing.T) {
		if race.Enabled {
			t.Skip("builds with the race detector give out memory once")
		}
		_, b := fakes(100)
		b.SetTargets(append(b.Targets, gateway.Target{Name: "x", Backend: new(fixed)})...)
		for i := range b.Targets {
			b.Targets[i].Backend = new(fixed)
		}
		b.SetTargets(b.Targets...)
		for name, key := range map[string]func(*gateway.Request) string{"least busy": nil, "by key": func(r *gateway.Request) string { return "key" }} {
			b.Key = key
			r := gatewaytest.NewRequest("GET", "/", nil)
			var res gateway.Response
			run := func() {
				if err := b.RoundTrip(t.Context(), r, &res); err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
			}
			run()
			if n := testing.AllocsPerRun(1000, run); n != 0 {
				t.Errorf("%s: %v allocations", name, n)
			}
		}
	})
}

// A fixed is a backend that allocates nothing.
type fixed struct{}

func (*fixed) Read([]byte) (int, error) { return 0, io.EOF }
func (*fixed) Close() error             { return nil }

func (f *fixed) RoundTrip(_ context.Context, _ *gateway.Request, res *gateway.Response) error {
	res.Reset()
	res.Status, res.Body = 204, f
	return nil
}

type endedStream struct{}

func (endedStream) Read([]byte) (int, error)    { return 0, io.EOF }
func (endedStream) Write(p []byte) (int, error) { return len(p), nil }
func (endedStream) Close() error                { return nil }
func (endedStream) CloseWrite() error           { return nil }
func (endedStream) SetDeadline(time.Time) error { return nil }

func BenchmarkBalancer(b *testing.B) {
	for _, n := range []int{3, 100} {
		for name, key := range map[string]func(*gateway.Request) string{"busy": nil, "key": func(*gateway.Request) string { return "key" }} {
			b.Run(fmt.Sprint(n, " targets by ", name), func(b *testing.B) {
				balancer := &gateway.Balancer{Key: key}
				for i := range n {
					balancer.Targets = append(balancer.Targets, gateway.Target{Name: fmt.Sprint(i), Backend: new(fixed)})
				}
				r := gatewaytest.NewRequest("GET", "/", nil)
				var res gateway.Response
				b.ReportAllocs()
				for b.Loop() {
					if err := balancer.RoundTrip(b.Context(), r, &res); err != nil {
						b.Fatal(err)
					}
					res.Body.Close()
				}
			})
		}
	}
}
