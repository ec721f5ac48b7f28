//go:build !unix

package worker

import (
	"os"
	"os/exec"
)

const (
	supported = false
	maxPath   = 107
)

func setBlocking(*os.File) error { return nil }

func giveFolder(*exec.Cmd, string) error { return nil }
