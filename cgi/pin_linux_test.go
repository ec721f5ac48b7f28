package cgi_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

// TestSwappedFolder swaps the folder of a script for a link that leads out of Root, again and
// again. What is outside never runs.
func TestSwappedFolder(t *testing.T) {
	inside := "printf 'X: 1\\n\\ninside %s %s' \"$0\" \"$(pwd -P)\"\n"
	root := folder(t, map[string]string{"d/x.cgi": inside, "../out/x.cgi": "printf 'X: 1\\n\\nOUTSIDE'\n"})
	dir, kept := filepath.Join(root, "d"), filepath.Join(root, "kept")
	stop := swapping(func() {
		os.Rename(dir, kept)
		os.Symlink("../out", dir)
		os.Remove(dir)
		os.Rename(kept, dir)
	})
	c := &cgi.Client{Root: root, Grace: time.Second}
	defer c.Close()
	ran := 0
	t.Run("never runs what is outside [040 F40 F55]", func(t *testing.T) {
		for end := time.Now().Add(time.Second); time.Now().Before(end); {
			o := conformance.Ask(t, c, get("/d/x.cgi"))
			switch {
			case strings.Contains(o.Body, "OUTSIDE"):
				t.Fatal("the script outside ran")
			case strings.HasPrefix(o.Body, "inside"):
				ran++
			}
		}
	})
	stop()
	if ran == 0 {
		t.Error("the script inside never ran")
	}
}

// TestPinned checks what a program sees that is run by its descriptor, or in its folder.
func TestPinned(t *testing.T) {
	root := folder(t, map[string]string{"d/x.cgi": "printf 'X: 1\\n\\n%s|%s|%s' \"$0\" \"$(pwd -P)\" \"$SCRIPT_FILENAME\"\n"})
	c := &cgi.Client{Root: root}
	real, err := filepath.EvalSymlinks(root)
	if err != nil {
		t.Fatal(err)
	}
	if o := conformance.Ask(t, c, get("/d/x.cgi")); o.Body != "./x.cgi|"+real+"/d|"+root+"/d/x.cgi" {
		t.Errorf("%q, %v", o.Body, o.Err)
	}
	c = &cgi.Client{Root: root, Dir: "/"}
	if o := conformance.Ask(t, c, get("/d/x.cgi")); o.Body != root+"/d/x.cgi|/|"+root+"/d/x.cgi" {
		t.Errorf("with Dir: %q, %v", o.Body, o.Err)
	}
	// A program that is no script: this one.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Link(self, filepath.Join(root, "program")); err != nil {
		if b, rerr := os.ReadFile(self); rerr != nil || os.WriteFile(filepath.Join(root, "program"), b, 0o755) != nil {
			t.Fatal(err)
		}
	}
	c = &cgi.Client{Root: root, Env: append(conformance.Environ(t), "GATEHOUSE_TEST_HANDLER=environ")}
	if o := conformance.Ask(t, c, get("/program")); o.Err != nil || o.Res.Status != 200 {
		t.Errorf("%q, %v", o.Body, o.Err)
	}
	// A program that may be run and not read is run by its descriptor all the same; root reads
	// every file.
	if b, err := os.ReadFile(self); err != nil || os.WriteFile(filepath.Join(root, "unreadable"), b, 0o111) != nil {
		t.Fatal(err)
	}
	if o := conformance.Ask(t, c, get("/unreadable")); o.Err != nil || o.Res.Status != 200 {
		t.Errorf("a program that may not be read: %q, %v", o.Body, o.Err)
	}
	// The child arranges the files that Prepare adds. None of them takes the place of the program.
	c.Prepare = func(_ context.Context, cmd *exec.Cmd, _ *gateway.Request) error {
		null, err := os.Open(os.DevNull)
		if err != nil {
			return err
		}
		t.Cleanup(func() { null.Close() })
		for range 40 {
			cmd.ExtraFiles = append(cmd.ExtraFiles, null)
		}
		return nil
	}
	if o := conformance.Ask(t, c, get("/program")); o.Err != nil || o.Res.Status != 200 {
		t.Errorf("with ExtraFiles: %q, %v", o.Body, o.Err)
	}
	// A link inside the root is followed, one that leads out is not.
	if err := errors.Join(os.Symlink("d/x.cgi", filepath.Join(root, "in.cgi")), os.Symlink("../../bin/sh", filepath.Join(root, "out.cgi"))); err != nil {
		t.Fatal(err)
	}
	if o := conformance.Ask(t, &cgi.Client{Root: root}, get("/in.cgi")); o.Err != nil || !strings.HasPrefix(o.Body, "./in.cgi|") {
		t.Errorf("%q, %v", o.Body, o.Err)
	}
	if o := conformance.Ask(t, &cgi.Client{Root: root}, get("/out.cgi")); !errors.Is(o.Err, fs.ErrNotExist) || gateway.ErrorStatus(o.Err) != 404 {
		t.Errorf("%q, %v", o.Body, o.Err)
	}
}

// TestSwappedProgram is TestSwappedFolder for a program that may be run and not read. Root reads
// every file, so that root runs the test as another user.
func TestSwappedProgram(t *testing.T) {
	if os.Geteuid() == 0 {
		asNobody(t)
		return
	}
	root := folder(t, map[string]string{"d/x": "", "../out/x": ""})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, source := range map[string]string{"d/x": self, "../out/x": "/bin/false"} { // which has no response
		path := filepath.Join(root, name)
		os.Remove(path)
		if b, err := os.ReadFile(source); err != nil || os.WriteFile(path, b, 0o111) != nil {
			t.Fatal(err)
		}
	}
	dir, kept := filepath.Join(root, "d"), filepath.Join(root, "kept")
	stop := swapping(func() {
		os.Rename(dir, kept)
		os.Symlink("../out", dir)
		os.Remove(dir)
		os.Rename(kept, dir)
	})
	defer stop()
	c := &cgi.Client{Root: root, Grace: time.Second, Env: append(conformance.Environ(t), "GATEHOUSE_TEST_HANDLER=environ")}
	defer c.Close()
	ran := 0
	t.Run("never runs what is outside [040 F40 F55]", func(t *testing.T) {
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
			o := conformance.Ask(t, c, get("/d/x"))
			switch {
			case o.Err == nil:
				ran++
			case !errors.Is(o.Err, fs.ErrNotExist):
				t.Fatalf("the program outside ran: %v", o.Err)
			}
		}
	})
	if ran == 0 {
		t.Error("the program inside never ran")
	}
}

// swapping calls swap again and again until stop is called.
func swapping(swap func()) (stop func()) {
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-over:
				return
			default:
				swap()
				time.Sleep(time.Millisecond)
			}
		}
	}()
	return func() {
		close(over)
		<-done
	}
}

// asNobody runs the test in a process of another user.
func asNobody(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "gh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	program := filepath.Join(dir, "test")
	if err := errors.Join(err, os.Chmod(dir, 0o777), os.WriteFile(program, b, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Dir, cmd.Env = dir, []string{"TMPDIR=" + dir, "PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
}
