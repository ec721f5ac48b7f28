//go:build unix

package cgi

import (
	"io"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// groups: a program can be ended with what it has started.
const groups = true

// isolate gives the program a process group of its own, so that what it starts ends with it: one of a new session, if it
// has that, and else a new one.
func isolate(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	if a := cmd.SysProcAttr; !a.Setsid {
		a.Setpgid, a.Pgid = true, 0
	}
}

// terminate asks the program's group to end.
func terminate(cmd *exec.Cmd) { signal(cmd, syscall.SIGTERM) }

// kill ends it.
func kill(cmd *exec.Cmd) { signal(cmd, syscall.SIGKILL) }

func signal(cmd *exec.Cmd, sig syscall.Signal) { syscall.Kill(-cmd.Process.Pid, sig) }

// alive reports whether anybody is left of the group. Until then its number is not another's.
func alive(cmd *exec.Cmd) bool { return syscall.Kill(-cmd.Process.Pid, 0) != syscall.ESRCH }

// executable reports whether the mode lets anybody run the file.
func executable(fi fs.FileInfo) bool { return fi.Mode()&0o111 != 0 }

// readNow reads what is in a pipe: os.ErrDeadlineExceeded says that there is nothing, and somebody who may write.
func readNow(f *os.File, b []byte) (n int, err error) {
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
