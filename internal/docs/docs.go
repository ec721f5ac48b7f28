// Package docs tests that what the module publishes is true: the snippets of its pages, and the
// text of its public surface.
package docs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Snippets returns the fenced blocks of a language in a page, in order.
func Snippets(page, language string) ([]string, error) {
	b, err := os.ReadFile(page)
	if err != nil {
		return nil, err
	}
	var all []string
	var block strings.Builder
	in := false
	for line := range strings.Lines(string(b)) {
		switch {
		case in && strings.HasPrefix(line, "```"):
			all = append(all, block.String())
			block.Reset()
			in = false
		case in:
			block.WriteString(line)
		case strings.TrimSpace(line) == "```"+language:
			in = true
		}
	}
	return all, nil
}

// Snippet returns the n-th piece of text in that language on a page.
func Snippet(t testing.TB, page, language string, n int) string {
	t.Helper()
	all, err := Snippets(page, language)
	if err != nil || len(all) <= n {
		t.Fatalf("%s has %d pieces of %s, %v", page, len(all), language, err)
	}
	return all[n]
}

// Swap replaces words of text that must be there: each first one by the one that follows it.
func Swap(t testing.TB, text string, replace ...string) string {
	t.Helper()
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			t.Fatalf("no %q in\n%s", replace[i], text)
		}
		text = strings.ReplaceAll(text, replace[i], replace[i+1])
	}
	return text
}

// Build builds a program in dir, with the module that page belongs to, and returns its path.
func Build(t testing.TB, page, dir, text string) string {
	t.Helper()
	src, err := os.CreateTemp(dir, "program*.go")
	if err != nil {
		t.Fatal(err)
	}
	_, err = src.WriteString(text)
	if err := errors.Join(err, src.Close()); err != nil {
		t.Fatal(err)
	}
	path := strings.TrimSuffix(src.Name(), ".go")
	cmd := exec.Command("go", "build", "-o", path, src.Name())
	cmd.Dir = filepath.Dir(page)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}
