package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/internal/docs"
)

// TestWorkflow runs what fuzz/README.md has for other repositories: its targets, in a module of
// their own, and each command of its workflow.
func TestWorkflow(t *testing.T) {
	programs, err := docs.Snippets("../../fuzz/README.md", "go")
	if err != nil || len(programs) != 1 {
		t.Fatalf("%d programs, %v", len(programs), err)
	}
	workflows, err := docs.Snippets("../../fuzz/README.md", "yaml")
	if err != nil || len(workflows) != 1 {
		t.Fatalf("%d workflows, %v", len(workflows), err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	const mod = "module example\n\ngo 1.26\n\nrequire github.com/gatehouse-go/gatehouse v0.0.0\n\nreplace github.com/gatehouse-go/gatehouse => "
	for name, text := range map[string]string{"go.mod": mod + root + "\n", "go.sum": string(sum), "yours_test.go": programs[0]} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("gofmt", "-l", dir).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("not formatted: %s", out)
	}
	ran := 0
	for line := range strings.Lines(workflows[0]) {
		command, found := strings.CutPrefix(strings.TrimSpace(line), "- run: ")
		if !found {
			continue
		}
		ran++
		cmd := exec.Command("sh", "-c", strings.Replace(command, "-fuzztime 50000x", "-fuzztime 20x", 1))
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
	}
	if ran != 4 {
		t.Errorf("%d commands", ran)
	}
}
