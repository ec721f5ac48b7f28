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

var update = flag.Bool("update", false, "rewrite the tables that the tests make")

// results holds whether each case passed with each peer.
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

// text returns the table and the reasons of the failures.
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
	return b.String() + "\n**F** marks a fault of the peer itself. A test fails if the peer no longer has it:\n\n" + why.String()
}

const mark = "<!-- the tests write the rest -->\n"

// check compares the table with that of README.md, if every peer was present and every case ran.
func (r *results) check() (status int) {
	if flag.Lookup("test.run").Value.String() != "" || !*update && os.Getenv("GATEHOUSE_PEERS") != "require" {
		return 0
	}
	if err := compareTable("README.md", r.text()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// compareTable compares what is below the mark of a file with the table that the tests have made,
// or writes it with -update.
func compareTable(file, table string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, old, _ := strings.Cut(string(b), mark)
	switch {
	case *update:
		return os.WriteFile(file, []byte(head+mark+"\n"+table), 0o644)
	case "\n"+table != old:
		return fmt.Errorf("%s differs from the results; run go test ./internal/integration -update", file)
	}
	return nil
}
