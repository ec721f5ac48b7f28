//go:build unix

package worker

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// supported says that there are processes with Unix sockets.
const supported = true

// maxPath is the longest path of a Unix socket in bytes.
const maxPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// setBlocking makes a socket blocking, as a process expects of one that it inherits.
func setBlocking(f *os.File) error { return syscall.SetNonblock(int(f.Fd()), false) }

// giveFolder lets the user that Prepare has chosen create a socket in dir, and no other user.
func giveFolder(cmd *exec.Cmd, dir string) error {
	if cmd.SysProcAttr == nil || cmd.SysProcAttr.Credential == nil {
		return nil
	}
	c := cmd.SysProcAttr.Credential
	if err := os.Chown(dir, int(c.Uid), int(c.Gid)); err != nil {
		return fmt.Errorf("worker: the socket's folder: %w", err)
	}
	return os.Chmod(filepath.Dir(dir), 0o711)
}
