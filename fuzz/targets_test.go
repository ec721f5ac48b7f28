package fuzz_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// entries are the exported functions that take bytes apart, as "package.Name", and the methods, as
// "Name".
func entries(t *testing.T, pkg string) (names []string) {
	t.Helper()
	files, err := filepath.Glob("../" + pkg + "/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %v", pkg, files, err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		for _, d := range parse(t, path).Decls {
			f, ok := d.(*ast.FuncDecl)
			switch {
			case !ok:
			case f.Recv == nil && (strings.HasPrefix(f.Name.Name, "Consume") || f.Name.Name == "ReadRequest"):
				names = append(names, pkg+"."+f.Name.Name)
			case f.Recv != nil && (f.Name.Name == "ReadRequest" || f.Name.Name == "ReadResponse" || f.Name.Name == "Next"):
				names = append(names, f.Name.Name)
			}
		}
	}
	return names
}

func parse(t *testing.T, path string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// used are what the targets of a package call: its own, those that all protocols share, and those
// here. Beside the targets stand the codecs that shared ones are given.
func used(t *testing.T, pkg string) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	for _, path := range []string{"../" + pkg + "/fuzz_test.go", "../" + pkg + "/cost_test.go", "../" + pkg + "/bench_test.go", "../internal/conformance/vectors.go", "../internal/conformance/kit.go", "harness_test.go", "decoder.go"} {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		ast.Inspect(parse(t, path), func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				names[s.Sel.Name] = true
				if x, ok := s.X.(*ast.Ident); ok {
					names[x.Name+"."+s.Sel.Name] = true
				}
			}
			return true
		})
	}
	return names
}

func TestTargets(t *testing.T) {
	for _, pkg := range []string{"gateway", "fastcgi", "scgi", "uwsgi", "cgi"} {
		t.Run("every decoder of  [291]"+pkg+" is fuzzed", func(t *testing.T) {
			calls, names := used(t, pkg), entries(t, pkg)
			if len(names) == 0 {
				t.Fatal("there is none")
			}
			for _, name := range names {
				if !calls[name] {
					t.Errorf("no target calls %s", name)
				}
			}
		})
	}
}
