//go:build !unix

package proc

import (
	"os"
	"os/exec"
	"time"
)

// Groups reports whether a program can be ended together with what it has started.
const Groups = false

func isolate(cmd *exec.Cmd) {}

// DieWithParent does nothing.
func DieWithParent(cmd *exec.Cmd) {}

func signal(cmd *exec.Cmd, _ os.Signal) { cmd.Process.Kill() }

func kill(cmd *exec.Cmd) { cmd.Process.Kill() }

// alive returns false: without groups the program is all there is.
func alive(cmd *exec.Cmd) bool { return false }

// ReadNow reads what is in a pipe, as far as it arrives within a moment.
func ReadNow(f *os.File, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	f.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	return f.Read(b)
}
