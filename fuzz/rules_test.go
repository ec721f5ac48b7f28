package fuzz_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

var checkRules = flag.Bool("rules", false, "switch off each rule of security in turn and check that a test fails")

// A rule keeps an attack out. Its line in the source ends with a marker comment that names it, such
// as "// rule F13"; several rules may share a line.
type rule struct {
	id       string
	code     string // what stands on the marked line,
	off      string // and what it becomes when the rule is switched off
	failsPkg string // the package whose tests under the id then fail
}

// rules has every attack that SECURITY.md lists with a test.
var rules = []rule{
	{"F1", `string(name) == "HTTP_PROXY"`, `false`, "./scgi"},
	{"F2", `n > 0`, `n > 1`, "./fastcgi"},
	{"F3", `min(len(p), maxStream)`, `len(p)`, "./fastcgi"},
	{"F4", `content + int(h.Padding)`, `n + int(h.Length+uint16(h.Padding))`, "./fastcgi"},
	{"F5", `uint64(name) + uint64(nameLen) + uint64(valueLen); end > uint64(len(b))`, `uint32(name) + nameLen + valueLen; end > uint32(len(b)) && nameLen < 1<<30`, "./fastcgi"},
	{"F6", `h.ID != a.id ||`, `h.ID != a.id &&`, "./fastcgi"},
	{"F7", `c == '\t' || c >= ' ' && c != 0x7f`, `true`, "./fastcgi"},
	{"F8", `"\x00\r\n"`, `"\x00"`, "./gateway/gatewayhttp"},
	{"F9", `grammar.EqualFold(p[end-len(e):end], e)`, `(grammar.EqualFold(p[end-len(e):end], e) || strings.HasSuffix(strings.ReplaceAll(p[:end], "ｐ", "p"), e))`, "./gateway/gatewayhttp"},
	{"F10", `return nil`, `c = '_'`, "./gateway/gatewayhttp"},
	{"F11", `append(buf[:0], "HTTP_"...)`, `buf[:0]`, "./gateway/gatewayhttp"},
	{"F12", `append(buf[:0], "HTTP_"...)`, `buf[:0]`, "./uwsgi"},
	{"F13", `false`, `true`, "./uwsgi"},
	{"F14", `unmap(p).Contains(ip)`, `unmap(p).Contains(ip) || ip.IsValid()`, "./uwsgi"},
	{"F15", `p.Addr().Is4In6() && p.Bits() >= 96`, `false`, "./uwsgi"},
	{"F16", `len(b)-start-headerSize+pairSize(name, value) > maxVars`, `false`, "./uwsgi"},
	{"F17", `n > limit || n == 0 && a.in.Len() > limit`, `false`, "./scgi"},
	{"F18", `!grammar.IsFieldValue(value)`, `false`, "./scgi"},
	{"F19", `grammar.EqualFold(name, "Transfer-Encoding")`, `false`, "./scgi"},
	{"F20", `!isVersion(version) || !grammar.IsFieldValue(rest)`, `len(version) == 0`, "./uwsgi"},
	{"F21", `c, err := d.Dial(ctx)`, `c, err := d.Dial(ctx); if t, ok := c.(interface{ NetConn() net.Conn }); ok { c = t.NetConn() }`, "./uwsgi"},
	{"F22", `!grammar.IsFieldValue(value)`, `false`, "./fastcgi"},
	{"F23", `arg[0] == '-' || `, ``, "./cgi"},
	{"F24", `ok && (rest == "" || rest[0] == '/')`, `ok`, "./gateway/gatewayhttp"},
	{"F25", `http.DetectContentType(p)`, `"text/html"`, "./gateway/gatewayhttp"},
	{"F26", `"\x00\r\n"`, `"\r\n"`, "./gateway/gatewayhttp"},
	{"F27", `maxRedirects`, `10*maxRedirects`, "./gateway/gatewayhttp"},
	{"F28", `forServer(name) || `, ``, "./gateway/gatewayhttp"},
	{"F29", `hopByHop(name) || forServer(name) || drop[name]`, `forServer(name) || len(drop) > 1<<20`, "./gateway/gatewayhttp"},
	{"F30", `200`, `100`, "./scgi"},
	{"F31", `!grammar.EqualFold(token, a.Upgrade)`, `grammar.EqualFold(token, "no")`, "./uwsgi"},
	{"F32", `values[i].name = ""`, `_ = i`, "./fastcgi"},
	{"F33", `c.c.SetReadDeadline(stream.Deadline(c.s.ReadHeadTimeout, DefaultReadHeadTimeout))`, ``, "./scgi"},
	{"F34", `go cc.`, `cc.`, "./fastcgi"},
	{"F35", `l.Len() > MaxPairs`, `false`, "./scgi"},
	{"F36", `r.w.r.Store(nil)`, ``, "./fastcgi"},
	{"F37", `"UWSGI_SCHEME"`, `"HTTP_X_FORWARDED_PROTO"`, "./gateway"},
	{"F38", `err = r.commit(200)`, ``, "./fastcgi"},
	{"F39", `cmd.Env = j.env`, ``, "./cgi"},
	{"F40", `os.OpenRoot(root)`, `anywhere(root), nil`, "./cgi"},
	{"F43", `h.env.Len() > 0 && h.env.FindBytes(name) >= 0`, `false`, "./fastcgi"},
	{"F44", "|| strings.ContainsAny(h, `/?#@\\ `)", `&& strings.Contains(h, "\x00")`, "./gateway/gatewayhttp"},
	{"F45", `r.Host,`, `r.Header.Get("Host"),`, "./gateway/gatewayhttp"},
	{"F46", `i >= 0`, `i >= 1<<20`, "./scgi"},
	{"F47", `len(name) > MaxNameBytes || len(value) > MaxValueBytes`, `false`, "./gateway"},
	{"F48", `min(max(2*delay, 5*time.Millisecond), time.Second)`, `0`, "./fastcgi"},
	{"F49", `h.Version != 1`, `false`, "./fastcgi"},
	{"F50", `err == nil && !info.IsDir()`, `err != nil || !info.IsDir()`, "./gateway/gatewayhttp"},
	{"F51", `s.PathInfo != "" && m.PathTranslated`, `s.PathInfo != ""`, "./gateway/gatewayhttp"},
	{"F52", `!forwarded && isForwarded(canonical)`, `false`, "./gateway/gatewayhttp"},
	{"F55", `os.OpenRoot(c.root)`, `os.OpenRoot("/nowhere"); if err != nil { return nil, nil }`, "./cgi"},
	{"F56", `slices.Contains(metaVariables, name)`, `true`, "./cgi"},
	{"F58", `t.NetConn()`, `t`, "./gateway/gatewayhttp"},
	{"F57", `c.PassAuthorization`, `true`, "./cgi"},
	{"F59", `grammar.EqualFold(name, "Content-Length")`, `false`, "./internal/stream"},
	{"F60", `strings.HasPrefix(element, ".") && (i > 0 || element != ".well-known")`, `i < 0`, "./gateway/gatewayhttp"},
	{"F61", `v.isScript("/"+filepath.Base(real))`, `real == ""`, "./gateway/gatewayhttp"},
	{"F62", `os.OpenRoot(s.Dir)`, `os.OpenRoot(s.Dir); if err == nil { v.files = os.DirFS(s.Dir); root.Close(); return v, 0 }`, "./gateway/gatewayhttp"},
	{"F63", `res.Status != http.StatusOK`, `false`, "./gateway/gatewayhttp"},
	{"F64", `err != nil`, `err != nil && res.Status != 200`, "./gateway/gatewayhttp"},
	{"F65", `found && slices.Contains(names, variable)`, `found && len(names) > 0`, "./gateway/gatewayhttp"},
	{"F66", `slices.Contains(names, claimed) || strings.HasPrefix(claimed, "VARIABLE_")`, `claimed == ""`, "./gateway/gatewayhttp"},
	{"F67", `done && (c.response.bare || used < n)`, `false`, "./gateway/gatewayhttp"},
	{"F68", `return BodyFault(err)`, `return err`, "./gateway"},
	{"F54", `b.used.Add(int64(n)) > int64(limit)`, `b.used.Add(int64(n)) < 0`, "./fastcgi"},
	{"F53", `"UWSGI_SCHEME"`, `"UWSGI_SCHEMA"`, "./gateway/gatewayhttp"},
}

