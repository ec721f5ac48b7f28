//go:build !unix

package cgi

import (
	"io/fs"
	"os/exec"
)

func isolate(cmd *exec.Cmd) {}

func terminate(cmd *exec.Cmd) { cmd.Process.Kill() }

func kill(cmd *exec.Cmd) { cmd.Process.Kill() }

func alive(cmd *exec.Cmd) bool { return false } // where groups are not known, the program is all

func executable(fi fs.FileInfo) bool { return true }
