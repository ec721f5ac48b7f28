package fuzz_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var checkRules = flag.Bool("rules", false, "switch off each rule of security in turn and look that a test fails")

// rule is the line that keeps an attack out, and what becomes of it when the rule is switched off.
type rule struct {
	id, file, line, off string
	pkg                 string // whose tests under the id must fail then
}

// rules has every row of the list of attacks but F41 and F42, which nothing of ours serves.
var rules = []rule{
	{"F1", "gateway/rules.go", `return string(name) == "HTTP_PROXY" })`, `return false })`, "./scgi"},
	{"F2", "internal/outbuf/outbuf.go", "	case n > 0:\n		return ErrLong\n", "	case n > 1:\n		return ErrLong\n", "./fastcgi"},
	{"F3", "fastcgi/writer.go", "n := min(len(p), maxStream)\n		s.out.B", "n := len(p)\n		s.out.B", "./fastcgi"},
	{"F4", "fastcgi/record.go", "end := content + int(h.Padding)", "end := n + int(h.Length+uint16(h.Padding))", "./fastcgi"},
	{"F5", "fastcgi/wire.go", "if end := uint64(name) + uint64(nameLen) + uint64(valueLen); end > uint64(len(b)) {", "if end := uint32(name) + nameLen + valueLen; end > uint32(len(b)) && nameLen < 1<<30 {", "./fastcgi"},
	{"F6", "fastcgi/answer.go", "if h.ID != a.id || h.ID == 0 {", "if h.ID != a.id && h.ID != 0 {", "./fastcgi"},
	{"F7", "internal/sock/stderr.go", `case c == '\t' || c >= ' ' && c != 0x7f:`, "case true:", "./fastcgi"},
	{"F8", "gateway/gatewayhttp/mapping.go", `strings.ContainsAny(urlPath, "\x00\r\n")`, `strings.ContainsAny(urlPath, "\x00")`, "./gateway/gatewayhttp"},
	{"F9", "gateway/gatewayhttp/mapping.go", "if len(e) > 0 && len(e) < end && pairs.EqualFold(p[end-len(e):end], e) {", "if len(e) > 0 && len(e) < end && (pairs.EqualFold(p[end-len(e):end], e) || strings.HasSuffix(strings.ReplaceAll(p[:end], \"ｐ\", \"p\"), e)) {", "./gateway/gatewayhttp"},
	{"F10", "gateway/gatewayhttp/fields.go", "			return nil\n		}\n		buf = append(buf, c)", "			c = '_'\n		}\n		buf = append(buf, c)", "./gateway/gatewayhttp"},
	{"F11", "gateway/gatewayhttp/mapping.go", `name := paramName(append(buf[:0], "HTTP_"...), field)`, `name := paramName(buf[:0], field)`, "./gateway/gatewayhttp"},
	{"F12", "gateway/gatewayhttp/mapping.go", `name := paramName(append(buf[:0], "HTTP_"...), field)`, `name := paramName(buf[:0], field)`, "./uwsgi"},
	{"F13", "gateway/rules.go", "		return true\n	}\n	return false\n}\n\n// quoteName", "		return true\n	}\n	return true\n}\n\n// quoteName", "./uwsgi"},
	{"F14", "internal/sock/listen.go", "		if unmap(p).Contains(ip) {", "		if unmap(p).Contains(ip) || ip.IsValid() {", "./uwsgi"},
	{"F15", "internal/sock/listen.go", "if p.Addr().Is4In6() && p.Bits() >= 96 {", "if false {", "./uwsgi"},
	{"F16", "uwsgi/wire.go", "if len(b)-start-headerSize+pairSize(name, value) > maxVars {", "if false {", "./uwsgi"},
	{"F17", "internal/plain/answer.go", "if n > limit || n == 0 && a.in.Len() > limit {", "if false {", "./scgi"},
	{"F18", "gateway/response.go", "	if !isFieldValue(value) {", "	if false {", "./scgi"},
	{"F19", "gateway/response.go", `	case pairs.EqualFold(name, "Transfer-Encoding"):`, `	case false:`, "./scgi"},
	{"F20", "gateway/response.go", "	if !found || !isVersion(version) || !isFieldValue(rest) {", "	if !found || len(version) == 0 {", "./uwsgi"},
	{"F21", "internal/call/call.go", "	if d.Dial != nil {\n		return d.Dial(ctx)\n	}\n", "	if d.Dial != nil {\n		c, err := d.Dial(ctx)\n		if t, ok := c.(interface{ NetConn() net.Conn }); ok {\n			return t.NetConn(), err\n		}\n		return c, err\n	}\n", "./uwsgi"},
	{"F22", "gateway/response.go", "	if !isFieldValue(value) {", "	if false {", "./fastcgi"},
	{"F23", "cgi/script.go", "arg[0] == '-' || ", "", "./cgi"},
	{"F24", "gateway/gatewayhttp/mapping.go", "	if !ok || rest != \"\" && rest[0] != '/' {\n", "	if !ok {\n", "./gateway/gatewayhttp"},
	{"F25", "gateway/gatewayhttp/handler.go", `h.Set("Content-Type", http.DetectContentType(p))`, `h.Set("Content-Type", "text/html")`, "./gateway/gatewayhttp"},
	{"F26", "gateway/gatewayhttp/mapping.go", `strings.ContainsAny(urlPath, "\x00\r\n")`, `strings.ContainsAny(urlPath, "\r\n")`, "./gateway/gatewayhttp"},
	{"F27", "gateway/gatewayhttp/redirect.go", "if count == maxRedirects {", "if count == 10*maxRedirects {", "./gateway/gatewayhttp"},
	{"F28", "gateway/gatewayhttp/response.go", "hopByHop[name] || forServer(name) || drop[name]", "hopByHop[name] || drop[name]", "./gateway/gatewayhttp"},
	{"F29", "gateway/gatewayhttp/response.go", "hopByHop[name] || forServer(name) || drop[name]", "forServer(name) || len(drop) > 1<<20", "./gateway/gatewayhttp"},
	{"F30", "internal/plain/answer.go", "case res.Status >= 200:", "case res.Status >= 100:", "./scgi"},
	{"F31", "internal/plain/answer.go", `if a.Upgrade == "" || !pairs.EqualFold(token, a.Upgrade) {`, `if a.Upgrade == "" || pairs.EqualFold(token, "no") {`, "./uwsgi"},
	{"F32", "fastcgi/mux.go", "				values[i].name = \"\"\n", "				_ = i\n", "./fastcgi"},
	{"F33", "internal/single/server.go", "	c.c.SetReadDeadline(time.Now().Add(or(s.ReadHeadTimeout, 10*time.Second)))\n", "", "./scgi"},
	{"F34", "fastcgi/clientconn.go", "go cc.", "cc.", "./fastcgi"},
	{"F35", "gateway/rules.go", "	if l.Len() > MaxPairs {", "	if false {", "./scgi"},
	{"F36", "fastcgi/request.go", "	r.h.r.Store(nil)\n", "", "./fastcgi"},
	{"F37", "gateway/meaning.go", `[...]string{"REQUEST_SCHEME", "UWSGI_SCHEME"}`, `[...]string{"REQUEST_SCHEME", "HTTP_X_FORWARDED_PROTO"}`, "./gateway"},
	{"F38", "fastcgi/request.go", "		err = r.commit(200)\n	}\n	if err == nil && r.ans.Short", "	}\n	if err == nil && r.ans.Short", "./fastcgi"},
	{"F39", "cgi/process.go", "	cmd.Env = j.env\n", "", "./cgi"},
	{"F40", "cgi/script.go", "return func() (dir, error) { return os.OpenRoot(root) }", "return func() (dir, error) { return anywhere(root), nil }", "./cgi"},
	{"F43", "internal/send/send.go", "h.env.Len() > 0 && h.env.FindBytes(name) >= 0 {", "false {", "./fastcgi"},
	{"F44", "gateway/gatewayhttp/fields.go", "if !httpguts.ValidHostHeader(h) || strings.ContainsAny(h, `/?#@\\ `) {", "if !httpguts.ValidHostHeader(h) && strings.Contains(h, \"\\x00\") {", "./gateway/gatewayhttp"},
	{"F45", "gateway/gatewayhttp/mapping.go", "	host := r.Host\n", "	host := r.Header.Get(\"Host\")\n", "./gateway/gatewayhttp"},
	{"F46", "gateway/rules.go", "	if i := l.Join(separator); i >= 0 {", "	if i := l.Join(separator); i >= 1<<20 {", "./scgi"},
	{"F47", "gateway/rules.go", "	case len(name) > MaxNameBytes || len(value) > MaxValueBytes:", "	case false:", "./gateway"},
	{"F48", "internal/serve/serve.go", "return min(max(2*delay, 5*time.Millisecond), time.Second)", "return 0", "./fastcgi"},
	{"F49", "fastcgi/record.go", "	if h.Version != 1 {", "	if false {", "./fastcgi"},
}

