//go:build !unix

package cgi

import (
	"io/fs"
	"os"
	"os/exec"
	"time"
)

// groups: a program cannot be ended with what it has started.
const groups = false

func isolate(cmd *exec.Cmd) {}

func terminate(cmd *exec.Cmd) { cmd.Process.Kill() }

func kill(cmd *exec.Cmd) { cmd.Process.Kill() }

func alive(cmd *exec.Cmd) bool { return false } // where groups are not known, the program is all

func executable(fi fs.FileInfo) bool { return true }

// readNow reads what is in a pipe, as far as a moment lets it.
func readNow(f *os.File, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	f.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	return f.Read(b)
}
