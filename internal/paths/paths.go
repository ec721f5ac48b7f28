// Package paths cleans the paths of requests and finds scripts in them, for gatewayhttp.Mapping and
// gateway.ScriptIn.
package paths

import (
	"cmp"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/gatehouse-go/gatehouse/internal/grammar"
	"github.com/gatehouse-go/gatehouse/internal/params"
)

// CheckBytes returns ErrParam if p contains a NUL, CR or LF.
func CheckBytes(p string) error {
	if strings.ContainsAny(p, "\x00\r\n") { // rule F8, F26
		return fmt.Errorf("control byte in the path: %w", params.ErrParam)
	}
	return nil
}

// Clean merges the slashes of a decoded path and resolves its dot segments, as nginx does. A slash
// at the end stays. The error is ErrParam if the path does not begin with a slash, leaves the root,
// or contains a backslash, NUL, CR or LF.
func Clean(p string) (string, error) {
	if err := CheckBytes(p); err != nil {
		return "", err
	}
	if p == "" || p[0] != '/' || strings.Contains(p, `\`) || leaves(p) {
		return "", fmt.Errorf("path: %w", params.ErrParam)
	}
	c := path.Clean(p)
	if c != "/" && (strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.") || strings.HasSuffix(p, "/..")) {
		c += "/"
	}
	return c, nil
}

// leaves reports whether a dot segment of p leads above the root.
func leaves(p string) bool {
	depth := 0
	for element := range strings.SplitSeq(p, "/") {
		switch element {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return false
}

// A Finder finds the script in a clean path.
type Finder struct {
	Extensions []string // that end the name of a script; none means that the whole path is its name
	Index      string   // appended to a path that ends with a slash and names no script
}

// Find splits p after the first element that ends with an extension. Later elements are not tried,
// whether or not the script exists. Extensions match without regard to the case of ASCII letters,
// and otherwise byte for byte: other case folding changes lengths (F9). The error is fs.ErrNotExist
// if p names no script.
func (f Finder) Find(p string) (name, info string, err error) {
	for end := range f.Ends(p) {
		return p[:end], p[end:], nil
	}
	switch {
	case strings.HasSuffix(p, "/"):
		return p + f.Index, "", nil
	case len(f.Extensions) == 0:
		return p, "", nil
	}
	return "", "", fmt.Errorf("no script in the path: %w", fs.ErrNotExist)
}

// Ends returns an iterator over the ends of the elements of p that end with an extension.
func (f Finder) Ends(p string) iter.Seq[int] {
	return func(yield func(int) bool) {
		for end := 1; end <= len(p); end++ {
			if end < len(p) && p[end] != '/' {
				continue
			}
			matches := func(e string) bool {
				return len(e) > 0 && len(e) < end && grammar.EqualFold(p[end-len(e):end], e) // rule F9
			}
			if slices.ContainsFunc(f.Extensions, matches) && !yield(end) {
				return
			}
		}
	}
}

// Below returns what follows prefix in p. It returns false if p is not below prefix, element by
// element.
func Below(p, prefix string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(p, prefix)
	return rest, ok && (rest == "" || rest[0] == '/') // rule F24
}

// Trim removes the slashes at the end of the prefix or the root dir.
func Trim(dir string) string { return strings.TrimRight(dir, "/") }

// Index returns the script of a folder if extension ends the names of scripts.
func Index(extension string) string { return "index" + cmp.Or(extension, ".php") }
