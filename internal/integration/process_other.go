//go:build !unix

package integration

import "os/exec"

func isolate(cmd *exec.Cmd) {}

func stop(cmd *exec.Cmd, ended <-chan error) { cmd.Process.Kill() }
