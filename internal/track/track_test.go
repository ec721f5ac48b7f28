package track

import (
	"io"
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"
)

type ends struct{ errs []error }

func (e *ends) Ended(err error) { e.errs = append(e.errs, err) }

// TestNothingIsKept checks that a Body which lives in a slab keeps nothing of a response.
func TestNothingIsKept(t *testing.T) {
	b := new(Body)
	body := &struct {
		io.ReadCloser
		big [1 << 20]byte
	}{ReadCloser: io.NopCloser(strings.NewReader("x"))}
	kept := weak.Make(body)
	var e ends
	tracked := b.Track(body, &e)
	if _, err := io.ReadAll(tracked); err != nil || len(e.errs) != 1 || e.errs[0] != io.EOF {
		t.Fatalf("%v, %v", e.errs, err)
	}
	tracked.Close()
	body = nil
	for range 100 {
		runtime.GC()
		if kept.Value() == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if kept.Value() != nil {
		t.Error("the body is kept")
	}
	if _, err := tracked.Read(nil); err == nil {
		t.Error("a Read after Close succeeds")
	}
	if err := tracked.Close(); err != nil || len(e.errs) != 1 {
		t.Errorf("%v, %v", err, e.errs)
	}
	runtime.KeepAlive(b)
}
