package cgi

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// pin makes cmd run the file that was checked, whatever stands at its path by the time it is run. A
// program is run by its descriptor. A script cannot be, since its interpreter opens it by name: the
// child changes into the folder that was opened, and runs the script there. A user who may write
// into that very folder can still replace the script. The returned files must stay open until cmd
// has been started.
func (c *Client) pin(cmd *exec.Cmd, s script) (opened []io.Closer, err error) {
	if c.root == "" || c.Path != "" || c.FollowLinks || cmd.Path != s.file || !hasProc() {
		return nil, nil
	}
	root, err := os.OpenRoot(c.root) // rule F55
	if err != nil {
		return nil, rootError(err)
	}
	defer root.Close()
	rel, err := filepath.Rel(c.root, s.file)
	if err != nil {
		return nil, err
	}
	f, err := root.Open(rel)
	if errors.Is(err, fs.ErrPermission) { // a program that we may run and not read, or a script that cannot be run
		f, err = openPath(root, rel)
	}
	if err != nil {
		return nil, notThere(err)
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("cgi: script: %w", fs.ErrNotExist)
	}
	var magic [2]byte
	if _, err := io.ReadFull(f, magic[:]); err != nil || string(magic[:]) != "#!" {
		return open(cmd, f)
	}
	f.Close()
	if cmd.Dir != filepath.Dir(s.file) {
		return nil, nil // Client.Dir; the script is run by its path
	}
	return inFolder(cmd, root, rel, info)
}

// inFolder makes cmd run the script rel of root in the script's folder, if the file there is the
// one that info describes: the folder may be another one by now than that of the file.
func inFolder(cmd *exec.Cmd, root *os.Root, rel string, info fs.FileInfo) ([]io.Closer, error) {
	dir, err := root.Open(filepath.Dir(rel))
	if err != nil {
		return nil, notThere(err)
	}
	name := filepath.Base(rel)
	if there, err := os.Stat(filepath.Join(descriptor(dir), name)); err != nil || !os.SameFile(info, there) {
		dir.Close()
		return nil, notThere(err)
	}
	cmd.Dir, cmd.Path = descriptor(dir), "."+string(filepath.Separator)+name
	cmd.Args[0] = cmd.Path
	return []io.Closer{dir}, nil
}

// openPath opens a file that may not be read. Links are followed within the root.
func openPath(root *os.Root, name string) (*os.File, error) {
	for range 10 {
		f, err := root.OpenFile(name, oPath, 0)
		if err != nil {
			return nil, err
		}
		if info, err := f.Stat(); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			return f, err
		}
		f.Close()
		target, err := root.Readlink(name)
		if err != nil {
			return nil, err
		}
		name = filepath.Join(filepath.Dir(name), target)
	}
	return nil, fs.ErrNotExist
}

// oPath is O_PATH, which needs no permission to read; package syscall lacks it.
const oPath = 0x200000

// open makes cmd run the program f by a descriptor that the child does not replace when it arranges
// its own: these are numbered from 0 on, and behind the highest of those that it inherits.
func open(cmd *exec.Cmd, f *os.File) ([]io.Closer, error) {
	defer f.Close()
	highest := f.Fd()
	for _, std := range []any{cmd.Stdin, cmd.Stdout, cmd.Stderr} {
		if file, ok := std.(*os.File); ok {
			highest = max(highest, file.Fd())
		}
	}
	for _, file := range cmd.ExtraFiles {
		highest = max(highest, file.Fd())
	}
	above := highest + uintptr(2*len(cmd.ExtraFiles)) + 16
	fd, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), syscall.F_DUPFD_CLOEXEC, above)
	if errno != 0 {
		return nil, fmt.Errorf("cgi: script: %w", errno)
	}
	program := os.NewFile(fd, f.Name())
	cmd.Path = descriptor(program)
	return []io.Closer{program}, nil
}

// descriptor returns a path that names f in the child, until that has run the program.
func descriptor(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

func hasProc() bool {
	_, err := os.Stat("/proc/self/fd")
	return err == nil
}
