package paths

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// A Folder is a folder of this machine that no link leads out of. It is opened for each look, so
// that a switched link to the current release is followed.
type Folder string

// Open opens the file of that name.
func (dir Folder) Open(name string) (fs.File, error) {
	root, err := os.OpenRoot(string(dir))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.Open(filepath.FromSlash(name))
}

// Stat looks at the file without opening it.
func (dir Folder) Stat(name string) (fs.FileInfo, error) {
	root, err := os.OpenRoot(string(dir))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.Stat(filepath.FromSlash(name))
}

// Lacking reports whether err means that this process or its machine lacks descriptors, memory or
// space. It then says nothing about the file or the backend that was asked for.
func Lacking(err error) bool {
	for _, lack := range [...]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOSPC} {
		if errors.Is(err, lack) {
			return true
		}
	}
	return false
}
