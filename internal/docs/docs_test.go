package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/internal/docs"
)

// TestPrograms builds every program in the pages.
func TestPrograms(t *testing.T) {
	var programs []string
	for _, page := range []string{"README.md", "gateway/gatewayhttp/MIGRATING.md"} {
		snippets, err := docs.Snippets("../../"+page, "go")
		if err != nil || len(snippets) == 0 {
			t.Fatalf("%s: %d snippets, %v", page, len(snippets), err)
		}
		programs = append(programs, snippets...)
	}
	for _, s := range programs {
		dir := t.TempDir()
		file := filepath.Join(dir, "main.go")
		if err := os.WriteFile(file, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, argv := range [][]string{{"go", "build", "-o", filepath.Join(dir, "program"), file}, {"go", "vet", file}} {
			cmd := exec.Command(argv[0], argv[1:]...)
			cmd.Dir = "../.."
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %v\n%s\n%s", argv, err, out, s)
			}
		}
		if out, err := exec.Command("gofmt", "-l", file).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("not formatted: %s\n%s", out, s)
		}
	}
}

// TestCommands runs every command in the pages: those of the tool with --help, which takes the
// flags apart first, and looks that those of go name what there is. Test and CI run the first two
// of the README as they are.
func TestCommands(t *testing.T) {
	for _, page := range []string{"README.md", "CONTRIBUTING.md", "internal/bench/README.md", "internal/integration/README.md", "internal/browser/README.md", "fuzz/README.md", "SECURITY.md"} {
		snippets, err := docs.Snippets("../../"+page, "sh")
		if err != nil || len(snippets) == 0 {
			t.Fatalf("%s: %d snippets, %v", page, len(snippets), err)
		}
		for line := range strings.SplitSeq(strings.Join(snippets, ""), "\n") {
			argv := strings.Fields(strings.ReplaceAll(line, "'", ""))
			switch {
			case len(argv) == 0:
			case strings.HasPrefix(line, "go run ./gateway/gatehouse"):
				run(t, append(argv, "--help"))
			case strings.HasPrefix(line, "go test"):
				for _, word := range argv {
					if strings.HasPrefix(word, "./") {
						run(t, []string{"go", "vet", word})
					}
				}
			case strings.HasPrefix(line, "go get github.com/gatehouse-go/gatehouse"):
			default:
				t.Errorf("%s: nothing runs %q", page, line)
			}
		}
	}
}

func run(t *testing.T, argv []string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %v\n%s", argv, err, out)
	}
}

// TestTop checks that the top level of the repository is as its map says.
func TestTop(t *testing.T) {
	entries, err := os.ReadDir("../..")
	if err != nil {
		t.Fatal(err)
	}
	known := " doc.go README.md go.mod go.sum LICENSE CHANGELOG.md CONTRIBUTING.md SECURITY.md .ci .git .github .gitignore gateway fastcgi scgi uwsgi cgi fuzz internal "
	for _, e := range entries {
		if !strings.Contains(known, " "+e.Name()+" ") {
			t.Errorf("%s is not on the map", e.Name())
		}
	}
}