// TestRules looks that the table is whole and of this code, and with -rules switches each rule off and runs the tests
// under its id, which must fail.
func TestRules(t *testing.T) {
	known := make(map[string]bool)
	for _, r := range rules {
		known[r.id] = true
		t.Run(r.id, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join("..", r.file))
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(b), r.line); n != 1 {
				t.Fatalf("%s has %q %d times", r.file, r.line, n)
			}
			if *checkRules {
				switchOff(t, r, string(b))
			}
		})
	}
	for i := 1; i <= 49; i++ {
		if id := fmt.Sprintf("F%d", i); !known[id] && i != 41 && i != 42 {
			t.Errorf("no rule for %s", id)
		}
	}
}

// switchOff builds a package's tests without a rule, in a file that stands in the place of the rule's, and runs them.
func switchOff(t *testing.T, r rule, src string) {
	dir := t.TempDir()
	file, err := filepath.Abs(filepath.Join("..", r.file))
	if err != nil {
		t.Fatal(err)
	}
	without, overlay := filepath.Join(dir, "off.go"), filepath.Join(dir, "overlay.json")
	place, _ := json.Marshal(map[string]any{"Replace": map[string]string{file: without}})
	if err := os.WriteFile(without, []byte(strings.Replace(src, r.line, r.off, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, place, 0o600); err != nil {
		t.Fatal(err)
	}
	under := fmt.Sprintf("/(^|_)%s(_|$)|//(^|_)%s(_|$)", r.id, r.id)
	test := exec.Command("go", "test", "-overlay", overlay, "-vet=off", "-timeout", "5m", "-run", under, "-v", r.pkg)
	test.Dir = ".."
	out, err := test.CombinedOutput()
	switch {
	case strings.Contains(string(out), "[build failed]"):
		t.Fatalf("it does not build: %s", out)
	case err == nil:
		t.Errorf("nothing fails without %q in %s", r.line, r.file)
	case !failedUnder(string(out), r.id):
		t.Errorf("something fails without %q, but nothing under its id:\n%s", r.line, out[max(0, len(out)-2000):])
	}
}

// failedUnder reports whether a test whose name has the id failed, or the whole of them did.
func failedUnder(out, id string) bool {
	for line := range strings.Lines(out) {
		name, found := strings.CutPrefix(strings.TrimSpace(line), "--- FAIL: ")
		for word := range strings.FieldsFuncSeq(name, func(c rune) bool { return c == '/' || c == '_' || c == ' ' }) {
			if found && word == id {
				return true
			}
		}
	}
	return strings.Contains(out, "panic: ") && !strings.Contains(out, "timed out") // a test that ended them all
}
