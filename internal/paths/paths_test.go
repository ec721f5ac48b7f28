package paths

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/gatehouse-go/gatehouse/internal/params"
)

func TestClean(t *testing.T) {
	for p, want := range map[string]string{
		"/": "/", "//": "/", "/.": "/", "/a/..": "/", "/a": "/a", "/a/": "/a/", "/a//b": "/a/b", "/a/./b/": "/a/b/", "/a/b/..": "/a/", "/a/b/.": "/a/b/", "/...": "/...",
	} {
		if got, err := Clean(p); got != want || err != nil {
			t.Errorf("%q: %q, %v, want %q", p, got, err, want)
		}
	}
	for _, p := range []string{"", "a", "*", "/..", "/a/../..", "/a/../../a", `/a\b`, "/\x00", "/\r", "/\n"} {
		if got, err := Clean(p); !errors.Is(err, params.ErrParam) {
			t.Errorf("%q: %q, %v", p, got, err)
		}
	}
}

func TestBelow(t *testing.T) {
	for _, c := range []struct {
		p, prefix, rest string
		ok              bool
	}{{"/a/b", "/a", "/b", true}, {"/a", "/a", "", true}, {"/ab", "/a", "", false}, {"/b", "/a", "", false}, {"/b", "", "/b", true}} {
		if rest, ok := Below(c.p, c.prefix); ok != c.ok || ok && rest != c.rest {
			t.Errorf("%q below %q: %q, %v", c.p, c.prefix, rest, ok)
		}
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "in"), []byte("x"), 0o600), os.Mkdir(filepath.Join(dir, "d"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if b, err := fs.ReadFile(Folder(dir), "in"); string(b) != "x" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := fs.Stat(Folder(dir+"/d"), "../in"); err == nil {
		t.Error("a file outside was found")
	}
	if _, err := fs.Stat(Folder(dir+"/missing"), "in"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestLacking(t *testing.T) {
	for err, want := range map[error]bool{syscall.EMFILE: true, &fs.PathError{Err: syscall.ENOSPC}: true, fs.ErrNotExist: false, nil: false} {
		if Lacking(err) != want {
			t.Errorf("%v: %v", err, !want)
		}
	}
}
