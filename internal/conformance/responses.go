package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// handlers tests items 263 to 276: the responses that a server sends for a handler.
func handlers(t *testing.T, p Protocol) {
	c := p.Serve(t, "responses")
	for _, h := range handled {
		t.Run(h.id, func(t *testing.T) {
			o := Ask(t, c, get(h.path))
			if o.Err != nil || o.Res.Status != h.status || o.Body != h.body {
				t.Errorf("%d, %d bytes %.40q, %v", o.Res.Status, len(o.Body), o.Body, o.Err)
			}
			if _, ok := o.Res.Header.Lookup("Injected"); ok {
				t.Error("a field was injected")
			}
		})
	}
	t.Run("a megabyte at once [141]", func(t *testing.T) {
		if o := Ask(t, c, get("/large-write")); o.Err != nil || o.Body != strings.Repeat("\x00", 1<<20) {
			t.Errorf("%d bytes, %v", len(o.Body), o.Err)
		}
	})
	t.Run("fields as they are [264 272]", func(t *testing.T) { fieldsUnchanged(t, c) })
	t.Run("HEAD [271]", func(t *testing.T) {
		if o := Ask(t, c, request("HEAD", "/head", "")); o.Err != nil || o.Res.ContentLength != 10 || o.Body != "" {
			t.Errorf("%d %q, %v", o.Res.ContentLength, o.Body, o.Err)
		}
	})
	for _, path := range []string{"/short", "/late"} {
		t.Run(path[1:]+" [268 276]", func(t *testing.T) {
			if o := Ask(t, c, get(path)); !errors.Is(o.Err, gateway.ErrTruncated) {
				t.Errorf("%q, %v", o.Body, o.Err)
			}
		})
	}
	t.Run("a response in pieces [142]", func(t *testing.T) { responseInPieces(t, c) })
	t.Run("STDERR and the exit status [096 099 158 226]", func(t *testing.T) { stderrAndStatus(t, c, p) })
}

// handled are the paths of the handler "responses", and the responses that a client gets.
var handled = []struct {
	id, path string
	status   int
	body     string
}{
	{"a status [263]", "/404", 404, "not here"},
	{"any status [263]", "/fields", 207, ""},
	{"a name that is none [264 F18]", "/bad-name", 500, ""},
	{"a value with a line in it [264 F18]", "/bad-value", 500, ""},
	{"a status that is none [270]", "/bad-status", 500, ""},
	{"a 1xx as the status [269 F30]", "/interim-status", 500, ""},
	{"two statuses [270]", "/twice", 201, ""},
	{"a length that is none [268]", "/bad-length", 500, ""},
	{"a body that is longer [268]", "/long", 200, "abc"},
	{"a Status field [266]", "/own-status", 200, "own"},
	{"Flush alone [275]", "/flush", 202, ""},
	{"an error [157]", "/error", 500, ""},
	{"an error with a status [157]", "/param", 400, ""},
	{"a panic [157 276]", "/panic", 500, ""},
	{"204", "/204", 204, ""},
	{"with a length [304]", "/304", 304, ""},
	{"a large head [273]", "/large", 200, "large"},
	{"an interim response to who takes none [269]", "/interim", 200, "none"},
	{"Hijack without an upgrade [187 F31]", "/hijack", 200, "none"},
}

func fieldsUnchanged(t *testing.T, c gateway.RoundTripper) {
	o := Ask(t, c, get("/fields"))
	var got []string
	for name, value := range o.Res.Header.All() {
		got = append(got, fmt.Sprintf("%s=%q", name, value))
	}
	if fmt.Sprint(got) != `[Set-Cookie="a=1" X-First="1" Set-Cookie="b=2" X-Bytes="café \xff" X-Empty=""]` {
		t.Errorf("%v", got)
	}
}

func responseInPieces(t *testing.T, c gateway.RoundTripper) {
	var res gateway.Response
	if err := c.RoundTrip(t.Context(), get("/pieces"), &res); err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b := make([]byte, 100)
	if n, err := res.Body.Read(b); string(b[:n]) != "piece 0\n" || err != nil {
		t.Errorf("%q, %v", b[:n], err)
	}
	if rest, err := io.ReadAll(res.Body); string(rest) != "piece 1\npiece 2\n" || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
}

func stderrAndStatus(t *testing.T, c gateway.RoundTripper, p Protocol) {
	r := get("/stderr")
	var errs bytes.Buffer
	r.Stderr = &errs
	o := Ask(t, c, r)
	if o.Err != nil || o.Body != "said" {
		t.Fatalf("%q, %v", o.Body, o.Err)
	}
	if p.Stderr && (errs.String() != "a word\n" || o.Res.AppStatus != 7) {
		t.Errorf("STDERR %q, status %d", errs.String(), o.Res.AppStatus)
	}
}
