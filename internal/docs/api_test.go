package docs

import (
	"flag"
	"os"
	"os/exec"
	"path"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "take the surface over as it is")

var packages = []string{"gateway", "gateway/gatewayhttp", "gateway/gatewaytest", "gateway/worker", "fastcgi", "scgi", "uwsgi", "cgi", "fuzz"}

// TestSurface holds the public surface of each package to a text, so that every change of it is
// seen in review.
func TestSurface(t *testing.T) {
	for _, pkg := range packages {
		out, err := exec.Command("go", "doc", "-all", "../../"+pkg).Output()
		if err != nil {
			t.Skipf("go doc: %v", err)
		}
		file := path.Base(pkg) + ".txt"
		if *update {
			if err := os.WriteFile(file, out, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(out)); diff != "" {
			t.Errorf("the surface of %s has changed; see CONTRIBUTING.md:\n%s", pkg, diff)
		}
	}
}
