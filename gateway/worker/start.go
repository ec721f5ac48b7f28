package worker

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-go/gatehouse/internal/proc"
)

// launch starts the process of a worker that begin has added.
func (p *Pool) launch(r *run, w *worker) {
	err := w.start(r)
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		w.exited = true
		close(w.done)
		p.failed(w, err)
		p.drop(w)
		return
	}
	go w.becomeReady()
}

// start starts the process.
func (w *worker) start(r *run) (err error) {
	defer func() {
		if v := recover(); v != nil { // Prepare or Client has panicked
			err = fmt.Errorf("worker: panic: %v", v)
		}
	}()
	dir, err := w.p.folder(r, w.number)
	if err != nil {
		return err
	}
	w.addr = filepath.Join(dir, "s")
	cmd, files, err := w.command()
	defer closeAll(files)
	if err == nil && w.p.Prepare != nil {
		err = w.p.Prepare(cmd)
	}
	if err == nil {
		err = giveFolder(cmd, dir)
	}
	if err != nil {
		return err
	}
	w.client = w.p.Client("unix:" + w.addr)
	return w.run(cmd)
}

// run starts cmd with a pipe for its output.
func (w *worker) run(cmd *exec.Cmd) error {
	r, out, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	proc.DieWithParent(cmd)
	process, err := proc.Start(cmd, w.over)
	if err != nil {
		r.Close()
		return named(err)
	}
	w.p.count.Dialed()
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	w.process, w.pid = process, process.PID()
	w.output = newOutput(w, r)
	close(w.begun)
	if w.told { // meanwhile
		w.told = false
		w.p.end(w)
	}
	return nil
}

// named makes fs.ErrNotExist of the error of a program that was not found in PATH.
func named(err error) error {
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	return err
}

const (
	socketMark = "{socket}"
	fdMark     = "{fd}"
)

// command returns the command, with a listening socket if it is to have one.
func (w *worker) command() (cmd *exec.Cmd, files []*os.File, err error) {
	p := w.p
	args := slices.Clone(p.Command)
	socket, fd := replaceAll(args, socketMark, w.addr), replaceAll(args, fdMark, "3")
	cmd = exec.Command(args[0], args[1:]...)
	cmd.Dir = p.Dir
	env := []string{"PATH=" + os.Getenv("PATH"), "PHP_FCGI_MAX_REQUESTS=0", "PHP_FCGI_CHILDREN=0"}
	for _, name := range p.InheritEnv {
		if value, set := os.LookupEnv(name); set {
			env = append(env, name+"="+value)
		}
	}
	if socket {
		cmd.Env = append(env, p.Env...) // F39
		return cmd, nil, nil
	}
	listener, err := listen(w.addr)
	if err != nil {
		return nil, nil, err
	}
	if fd {
		env = append(env, "LISTEN_FDS=1")
		cmd.ExtraFiles = []*os.File{listener}
	} else {
		cmd.Stdin = listener
	}
	cmd.Env = append(env, p.Env...)
	return cmd, []*os.File{listener}, nil
}

// replaceAll replaces a mark in arguments, and reports whether it was there.
func replaceAll(args []string, mark, value string) (found bool) {
	for i, arg := range args {
		found = found || strings.Contains(arg, mark)
		args[i] = strings.ReplaceAll(arg, mark, value)
	}
	return found
}

// listen returns a listening socket for another process. This process does not keep it: if the
// other one dies, connections must fail and not wait.
func listen(path string) (*os.File, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	if err != nil {
		return nil, err
	}
	if err := setBlocking(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// folder makes the folder of a worker's socket, in a folder that no other user can enter.
func (p *Pool) folder(r *run, number int) (string, error) {
	if r.dir != "" {
		if _, err := os.Stat(r.dir); err != nil { // it was removed
			r.dir = ""
		}
	}
	if r.dir == "" {
		dir, err := os.MkdirTemp("", "gatehouse-") // mode 0700
		if err != nil {
			return "", err
		}
		r.dir = dir
	}
	dir := filepath.Join(r.dir, strconv.Itoa(number))
	if n := len(dir) + len("/s"); n > maxPath {
		return "", fmt.Errorf("worker: the path of a socket would have %d bytes, more than %d: set TMPDIR to a shorter one", n, maxPath)
	}
	return dir, os.Mkdir(dir, 0o700)
}
