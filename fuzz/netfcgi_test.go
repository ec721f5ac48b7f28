package fuzz_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/fuzz"
)

// netFCGI starts the standard library's server, built for an architecture.
func netFCGI(t *testing.T, arch string) *fuzz.Server {
	t.Helper()
	path := filepath.Join(t.TempDir(), "netfcgi")
	build := exec.Command("go", "build", "-o", path, "./testdata/netfcgi")
	build.Env = append(os.Environ(), "GOARCH="+arch, "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		if arch != runtime.GOARCH && errors.Is(err, syscall.ENOEXEC) {
			t.Skipf("this kernel does not run programs of %s: %v", arch, err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return &fuzz.Server{Protocol: fuzz.FastCGI, Dial: dialer(strings.TrimSpace(addr)), Wait: 5 * time.Second}
}

// TestNetFCGI runs the known faults of the standard library's net/http/fcgi.
func TestNetFCGI(t *testing.T) {
	var params []byte
	for _, nv := range [][2]string{{"REQUEST_METHOD", "GET"}, {"SERVER_PROTOCOL", "HTTP/1.1"}, {"REQUEST_URI", "/"}} {
		params, _ = fastcgi.AppendParam(params, nv[0], nv[1])
	}
	begin := fcgi(fastcgi.TypeBegin, 1, keep)
	t.Run("fine", func(t *testing.T) {
		s := netFCGI(t, runtime.GOARCH)
		s.Play(t, []byte(begin+fcgi(fastcgi.TypeParams, 1, string(params), fastcgi.TypeParams, 1, "", fastcgi.TypeStdin, 1, "")))
	})
	for _, c := range []struct{ name, arch, words, input string }{
		{"a second END after ABORT", runtime.GOARCH, "request 1 was begun 1 times and has 2 END_REQUESTs",
			begin + fcgi(fastcgi.TypeParams, 1, string(params), fastcgi.TypeParams, 1, "", fastcgi.TypeStdin, 1, "x", fastcgi.TypeAbort, 1, "")},
		{"a handler that sees a part of the params", runtime.GOARCH, "whose params are malformed, has a response with status 200",
			begin + fcgi(fastcgi.TypeParams, 1, string(params)+"\x09\x01X", fastcgi.TypeParams, 1, "", fastcgi.TypeStdin, 1, "")},
		{"lengths that end the process where int has 32 bits", "386", "no longer responds to a GET",
			begin + fcgi(fastcgi.TypeParams, 1, strings.Repeat("\xff", 8), fastcgi.TypeParams, 1, "", fastcgi.TypeStdin, 1, "")},
	} {
		t.Run(c.name, func(t *testing.T) {
			if runtime.GOOS != "linux" && c.arch != runtime.GOARCH {
				t.Skip("only Linux runs programs of both architectures")
			}
			s := netFCGI(t, c.arch)
			expect(t, c.words, func(t testing.TB) {
				for range 3 { // a process that panics may response once more before it ends
					s.Play(t, []byte(c.input))
					time.Sleep(100 * time.Millisecond)
				}
			})
		})
	}
}
