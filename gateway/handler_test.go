package gateway_test

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
)

func TestWriterBase(t *testing.T) {
	var w struct{ gateway.WriterBase }
	var rw gateway.ResponseWriter = &w
	rw.Header().Set("A", "1")
	rw.WriteHeader(200)
	rw.SetAppStatus(1)
	_, werr := rw.Write(nil)
	_, herr := rw.Hijack()
	for _, err := range []error{werr, herr, rw.Flush(), rw.WriteInterim(103, nil), rw.SetReadDeadline(timeZero), rw.SetWriteDeadline(timeZero)} {
		wantError(t, err, errors.ErrUnsupported)
	}
	if rw.Header().Get("A") != "1" {
		t.Error("the header is not kept")
	}
	if _, err := rw.Stderr().Write([]byte("x")); err != nil {
		t.Error(err)
	}
}

// TestLayers holds the arrows of the house.
func TestLayers(t *testing.T) {
	deps := func(pkg string) []string {
		out, err := exec.Command("go", "list", "-deps", pkg).Output()
		if err != nil {
			t.Skipf("go list: %v", err)
		}
		return strings.Fields(string(out))
	}
	const module = "github.com/gatehouse-go/gatehouse/"
	siblings := []string{module + "fastcgi", module + "scgi", module + "uwsgi", module + "cgi"}
	for _, pkg := range append(siblings, module+"gateway") {
		if _, err := os.Stat("../" + strings.TrimPrefix(pkg, module)); err != nil {
			continue
		}
		for _, dep := range deps(pkg) {
			if dep == "net/http" || dep != pkg && slices.Contains(siblings, dep) || dep == "net" && pkg == module+"gateway" {
				t.Errorf("%s depends on %s", pkg, dep)
			}
		}
	}
}
