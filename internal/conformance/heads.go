package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// heads tests items 238 to 262: the response heads that a client accepts.
func heads(t *testing.T, p Protocol) {
	alone := responseCase{"an interim response alone [249 F30]", "Status: 100 Continue\r\n\r\n", 0, "", gateway.ErrTruncated}
	if p.Name == "fastcgi" {
		alone.err = gateway.ErrMalformed // END_REQUEST says that no more follows
	}
	for _, c := range slices.Concat(headLines, headFields, []responseCase{alone}) {
		t.Run(c.id, func(t *testing.T) { c.check(t, p) })
	}
	t.Run("the limit of 64 KiB [257 258 F17]", func(t *testing.T) { headLimit(t, p) })
	t.Run("fields [247 256 262]", func(t *testing.T) { fieldsInOrder(t, p) })
	t.Run("lengths of bodies that do not come [118 119 261]", func(t *testing.T) { lengthsOfNoBodies(t, p) })
	t.Run("interim responses that are wanted [249]", func(t *testing.T) { interimResponses(t, p) })
	t.Run("as many interim responses as are accepted [249 F30]", func(t *testing.T) { mostInterimResponses(t, p) })
}

// A responseCase is a response, and what a client makes of it. A status of 0 means that RoundTrip
// fails.
type responseCase struct {
	id, response string
	status       int
	body         string
	err          error
}

// headLines are heads with each kind of line.
var headLines = []responseCase{
	{"CRLF [238]", "Status: 404 Not Found\r\nX: 1\r\n\r\nb", 404, "b", nil},
	{"LF [238]", "Status: 404 Not Found\nX: 1\n\nb", 404, "b", nil},
	{"both [238]", "Status: 404 Not Found\r\nX: 1\r\n\nb", 404, "b", nil},
	{"a bare CR [239 F18]", "X: a\rb\r\n\r\n", 0, "", gateway.ErrMalformed},
	{"NUL [240 F22]", "X: a\x00b\r\n\r\n", 0, "", gateway.ErrMalformed},
	{"a control byte [240]", "X: \x01\r\n\r\n", 0, "", gateway.ErrMalformed},
	{"a space in a name [241]", "X Y: 1\r\n\r\n", 0, "", gateway.ErrMalformed},
	{"a space before the colon [241]", "X : 1\r\n\r\n", 0, "", gateway.ErrMalformed},
	{"no name [241]", ": 1\r\n\r\n", 0, "", gateway.ErrMalformed},
	{"no colon [241]", "X\r\n\r\n", 0, "", gateway.ErrMalformed},
	{"a folded line [242]", "X: 1\r\n 2\r\n\r\n", 0, "", gateway.ErrMalformed},
	{"a space first [243]", " X: 1\r\n\r\n", 0, "", gateway.ErrMalformed},
	{"two digits [244]", "Status: 42\r\n\r\n", 0, "", gateway.ErrMalformed},
	{"four digits [244]", "Status: 2000\r\n\r\n", 0, "", gateway.ErrMalformed},
	{"letters [244]", "Status: abc\r\n\r\n", 0, "", gateway.ErrMalformed},
	{"no space [244]", "Status: 200OK\r\n\r\n", 0, "", gateway.ErrMalformed},
	{"999 [244]", "Status: 999 Odd\r\n\r\n", 999, "", nil},
}

// headFields are heads with the fields that have a meaning, and bodies that do not fit them.
var headFields = []responseCase{
	{"no reason [245]", "Status: 404\r\n\r\n", 404, "", nil},
	{"two that differ [246]", "Status: 200\r\nStatus: 404\r\n\r\n", 0, "", gateway.ErrMalformed},
	{"two alike [246]", "Status: 404\r\nStatus: 404 x\r\n\r\n", 404, "", nil},
	{"no Status [248]", "X: 1\r\n\r\nb", 200, "b", nil},
	{"a Location [248 230]", "Location: http://h/\r\n\r\n", 302, "", nil},
	{"a Location and more [229]", "Location: /x\r\nX: 1\r\n\r\n", 302, "", nil},
	{"a Location and a Status [230]", "Status: 307 Temporary Redirect\r\nLocation: /x\r\n\r\n", 307, "", nil},
	{"an interim response first [249 F30]", "Status: 103 Early Hints\r\n\r\nStatus: 200 OK\r\n\r\nb", 200, "b", nil},
	{"a 101 that was not asked for [250 175 F31]", "Status: 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", 0, "", gateway.ErrMalformed},
	{"a 101 without a token [250 F31]", "Status: 101 Switching Protocols\r\n\r\n", 0, "", gateway.ErrMalformed},
	{"a length with a sign [251 F19]", "Content-Length: +5\r\n\r\nhello", 0, "", gateway.ErrMalformed},
	{"two lengths [251 F19]", "Content-Length: 5\r\nContent-Length: 3\r\n\r\nhello", 0, "", gateway.ErrMalformed},
	{"two lengths in one [251]", "Content-Length: 5, 5\r\n\r\nhello", 0, "", gateway.ErrMalformed},
	{"two alike [251]", "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", nil},
	{"a body that is longer [252 172]", "Content-Length: 3\r\n\r\nhello", 200, "hel", nil},
	{"a body where none is to be [252 172]", "Content-Length: 0\r\n\r\nhello", 200, "", nil},
	{"a body that is shorter [252 172]", "Content-Length: 10\r\n\r\nhello", 200, "hello", gateway.ErrTruncated},
	{"Transfer-Encoding [253 173 F19]", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, "", gateway.ErrMalformed},
	{"an empty head [259]", "\r\nbody", 200, "body", nil},
	{"nothing [260 088]", "", 0, "", gateway.ErrNoResponse},
	{"text without a head [232]", "just text", 0, "", gateway.ErrTruncated},
	{"an end inside the head [087]", "Status: 200 OK\r\n", 0, "", gateway.ErrTruncated},
}

