package fuzz_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// entries are the exported functions and methods that take bytes apart, or are given them by a peer.
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
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if ok && (strings.HasPrefix(f.Name.Name, "Consume") || f.Name.Name == "ReadRequest" || f.Name.Name == "ReadResponse" || f.Name.Name == "Next" && f.Recv != nil) {
				names = append(names, f.Name.Name)
			}
		}
	}
	return names
}

// used are the names that stand behind a dot in the files that fuzz targets are made of.
func used(t *testing.T) (names []string) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		shared := strings.Contains(filepath.ToSlash(path), "internal/conformance/") && !strings.HasSuffix(path, "_test.go")
		fuzzing := strings.HasSuffix(path, "fuzz_test.go") || filepath.Base(path) == "harness_test.go" || filepath.Base(path) == "vectors_test.go" || filepath.Base(path) == "cost_test.go"
		if err != nil || !strings.HasSuffix(path, ".go") || !shared && !fuzzing {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				names = append(names, s.Sel.Name)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestTargets(t *testing.T) {
	all := used(t)
	for _, pkg := range []string{"gateway", "fastcgi", "scgi", "uwsgi", "cgi"} {
		t.Run("291 every decoder of "+pkg+" is fuzzed", func(t *testing.T) {
			names := entries(t, pkg)
			if len(names) == 0 {
				t.Fatal("there is none")
			}
			for _, name := range names {
				if !slices.Contains(all, name) {
					t.Errorf("no target calls %s", name)
				}
			}
		})
	}
}
