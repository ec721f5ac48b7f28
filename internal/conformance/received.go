package conformance

import (
	"strings"
	"testing"
)

// received tests items 1 to 54 at a server.
func received(t *testing.T, p Protocol) {
	for _, c := range badParams {
		if p.Name == "cgi" && len(c.nv) > 2 {
			continue // an environment has each name once
		}
		t.Run(c.id, func(t *testing.T) { refused(t, p, badRequest, c.nv...) })
	}
	t.Run("a value over the cap [043 F35]", func(t *testing.T) { valueOverCap(t, p) })
	t.Run("HTTP_PROXY [005 F1]", func(t *testing.T) { proxyNotReceived(t, p) })
	t.Run("what is received as it is [010 044 045 047]", func(t *testing.T) { receivedUnchanged(t, p) })
	t.Run("repeated fields [010 F46]", func(t *testing.T) { receivedOnce(t, p) })
	t.Run("HTTP_CONTENT_LENGTH is not the length [015]", func(t *testing.T) {
		contains(t, accepted(t, p, "HTTP_CONTENT_LENGTH", "5"), "length 0,")
	})
	t.Run("no length [019]", func(t *testing.T) { noLength(t, p) })
	t.Run("a length of -1 [020]", func(t *testing.T) { unknownLength(t, p) })
	t.Run("no path but the URI's [188 027]", func(t *testing.T) {
		contains(t, accepted(t, p, "REQUEST_METHOD", "GET", "REQUEST_URI", "/caf%C3%A9?q"), `path "/café"`)
	})
}

const badRequest = "Status: 400 Bad Request"

// badParams are params that every server refuses.
var badParams = []struct {
	id string
	nv []string
}{
	{"CR in a field [003 F8]", []string{"HTTP_X", "a\rb"}},
	{"LF in REQUEST_URI [003]", []string{"REQUEST_URI", "/\n"}},
	{"two of another value [011 F46]", []string{"SCRIPT_NAME", "/a", "SCRIPT_NAME", "/b"}},
	{"two HTTPS [011 F46]", []string{"HTTPS", "on", "HTTPS", "off"}},
	{"a length with a sign [018 F2]", []string{"CONTENT_LENGTH", "+5"}},
	{"a length below nothing [018]", []string{"CONTENT_LENGTH", "-5"}},
	{"a length with a space [018]", []string{"CONTENT_LENGTH", " 5"}},
	{"two lengths in one [018]", []string{"CONTENT_LENGTH", "5, 5"}},
	{"a length that fits nothing [018]", []string{"CONTENT_LENGTH", strings.Repeat("9", 20)}},
}

// refused checks the status line of the response to these params.
func refused(t *testing.T, p Protocol, status string, nv ...string) {
	t.Helper()
	got := p.Ask(t, "params", "", append([]string{"REQUEST_METHOD", "GET"}, nv...)...)
	if !p.Refuses {
		status = ""
	}
	if line, _, _ := strings.Cut(got, "\r\n"); line != status {
		t.Errorf("%q: responded %.60q, want %q", nv, got, status)
	}
}

// accepted returns the response of the handler "params" to these params.
func accepted(t *testing.T, p Protocol, nv ...string) string {
	t.Helper()
	got := p.Ask(t, "params", "", nv...)
	if !strings.HasPrefix(got, "Status: 200 OK\r\n") {
		t.Fatalf("%q: responded %.60q", nv, got)
	}
	return got
}

func contains(t *testing.T, got string, all ...string) {
	t.Helper()
	for _, want := range all {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

func valueOverCap(t *testing.T, p Protocol) {
	if p.Name == "uwsgi" || p.Name == "cgi" {
		return // a packet holds no such value, and no system passes one
	}
	refused(t, p, "Status: 431 Request Header Fields Too Large", "HTTP_X", strings.Repeat("v", 65537))
}

func proxyNotReceived(t *testing.T, p Protocol) {
	if got := accepted(t, p, "HTTP_PROXY", "http://evil", "HTTP_X", "1"); strings.Contains(got, "evil") || !strings.Contains(got, `HTTP_X="1"`) {
		t.Errorf("%q", got)
	}
}

func receivedUnchanged(t *testing.T, p Protocol) {
	got := accepted(t, p, "REQUEST_METHOD", "get", "HTTP_EMPTY", "", "http_x", "low", "HTTP_X", "\xff\xc3\xa9", "PATH_INFO", "/a\nb%2F")
	contains(t, got, `method "get"`, `HTTP_EMPTY=""`, `http_x="low"`, `HTTP_X="\xffé"`, `path "/a\nb%2F"`)
}

func receivedOnce(t *testing.T, p Protocol) {
	if p.Name == "cgi" {
		return // an environment has each name once
	}
	got := accepted(t, p, "HTTP_COOKIE", "a=1", "HTTP_X", "1", "HTTP_COOKIE", "b=2", "HTTP_X", "2", "HTTPS", "on", "HTTPS", "on")
	contains(t, got, `HTTP_COOKIE="a=1; b=2"`, `HTTP_X="1, 2"`, `HTTPS="on"`)
	if strings.Count(got, "HTTPS=") != 1 {
		t.Errorf("%q", got)
	}
}

func noLength(t *testing.T, p Protocol) {
	contains(t, accepted(t, p, "REQUEST_METHOD", "GET"), "length 0,")
	if p.Name != "scgi" { // its specification requires digits
		contains(t, accepted(t, p, "CONTENT_LENGTH", ""), "length 0,")
	}
}

func unknownLength(t *testing.T, p Protocol) {
	if p.UnknownLength {
		contains(t, accepted(t, p, "CONTENT_LENGTH", "-1"), "length 0,") // nothing was sent
		return
	}
	refused(t, p, badRequest, "CONTENT_LENGTH", "-1")
}
