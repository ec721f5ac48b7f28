//go:build unix

package proc

import (
	"bufio"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// start runs a script that prints a line when it is ready, and waits for the line.
func start(t *testing.T, script string) (*Process, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Stdout = w
	p, err := Start(cmd, func() {})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(r).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return p, r
}

// ended fails t unless the other end of the pipe, which every process of the group holds, is
// closed.
func ended(t *testing.T, r *os.File) {
	t.Helper()
	r.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := r.Read(make([]byte, 1)); n > 0 || os.IsTimeout(err) {
		t.Errorf("a process of the group is alive: %v", err)
	}
}

func TestEnd(t *testing.T) {
	for _, c := range []struct {
		name, script string
		grace        time.Duration
		signal       syscall.Signal
	}{
		{"SIGTERM ends the program", "echo; exec sleep 60", 20 * time.Second, syscall.SIGTERM},
		{"SIGKILL ends a program that ignores SIGTERM", "trap '' TERM; echo; while :; do sleep 1; done", 100 * time.Millisecond, syscall.SIGKILL},
		{"a child of the program is ended as well", "sleep 60 & echo; wait", 20 * time.Second, syscall.SIGTERM},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, r := start(t, c.script)
			var reaper Reaper
			gone := make(chan struct{})
			reaper.End(p, syscall.SIGTERM, c.grace, func() { close(gone) })
			reaper.Wait()
			<-gone
			if !p.Ended() {
				t.Fatal("Wait returned before the program ended")
			}
			if s := p.State().Sys().(syscall.WaitStatus); !s.Signaled() || s.Signal() != c.signal {
				t.Errorf("%v, want %v", p.State(), c.signal)
			}
			ended(t, r)
		})
	}
}

// TestEndOfChildren checks that processes that outlive the program are ended.
func TestEndOfChildren(t *testing.T) {
	p, r := start(t, "sleep 60 & echo")
	<-p.Done()
	var reaper Reaper
	reaper.End(p, syscall.SIGTERM, 20*time.Second, func() {})
	reaper.Wait()
	ended(t, r)
}

func TestStartFails(t *testing.T) {
	if _, err := Start(exec.Command(t.TempDir()+"/missing"), func() { t.Error("ended was called") }); err == nil {
		t.Error("no error")
	}
}
