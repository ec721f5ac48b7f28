package integration_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
)

var update = flag.Bool("update", false, "write the table of README.md anew")

// results is what came of each case with each peer.
type results struct {
	mu   sync.Mutex
	rows map[string]map[string]bool
}

var table = &results{rows: make(map[string]map[string]bool)}

func (r *results) add(peer, name string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rows[peer] == nil {
		r.rows[peer] = make(map[string]bool)
	}
	r.rows[peer][name] = ok
}

// text is the table, with the reasons of what fails.
func (r *results) text() string {
	var b, why strings.Builder
	b.WriteString("| peer |")
	var rule strings.Builder
	rule.WriteString("\n|---|")
	for _, c := range frontCases {
		fmt.Fprintf(&b, " %s |", c.name)
		rule.WriteString("---|")
	}
	b.WriteString(rule.String() + "\n")
	for _, peer := range slices.Sorted(maps.Keys(r.rows)) {
		fmt.Fprintf(&b, "| %s |", peer)
		for _, c := range frontCases {
			word := "ok"
			if !r.rows[peer][c.name] {
				word = "**F**"
				fmt.Fprintf(&why, "- %s, %s: %s\n", peer, c.name, ownFault[peer+"/"+c.name])
			}
			fmt.Fprintf(&b, " %s |", word)
		}
		b.WriteString("\n")
	}
	return b.String() + "\nWhere it says **F** the peer fails by itself, and a test holds it to that:\n\n" + why.String()
}

const mark = "<!-- the rest is written by the tests -->\n"

// check compares the table with that of README.md, where every peer was there and every case was run.
func (r *results) check() (status int) {
	const file = "README.md"
	b, err := os.ReadFile(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	head, old, _ := strings.Cut(string(b), mark)
	if *update {
		err := os.WriteFile(file, []byte(head+mark+"\n"+r.text()), 0o644)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	if os.Getenv("GATEHOUSE_PEERS") != "require" || flag.Lookup("test.run").Value.String() != "" {
		return 0
	}
	if "\n"+r.text() != old {
		fmt.Fprintln(os.Stderr, "README.md has another table: go test ./internal/integration -update")
		return 1
	}
	return 0
}
