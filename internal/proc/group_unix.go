//go:build unix

package proc

import (
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Groups reports whether a program can be ended together with what it has started.
const Groups = true

// isolate gives a program its own process group: that of a new session, if cmd asks for one, or
// else a new group.
func isolate(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	if a := cmd.SysProcAttr; !a.Setsid {
		a.Setpgid, a.Pgid = true, 0
	}
}

func kill(cmd *exec.Cmd) { signal(cmd, syscall.SIGKILL) }

func signal(cmd *exec.Cmd, sig os.Signal) {
	if s, ok := sig.(syscall.Signal); ok {
		syscall.Kill(-cmd.Process.Pid, s)
	}
}

// alive reports whether the group has a process left. Until then its number is not reused.
func alive(cmd *exec.Cmd) bool { return syscall.Kill(-cmd.Process.Pid, 0) != syscall.ESRCH }

// ReadNow reads what is in a pipe without waiting. os.ErrDeadlineExceeded means that it is empty
// and that a process has it open for writing.
func ReadNow(f *os.File, b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	f.SetReadDeadline(time.Time{})
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	rerr := raw.Read(func(fd uintptr) bool {
		for {
			if n, err = syscall.Read(int(fd), b); err != syscall.EINTR {
				return true
			}
		}
	})
	switch {
	case rerr != nil:
		return 0, rerr
	case err == syscall.EAGAIN:
		return 0, os.ErrDeadlineExceeded
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}
