package conformance_test

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

var ran = flag.String("ran", "", `the outputs of "go test -json -cover ./...", separated by commas: of what passed there every item must be`)

// TestItems looks that each item and each attack has a subtest with its id: among those that passed
// in a run, if the output of one is given, or else among the names in the tests' text.
func TestItems(t *testing.T) {
	found := make(map[string]bool)
	if *ran != "" {
		passed(t, *ran, found)
	} else {
		named(t, "../..", found)
	}
	for _, item := range append(conformance.Items(t, "../.."), conformance.Attacks(t, "../..")...) {
		switch {
		case item.NoTest != "" && found[item.ID] && *ran != "": // a name in the text may be another's
			t.Errorf("%s has a test, but the list says that it has none: %s", item.ID, item.NoTest)
		case item.NoTest == "" && !found[item.ID]:
			t.Errorf("%s has no test", item.ID)
		}
	}
}

// mark notes the ids of a name.
func mark(name string, found map[string]bool) {
	for _, id := range conformance.IDs(name) {
		found[id] = true
	}
}

// event is a line of the output of go test -json.
type event struct{ Action, Package, Test, Output string }

// events reads the outputs of runs.
func events(t *testing.T, files string) iter.Seq[event] {
	return func(yield func(event) bool) {
		for file := range strings.SplitSeq(files, ",") {
			for e := range eventsOf(t, file) {
				if !yield(e) {
					return
				}
			}
		}
	}
}

func eventsOf(t *testing.T, file string) iter.Seq[event] {
	return func(yield func(event) bool) {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			var e event
			if json.Unmarshal(lines.Bytes(), &e) == nil && !yield(e) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// passed notes the ids of the subtests that passed in a run.
func passed(t *testing.T, file string, found map[string]bool) {
	for e := range events(t, file) {
		if e.Action != "pass" || strings.HasPrefix(e.Test, "Fuzz") {
			continue
		}
		_, subtests, _ := strings.Cut(e.Test, "/")
		mark(subtests, found)
	}
}

// named notes the ids with which strings begin in the text of the tests.
func named(t *testing.T, root string, found map[string]bool) {
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") && (filepath.Ext(path) != ".go" || filepath.Base(filepath.Dir(path)) != "conformance") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.BasicLit); ok && s.Kind == token.STRING && !strings.HasSuffix(path, "items_test.go") {
				if name, err := strconv.Unquote(s.Value); err == nil && strings.Contains(name, " ") {
					mark(name, found)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// leastCovered is the percentage of the statements of a public package that its own tests must run.
const leastCovered = 90

// TestCoverage checks how many statements the packages' own tests ran, if the output of a run with
// -cover is given.
func TestCoverage(t *testing.T) {
	if *ran == "" {
		t.Skip("needs -ran, the output of go test -json -cover ./...")
	}
	for _, name := range []string{"gateway", "gateway/gatewayhttp", "fastcgi", "scgi", "uwsgi", "cgi"} {
		covered := -1.0
		for e := range events(t, *ran) {
			if e.Package == "github.com/gatehouse-go/gatehouse/"+name && e.Test == "" {
				fmt.Sscanf(e.Output, "coverage: %f%%", &covered)
			}
		}
		if t.Logf("%s: %.1f %%", name, covered); covered < leastCovered {
			t.Errorf("%s: %.1f %%, less than %d", name, covered, leastCovered)
		}
	}
}
