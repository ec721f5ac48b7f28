//go:build unix

package worker_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/gateway/worker"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

// ways are the ways to hand over a socket.
var ways = map[string]func(p *worker.Pool){
	"standard input": func(p *worker.Pool) {},
	"{fd}": func(p *worker.Pool) {
		p.Command = append(p.Command, "--", "{fd}")
		p.Env = []string{workerVar + "=fd:3", noSleep}
	},
	"{socket}": func(p *worker.Pool) {
		p.Command = append(p.Command, "--", "{socket}")
		p.Env = []string{workerVar + "=argument", noSleep}
	},
}

func TestWays(t *testing.T) {
	for name, way := range ways {
		t.Run(name+" [301 302 303]", func(t *testing.T) {
			p := newPool(t, way)
			if _, _, _, err := ask(t, p, "POST", ""); err != nil {
				t.Fatal(err)
			}
			env := body(t, p, "env")
			if got, want := strings.Contains(env, "LISTEN_FDS=1"), name == "{fd}"; got != want || strings.Contains(env, "LISTEN_PID") {
				t.Errorf("environment %q", env)
			}
			if name == "{fd}" && body(t, p, "args") != "--\n3" {
				t.Errorf("arguments %q", body(t, p, "args"))
			}
			if runtime.GOOS != "linux" {
				return
			}
			files := body(t, p, "files")
			for _, want := range map[string][]string{"standard input": {"0 socket:"}, "{fd}": {"0 /dev/null", "3 socket:"}, "{socket}": {"0 /dev/null"}}[name] {
				if !strings.Contains(files, want+"\n") {
					t.Errorf("no %q in %q", want, files)
				}
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	t.Run("nothing of this process but what is named [321 322 F39]", func(t *testing.T) {
		t.Setenv("SECRET_OF_THIS_PROCESS", "x")
		t.Setenv("INHERITED", "value")
		p := newPool(t, func(p *worker.Pool) {
			p.InheritEnv = []string{"INHERITED", "NOT_SET"}
			p.Env = append(p.Env, "OWN=1", "PHP_FCGI_CHILDREN=4")
		})
		env := strings.Split(body(t, p, "env"), "\n")
		for _, want := range []string{"PATH=" + os.Getenv("PATH"), "PHP_FCGI_MAX_REQUESTS=0", "PHP_FCGI_CHILDREN=4", "INHERITED=value", "OWN=1", workerVar + "=fd:0", noSleep} {
			found := false
			for i, v := range env {
				if v == want {
					env, found = append(env[:i:i], env[i+1:]...), true
					break
				}
			}
			if !found {
				t.Errorf("no %s in %q", want, env)
			}
		}
		if len(env) > 0 {
			t.Errorf("besides them %q", env)
		}
	})
}

func TestFolder(t *testing.T) {
	t.Run("no other user can enter it [304]", func(t *testing.T) {
		dir := t.TempDir()
		t.Setenv("TMPDIR", dir)
		p := newPool(t, nil)
		if _, _, _, err := ask(t, p, "GET", ""); err != nil {
			t.Fatal(err)
		}
		folders, err := os.ReadDir(dir)
		if err != nil || len(folders) != 1 {
			t.Fatalf("%v, %v", folders, err)
		}
		if info, err := folders[0].Info(); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		p.Close()
		if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
			t.Errorf("%v is left, %v", left, err)
		}
	})
	t.Run("it is made again [340]", func(t *testing.T) {
		dir := t.TempDir()
		t.Setenv("TMPDIR", dir)
		p := newPool(t, func(p *worker.Pool) { p.Recycle = 1 })
		for range 3 {
			if _, _, _, err := ask(t, p, "GET", ""); err != nil {
				t.Fatal(err)
			}
			folders, _ := filepath.Glob(dir + "/*")
			for _, f := range folders {
				os.RemoveAll(f)
			}
		}
	})
	t.Run("a path that is too long [305]", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("TMPDIR", dir)
		p := newPool(t, func(p *worker.Pool) { p.MinWorkers = 1 })
		if err := p.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "TMPDIR") {
			t.Errorf("%v", err)
		}
	})
}

func TestQueuedInSocket(t *testing.T) {
	t.Run("a dead worker's socket keeps no request [306 307]", func(t *testing.T) {
		var addr string
		p := newPool(t, func(p *worker.Pool) {
			p.MaxWorkers = 1
			p.Client = func(a string) worker.Client {
				addr = a
				return &fastcgi.Client{Addr: a, MaxIdleConns: 1, Logger: quiet}
			}
		})
		pid, _, _, err := ask(t, p, "GET", "")
		if err != nil {
			t.Fatal(err)
		}
		queued := make(chan error, 1)
		busy := make(chan error, 1)
		go func() { _, _, _, err := ask(t, p, "POST", "sleep=60000"); busy <- err }()
		until(t, "busy", func() bool { return p.Status().Busy == 1 })
		other := &fastcgi.Client{Addr: addr, Logger: quiet} // which the Pool does not know
		go func() { _, _, _, err := ask(t, other, "POST", "sleep=60000"); queued <- err }()
		time.Sleep(50 * time.Millisecond)
		killed := time.Now()
		process, _ := os.FindProcess(pid)
		process.Kill()
		for _, c := range []chan error{busy, queued} {
			if err := <-c; err == nil {
				t.Error("no error")
			}
		}
		if took := time.Since(killed); took > 5*time.Second {
			t.Errorf("after %v", took)
		}
		if _, _, _, err := ask(t, p, "GET", ""); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(strings.TrimPrefix(addr, "unix:")); err != nil {
			t.Error("the new worker has another path than its Client")
		}
	})
}

func TestStart(t *testing.T) {
	t.Parallel()
	missing := func(p *worker.Pool) { p.Command = []string{"no-such-program"} }
	for name, c := range map[string]struct {
		change func(p *worker.Pool)
		is     error  // one that the error is
		says   string // or what it says
	}{
		"ready [332]":                          {nil, nil, ""},
		"a program that is not in PATH [332]":  {missing, fs.ErrNotExist, ""},
		"a program that is missing [332]":      {func(p *worker.Pool) { p.Command = []string{"/no/such/program"} }, fs.ErrNotExist, ""},
		"a program that must not be run [332]": {func(p *worker.Pool) { p.Command = []string{plainFile(t)} }, fs.ErrPermission, ""},
		"an error of Prepare [332]":            {func(p *worker.Pool) { p.Prepare = func(*exec.Cmd) error { return errOther } }, errOther, ""},
		"a panic of Prepare [332]":             {func(p *worker.Pool) { p.Prepare = func(*exec.Cmd) error { panic("of Prepare") } }, nil, "of Prepare"},
		"a program that ends [332]":            {func(p *worker.Pool) { p.Command = []string{"sh", "-c", "echo first; echo the reason >&2; exit 7"} }, nil, "exit status 7: the reason"},
		"a program that does not listen [332]": {func(p *worker.Pool) {
			p.Command = []string{"sh", "-c", "sleep 60", "{socket}"}
			p.StartTimeout = 200 * time.Millisecond
		}, nil, "did not listen"},
		"a program that does not accept [332]": {func(p *worker.Pool) { p.Command = []string{"sleep", "60"}; p.StartTimeout = 200 * time.Millisecond }, nil, "did not close an empty connection"},
		"a program that sends something [303]": {func(p *worker.Pool) {
			p.Command = []string{"perl", "-MSocket", "-e", "accept(C, STDIN); syswrite C, 'hello'; sleep 60"}
		}, nil, `sent "h"`},
		"no Command": {func(p *worker.Pool) { p.Command = nil }, nil, "no Command"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(t, func(p *worker.Pool) {
				p.MinWorkers = 2
				if c.change != nil {
					c.change(p)
				}
			})
			err := p.Start(t.Context())
			switch {
			case c.is == nil && c.says == "" && (err != nil || p.Status().Idle < 2):
				t.Errorf("%v, %+v", err, p.Status())
			case c.is != nil && !errors.Is(err, c.is), c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("%v", err)
			}
			if err == nil || name == "no Command" {
				return
			}
			// Requests fail at once.
			if o := conformance.Ask(t, p, gatewaytest.NewRequest("GET", "/", nil)); !errors.Is(o.Err, worker.ErrDown) && p.Status().Workers == nil || gateway.ErrorStatus(o.Err) != 503 {
				t.Errorf("a request: %v", o.Err)
			}
		})
	}
}

// plainFile returns the path of a file that is no program.
func plainFile(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var errOther = errors.New("another error")
