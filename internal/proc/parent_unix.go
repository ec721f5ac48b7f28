//go:build unix && !linux

package proc

import "os/exec"

// DieWithParent does nothing: these systems cannot.
func DieWithParent(cmd *exec.Cmd) {}
