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
)

// pin makes cmd run the file that was checked, whatever stands at its path by the time it is run. A
// program is run by its descriptor. A script cannot be, since its interpreter opens it by name: the
// child changes into the folder that was opened, and runs the script there. Whoever may write into
// that very folder can still replace the script. The returned files must stay open until cmd has
// been started.
func (c *Client) pin(cmd *exec.Cmd, s script) (open []io.Closer, err error) {
	if c.root == "" || c.Path != "" || c.FollowLinks || cmd.Path != s.file || !hasProc() {
		return nil, nil
	}
	root, err := os.OpenRoot(c.root) // rule F55
	if err != nil {
		return nil, fmt.Errorf("cgi: Root: %v", err)
	}
	defer root.Close()
	rel, err := filepath.Rel(c.root, s.file)
	if err != nil {
		return nil, err
	}
	f, err := root.Open(rel)
	if errors.Is(err, fs.ErrPermission) {
		return nil, nil // a program that we may run and not read
	}
	if err != nil {
		return nil, fmt.Errorf("cgi: script: %w", fs.ErrNotExist)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("cgi: script: %w", fs.ErrNotExist)
	}
	var magic [2]byte
	if _, err := io.ReadFull(f, magic[:]); err != nil || string(magic[:]) != "#!" {
		cmd.Path = descriptor(f)
		return []io.Closer{f}, nil
	}
	f.Close()
	if cmd.Dir != filepath.Dir(s.file) {
		return nil, nil // Client.Dir; the script is run by its path
	}
	dir, err := root.Open(filepath.Dir(rel))
	if err != nil {
		return nil, fmt.Errorf("cgi: script: %w", fs.ErrNotExist)
	}
	cmd.Dir, cmd.Path = descriptor(dir), "."+string(filepath.Separator)+filepath.Base(rel)
	cmd.Args[0] = cmd.Path
	return []io.Closer{dir}, nil
}

// descriptor returns a path that names f in the child, until that has run the program.
func descriptor(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

func hasProc() bool {
	_, err := os.Stat("/proc/self/fd")
	return err == nil
}