// TestRules checks that every attack of SECURITY.md has a rule in the source. With -rules it
// removes each rule in turn and runs the tests named after the attack, which must fail.
func TestRules(t *testing.T) {
	marked := markedLines(t, "..")
	known := make(map[string]bool)
	for _, r := range rules {
		known[r.id] = true
		t.Run(r.id, func(t *testing.T) {
			lines := marked[r.id]
			if len(lines) != 1 {
				t.Fatalf("%d lines have the marker, not one", len(lines))
			}
			if n := strings.Count(lines[0].text, r.code); n != 1 {
				t.Fatalf("%s:%d has %q %d times", lines[0].file, lines[0].number, r.code, n)
			}
			if *checkRules {
				switchOff(t, r, lines[0])
			}
		})
		delete(marked, r.id)
	}
	for id := range marked {
		t.Errorf("the marker of %s is in the source, and no rule is here", id)
	}
	for _, item := range conformance.Attacks(t, "..") {
		if known[item.ID] == (item.NoTest != "") {
			t.Errorf("%s: a rule is here: %v; SECURITY.md says that there is no test: %q", item.ID, known[item.ID], item.NoTest)
		}
	}
}

// A markedLine is a line of the source that has a marker.
type markedLine struct {
	file   string
	number int
	text   string
}

