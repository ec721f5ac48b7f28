//go:build unix

package integration

import (
	"os"
	"os/exec"
	"syscall"
	"time"
)

// unprivileged is the user that peers run as if the tests run as root.
const unprivileged = 65534

// isolate gives the peer a process group, and takes root from it.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: unprivileged, Gid: unprivileged}
	}
}

// stop ends the process group.
func stop(cmd *exec.Cmd, ended <-chan error) {
	syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(3 * time.Second):
	}
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
}
