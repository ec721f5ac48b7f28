//go:build linux || darwin

package gatewayhttp_test

import (
	"os"
	"syscall"
	"testing"
)

// TestSiteWithoutDescriptors leaves one descriptor to this process: the folder takes it, and what
// is in it cannot be looked at. That must not be taken for a file that is not there.
func TestSiteWithoutDescriptors(t *testing.T) {
	s, _ := site(t)
	for _, target := range []string{"/sub/index.html", "/x.php/y.php", "/sub/", "/style.css"} {
		s.Front = "/sub/front.php"
		code := 0
		withDescriptors(t, 1, func() { code = fetchFrom(s, "GET", target).Code })
		if code != 503 {
			t.Errorf("%s: %d", target, code)
		}
	}
}

// withDescriptors calls f while n more descriptors can be opened.
func withDescriptors(t *testing.T, n uint64, f func()) {
	t.Helper()
	next, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	free := uint64(next.Fd())
	next.Close()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	limit := before
	limit.Cur = free + n
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Skip(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)
	f()
}
