package conformance

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// An Item is a numbered rule of ITEMS.md, or an attack of SECURITY.md.
type Item struct {
	ID     string // "042" or "F13"
	NoTest string // why no test has the id; empty if one must
}

var (
	itemLine   = regexp.MustCompile(`(?m)^(\d{3})\. .*$`)
	attackLine = regexp.MustCompile(`(?m)^\| (F\d+) \|.*$`)
	noTest     = regexp.MustCompile(`\(no test: ([^)]*)\)`)
	ids        = regexp.MustCompile(`\[((?:[0-9F]+[ _]?)+)\]`)
)

// Items returns the items of ITEMS.md. root is the root of the module.
func Items(t testing.TB, root string) []Item {
	t.Helper()
	return items(t, filepath.Join(root, "internal", "conformance", "ITEMS.md"), itemLine)
}

// Attacks returns the attacks of SECURITY.md. root is the root of the module.
func Attacks(t testing.TB, root string) []Item {
	t.Helper()
	return items(t, filepath.Join(root, "SECURITY.md"), attackLine)
}

func items(t testing.TB, file string, line *regexp.Regexp) (list []Item) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range line.FindAllStringSubmatch(string(text), -1) {
		item := Item{ID: m[1]}
		if reason := noTest.FindStringSubmatch(m[0]); reason != nil {
			item.NoTest = reason[1]
		}
		list = append(list, item)
	}
	if len(list) == 0 {
		t.Fatalf("%s lists nothing", file)
	}
	return list
}

// IDs returns the ids in brackets behind the sentence of a test's name, as in "a bare CR [239
// F18]".
func IDs(name string) (list []string) {
	for _, m := range ids.FindAllStringSubmatch(name, -1) {
		list = append(list, strings.FieldsFunc(m[1], func(c rune) bool { return c == ' ' || c == '_' })...)
	}
	return list
}
