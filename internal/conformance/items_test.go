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
)

var ran = flag.String("ran", "", `the output of "go test -json -cover ./...": of what passed there every item must be`)

const (
	items   = 300 // of the conformance list
	attacks = 49  // of the list of attacks
)

// absent are the items that have no test, and why. Nothing else may be missing, and none of these may have one.
var absent = map[string]string{
	"103": "the client does not put several requests on a connection: that is later work",
	"110": "as 103",
	"111": "as 103",
	"112": "as 103",
	"114": "gatewayhttp.Authorizer, which would use what an authorizer sets, is later work",
	"191": "uwsgi's array codec, of RPC and the cache, is later work",
	"192": "as 191",
	"193": "subscriptions are not served",
	"277": "the mapping to WSGI and ASGI is Python's, and later work here",
	"278": "as 277", "279": "as 277", "280": "as 277", "281": "as 277", "282": "as 277", "283": "as 277",
	"284": "as 277", "285": "as 277", "286": "as 277", "287": "as 277",
	"F41": "subscriptions are not served",
	"F42": "rTorrent's own: SECURITY.md of whoever runs it; a Unix socket is what to use",
}

// TestItems looks that each item and each attack has a subtest under its id: by what passed in a run, if there is the
// output of one, and else by the names in the tests' text.
func TestItems(t *testing.T) {
	found := make(map[string]bool)
	if *ran != "" {
		passed(t, *ran, found)
	} else {
		named(t, "../..", found)
	}
	for i := range items + attacks {
		id := fmt.Sprintf("%03d", i+1)
		if i >= items {
			id = fmt.Sprintf("F%d", i+1-items)
		}
		switch reason, ok := absent[id]; {
		case ok && found[id] && *ran != "": // of text one cannot be sure
			t.Errorf("%s has a test, and is said to be absent: %s", id, reason)
		case !ok && !found[id]:
			t.Errorf("%s has no test", id)
		}
	}
}

// mark notes the ids with which a name begins.
func mark(name string, found map[string]bool) {
	for word := range strings.FieldsFuncSeq(name, func(c rune) bool { return c == ' ' || c == '_' }) {
		number, attack := strings.CutPrefix(word, "F")
		if _, err := strconv.Atoi(number); err != nil || !attack && len(word) != 3 {
			return
		}
		found[word] = true
	}
}

// event is a line of what go test -json prints.
type event struct{ Action, Package, Test, Output string }

// events reads the output of a run.
func events(t *testing.T, file string) iter.Seq[event] {
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
		for name := range strings.SplitSeq(subtests, "/") {
			mark(name, found)
		}
	}
}

// named notes the ids with which strings begin in the text of the tests.
func named(t *testing.T, root string, found map[string]bool) {
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") && filepath.Base(path) != "conformance.go" {
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

// TestCoverage looks at what the packages' own tests ran, where there is the output of a run with -cover.
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