var marker = regexp.MustCompile(`// rule (F\d+(?:, F\d+)*)`)

// markedLines returns the marked lines of the module's source by the ids in their markers.
func markedLines(t *testing.T, root string) map[string][]markedLine {
	t.Helper()
	marked := make(map[string][]markedLine)
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		number := 0
		for line := range strings.Lines(string(src)) {
			number++
			if m := marker.FindStringSubmatch(line); m != nil {
				for id := range strings.SplitSeq(m[1], ", ") {
					marked[id] = append(marked[id], markedLine{path, number, line})
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return marked
}

// switchOff builds a package's tests with a rule switched off, in a file that takes the place of
// the rule's, and runs them.
func switchOff(t *testing.T, r rule, line markedLine) {
	dir := t.TempDir()
	file, err := filepath.Abs(line.file)
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(src), "\n")
	lines[line.number-1] = strings.Replace(line.text, r.code, r.off, 1)
	without, overlay := filepath.Join(dir, "off.go"), filepath.Join(dir, "overlay.json")
	place, err := json.Marshal(map[string]any{"Replace": map[string]string{file: without}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(without, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, place, 0o600); err != nil {
		t.Fatal(err)
	}
	under := fmt.Sprintf(`/\[([^]]*_)?%[1]s[]_]|//\[([^]]*_)?%[1]s[]_]`, r.id)
	test := exec.Command("go", "test", "-overlay", overlay, "-vet=off", "-timeout", "5m", "-run", under, "-v", r.failsPkg)
	test.Dir = ".."
	out, err := test.CombinedOutput()
	switch {
	case strings.Contains(string(out), "[build failed]"):
		t.Fatalf("it does not build: %s", out)
	case err == nil:
		t.Errorf("nothing fails without %q", line.text)
	case !failedUnder(string(out), r.id):
		t.Errorf("something fails without %q, but nothing under its id:\n%s", line.text, out[max(0, len(out)-2000):])
	}
}

// failedUnder reports whether a test whose name has the id failed, or a panic ended the tests.
func failedUnder(out, id string) bool {
	for line := range strings.Lines(out) {
		name, found := strings.CutPrefix(strings.TrimSpace(line), "--- FAIL: ")
		if found && slices.Contains(conformance.IDs(name), id) {
			return true
		}
	}
	return strings.Contains(out, "panic: ") && !strings.Contains(out, "timed out")
}