// check compares the response of a client of p to c.response with c.
func (c responseCase) check(t *testing.T, p Protocol) {
	o := Ask(t, p.Respond(t, c.response), get("/"))
	failed := c.status == 0
	if (o.Err != nil) != (failed || c.err != nil) || c.err != nil && !errors.Is(o.Err, c.err) {
		t.Fatalf("%d %q, %v", o.Res.Status, o.Body, o.Err)
	}
	if !failed && (o.Res.Status != c.status || o.Body != c.body) {
		t.Errorf("%d %q", o.Res.Status, o.Body)
	}
	if failed && (o.Res.Status != 0 || o.Res.Header.Len() > 0) {
		t.Errorf("the response is not empty: %d", o.Res.Status)
	}
	if e, ok := errors.AsType[*gateway.Error](o.Err); o.Err != nil && (!ok || gateway.ErrorStatus(e) != 502) {
		t.Errorf("%v is a %d", o.Err, gateway.ErrorStatus(o.Err))
	}
}

func headLimit(t *testing.T, p Protocol) {
	fields := func(n int) string { return strings.Repeat("X: 012345678901\r\n", n) + "\r\n" } // 17 bytes each
	if o := Ask(t, p.Respond(t, fields(900)), get("/")); o.Err != nil || o.Res.Header.Len() != 900 {
		t.Errorf("%d fields, %v", o.Res.Header.Len(), o.Err)
	}
	exact := strings.Repeat("X: "+strings.Repeat("v", 1019)+"\r\n", 63)
	exact += "Y: " + strings.Repeat("v", 64<<10-len(exact)-7) + "\r\n\r\n"
	if o := Ask(t, p.Respond(t, exact), get("/")); len(exact) != 64<<10 || o.Err != nil || o.Res.Header.Len() != 64 {
		t.Errorf("of %d bytes: %d fields, %v", len(exact), o.Res.Header.Len(), o.Err)
	}
	if o := Ask(t, p.Respond(t, "Z"+exact), get("/")); !errors.Is(o.Err, gateway.ErrTooLarge) {
		t.Errorf("one more: %v", o.Err)
	}
	for name, head := range map[string]string{
		"fields": fields(1001), "bytes": strings.Repeat("X: "+strings.Repeat("v", 1000)+"\r\n", 70) + "\r\n", "no end": strings.Repeat("v", 70000),
	} {
		if o := Ask(t, p.Respond(t, head), get("/")); !errors.Is(o.Err, gateway.ErrTooLarge) {
			t.Errorf("%s: %v", name, o.Err)
		}
	}
}

func fieldsInOrder(t *testing.T, p Protocol) {
	o := Ask(t, p.Respond(t, "Status: 200\r\nDate: d\r\nSet-Cookie: a\r\nX: 1\r\nset-cookie: b\r\nX: 2\r\n\r\n"), get("/"))
	var got []string
	for name, value := range o.Res.Header.All() {
		got = append(got, string(name)+"="+string(value))
	}
	if fmt.Sprint(got) != "[Date=d Set-Cookie=a X=1 set-cookie=b X=2]" || o.Err != nil {
		t.Errorf("%v, %v", got, o.Err)
	}
}

func lengthsOfNoBodies(t *testing.T, p Protocol) {
	for _, c := range []struct{ method, status string }{{"HEAD", "200 OK"}, {"GET", "304 Not Modified"}, {"GET", "204 No Content"}} {
		if o := Ask(t, p.Respond(t, "Status: "+c.status+"\r\nContent-Length: 5\r\n\r\n"), request(c.method, "/", "")); o.Err != nil || o.Res.ContentLength != 5 {
			t.Errorf("%s %s: %d, %v", c.method, c.status, o.Res.ContentLength, o.Err)
		}
	}
}

func interimResponses(t *testing.T, p Protocol) {
	r := get("/")
	var got []int
	r.Interim = func(status int, h *gateway.Header) error {
		got = append(got, status)
		return nil
	}
	if o := Ask(t, p.Respond(t, "Status: 103\r\nLink: a\r\n\r\nStatus: 103\r\n\r\nStatus: 200\r\n\r\n"), r); o.Err != nil || fmt.Sprint(got) != "[103 103]" {
		t.Errorf("%v, %v", got, o.Err)
	}
	refused := errors.New("refused")
	r.Interim = func(int, *gateway.Header) error { return refused }
	if o := Ask(t, p.Respond(t, "Status: 103\r\n\r\nStatus: 200\r\n\r\n"), r); !errors.Is(o.Err, refused) {
		t.Errorf("one that the caller refuses: %v", o.Err)
	}
}

func mostInterimResponses(t *testing.T, p Protocol) {
	const most = 16
	for n, want := range map[int]error{most: nil, most + 1: gateway.ErrMalformed} {
		response := strings.Repeat("Status: 103\r\n\r\n", n) + "Status: 200\r\n\r\n"
		if o := Ask(t, p.Respond(t, response), get("/")); !errors.Is(o.Err, want) {
			t.Errorf("%d: %v", n, o.Err)
		}
	}
}
