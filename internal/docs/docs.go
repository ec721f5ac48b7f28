// Package docs tests that what the module publishes is true: the snippets of its pages, and the
// text of its public surface.
package docs

import (
	"os"
	"strings"
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
