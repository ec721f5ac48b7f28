package sockets

import (
	"os"
	"syscall"
	"testing"
)

// A peer that the mode of a socket excludes cannot connect before Chmod either.
func TestBindRestricts(t *testing.T) {
	dir, err := os.MkdirTemp("", "gh")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	defer syscall.Umask(syscall.Umask(0))
	l, err := bind(dir+"/s", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(dir + "/s"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
