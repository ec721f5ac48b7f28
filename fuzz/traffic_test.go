package fuzz_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
)

// content returns the body of a request. No two ids have the same.
func content(id string, size int) []byte {
	h := fnv.New64a()
	io.WriteString(h, id)
	var seed [32]byte
	copy(seed[:], strconv.FormatUint(h.Sum64(), 36))
	b := make([]byte, size)
	rand.NewChaCha8(seed).Read(b)
	return b
}

// signed responds with the id of a request and its body, as it comes.
var signed = gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
	id := r.Params.Get("HTTP_X_ID")
	w.Header().Set("X-Id", id)
	w.Header().Set("Content-Length", strconv.FormatInt(int64(len(id))+r.ContentLength, 10))
	if _, err := io.WriteString(w, id); err != nil || r.Body == nil {
		return err
	}
	_, err := io.Copy(w, r.Body)
	return err
})

// errCrossed means that a client received bytes of another response, or lost some without an error.
var errCrossed = errors.New("not the response to this request")

// ask sends a request of that id and size. What it returns is nil if the response is whole and
// right, errCrossed if it is wrong, and otherwise an error, which is typed.
func ask(ctx context.Context, c gateway.RoundTripper, id string, size int) error {
	method := "GET"
	body := content(id, size)
	if size > 0 {
		method = "POST"
	}
	r := gatewaytest.NewRequest(method, "/"+id, body)
	r.Params.Add("HTTP_X_ID", id)
	var res gateway.Response
	if err := c.RoundTrip(ctx, r, &res); err != nil {
		return typed(err)
	}
	got, err := io.ReadAll(res.Body)
	res.Body.Close()
	if res.Status >= 400 { // by a server that did not get all of it
		return fmt.Errorf("status %d: %w", res.Status, gateway.ErrAborted)
	}
	want := append([]byte(id), body...)
	switch {
	case string(res.Header.Get("X-Id")) != id:
		return fmt.Errorf("%w: %s has the head of %q", errCrossed, id, res.Header.Get("X-Id"))
	case !bytes.HasPrefix(want, got):
		return fmt.Errorf("%w: %s has other bytes", errCrossed, id)
	case err != nil:
		return typed(err)
	case len(got) != len(want):
		return fmt.Errorf("%w: %s has %d of %d bytes, and no error", errCrossed, id, len(got), len(want))
	}
	return nil
}

// typed checks that an error is one that a client may return.
func typed(err error) error {
	if _, ok := errors.AsType[*gateway.Error](err); !ok {
		return fmt.Errorf("%w: an error without a type: %T: %v", errCrossed, err, err)
	}
	return err
}

// size is one of a request's body: often nothing, seldom much.
func size(rng *rand.Rand) int {
	if rng.IntN(3) == 0 {
		return 0
	}
	return int(rng.ExpFloat64() * float64(int(1)<<rng.IntN(17)))
}

// balance holds the resources of a process.
type balance struct{ goroutines, descriptors, children, files int }

// balanceNow counts; temp is the folder of temporary files.
func balanceNow(temp string) balance {
	b := balance{goroutines: runtime.NumGoroutine()}
	fds, _ := os.ReadDir("/proc/self/fd")
	b.descriptors = len(fds)
	files, _ := os.ReadDir(temp)
	b.files = len(files)
	b.children = children()
	return b
}

// ofTest marks the environment of a test's scripts, and of the processes that they start, with the
// test's process.
const ofTest = "GATEHOUSE_TEST_OF="

// children is the number of processes that are this one's, zombies included, or its scripts' and
// whose parent is gone.
func children() (n int) {
	self := strconv.Itoa(os.Getpid())
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range procs {
		stat, _ := os.ReadFile(filepath.Join(proc, "stat")) // nothing if it has ended
		environ, _ := os.ReadFile(filepath.Join(proc, "environ"))
		_, rest, _ := strings.Cut(string(stat), ") ")
		f := strings.Fields(rest)
		if len(f) > 1 && f[1] == self || slices.Contains(strings.Split(string(environ), "\x00"), ofTest+self) {
			n++
		}
	}
	return n
}

func (b balance) over(o balance) bool {
	return b.goroutines > o.goroutines || b.descriptors > o.descriptors || b.children > o.children || b.files > o.files
}

// settled fails t unless, before long, no more is held than before.
func settled(t testing.TB, before balance, temp string) {
	t.Helper()
	var now balance
	for range 500 {
		if now = balanceNow(temp); !now.over(before) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	stacks := make([]byte, 1<<20)
	t.Errorf("before: %+v; now: %+v\n%s", before, now, stacks[:runtime.Stack(stacks, true)])
}

// closing ends a client or server.
func closing(t testing.TB, c any) {
	if c, ok := c.(io.Closer); ok {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
}
