package proc

import (
	"os/exec"
	"syscall"
)

// DieWithParent makes the system send SIGTERM to the program when the thread that starts it ends,
// unless cmd asks for another signal. The thread must therefore live as long as the program may.
func DieWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	if cmd.SysProcAttr.Pdeathsig == 0 {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	}
}
