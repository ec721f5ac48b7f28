package gateway_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-go/gatehouse/gateway"
)

func TestResponseHead(t *testing.T) {
	bad := func(t *testing.T, heads ...string) {
		t.Helper()
		for _, b := range heads {
			r, n, err := consume(b)
			if !errors.Is(err, gateway.ErrMalformed) || n != -1 || r.Header.Len() != 0 || r.Status != 0 {
				t.Errorf("%q: status %d, n %d, %v", b, r.Status, n, err)
			}
		}
	}
	t.Run("a status line or fields [169 170 171 214 F20]", func(t *testing.T) {
		for b, status := range map[string]int{
			"HTTP/1.1 202 Accepted\r\nA: 1\r\n\r\n": 202, "HTTP/1.0 404 \r\n\r\n": 404, "HTTP/2 200\r\n\r\n": 200, "HTTP/3.0 599 Odd\n\n": 599,
			"Status: 201 Created\r\n\r\n": 201, "HTTP/1.1 404 X\r\nStatus: 404\r\n\r\n": 404,
		} {
			if r, n, err := consume(b); err != nil || n != len(b) || r.Status != status {
				t.Errorf("%q: %d, %d, %v", b, r.Status, n, err)
			}
			for cut := range len(b) {
				if _, n, err := consume(b[:cut]); n != 0 || err != nil {
					t.Errorf("%q: %d, %v", b[:cut], n, err)
				}
			}
		}
		bad(t, "HTTP/1.1x 200\r\n\r\n", "HTTPS/1 200\r\n\r\n", "HTTP/1.1 20\r\n\r\n", "HTTP/1.1 2000 x\r\n\r\n", "HTTP/1.1  200 x\r\n\r\n", "HTTP/1.1 200\r\nStatus: 404\r\n\r\n")
		if r, _, err := consume("HT: v\r\n\r\n"); err != nil || r.Status != 200 || r.Header.Get("ht") != "v" {
			t.Error(err)
		}
	})
	t.Run("line ends [238 258]", func(t *testing.T) {
		for _, b := range []string{"A: 1\r\nB: 2\r\n\r\n", "A: 1\nB: 2\n\n", "A: 1\r\nB: 2\n\r\n", "A: 1\nB: 2\r\n\n"} {
			r, n, err := consume(b + "body\r\n\r\n")
			if diff := cmp.Diff([]string{"A: 1", "B: 2"}, fields(&r.Header)); err != nil || n != len(b) || diff != "" {
				t.Errorf("%q: %d, %v %s", b, n, err, diff)
			}
		}
	})
	t.Run("a bare CR [239 F18]", func(t *testing.T) {
		bad(t, "A: 1\rB: 2\r\n\r\n", "Status: 200 OK\rX-Inj: 1\r\n\r\n", "A: 1\r\r\n\r\n", "\rA: 1\r\n\r\n")
	})
	t.Run("control bytes [240 F22]", func(t *testing.T) {
		bad(t, "A: a\x00b\r\n\r\n", "A: a\x01\r\n\r\n", "A: \x7f\r\n\r\n", "A\x00: b\r\n\r\n")
		if r, _, err := consume("A: a\tb \xe9\r\n\r\n"); err != nil || r.Header.Get("A") != "a\tb \xe9" {
			t.Error(err)
		}
	})
	t.Run("field names [241]", func(t *testing.T) {
		bad(t, "X A: 1\r\n\r\n", "X-A : 1\r\n\r\n", ": v\r\n\r\n", "no colon\r\n\r\n", "X(A): 1\r\n\r\n", "<html>\n\n")
	})
	t.Run("folded lines [242 243]", func(t *testing.T) {
		bad(t, "A: 1\r\n B: 2\r\n\r\n", "A: 1\r\n\tfolded\r\n\r\n", " A: 1\r\n\r\n")
	})
	t.Run("the Status field [244 245]", func(t *testing.T) {
		for v, status := range map[string]int{"404": 404, "404 Not Found": 404, " 404 ": 404, "999 Odd": 999, "404 ": 404, "100": 100} {
			if r, _, err := consume("Status:" + v + "\r\n\r\n"); err != nil || r.Status != status {
				t.Errorf("%q: %d, %v", v, r.Status, err)
			}
		}
		for _, v := range []string{"42", "2000", "abc", "-200", "200OK", "099", "+20", ""} {
			bad(t, "Status: "+v+"\r\n\r\n")
		}
	})
	t.Run("two Status fields [246]", func(t *testing.T) {
		bad(t, "Status: 200\r\nStatus: 404\r\n\r\n")
		if r, _, err := consume("Status: 404 A\r\nstatus: 404 B\r\n\r\n"); err != nil || r.Status != 404 {
			t.Error(err)
		}
	})
	t.Run("Status is not a field of the Header [247]", func(t *testing.T) {
		if r, _, err := consume("sTaTus: 404\r\nA: 1\r\n\r\n"); err != nil || r.Header.Len() != 1 {
			t.Errorf("%v, %v", fields(&r.Header), err)
		}
	})
	t.Run("no Status [248 229 230]", func(t *testing.T) {
		for b, status := range map[string]int{"A: 1\r\n\r\n": 200, "Location: /x\r\n\r\n": 302, "Location: http://h/\r\nStatus: 307\r\n\r\n": 307} {
			if r, _, err := consume(b); err != nil || r.Status != status {
				t.Errorf("%q: %d, %v", b, r.Status, err)
			}
		}
	})
	t.Run("Content-Length [251 F19]", func(t *testing.T) {
		for _, v := range []string{"5, 5", "+5", "-5", "5x", "", "9223372036854775808"} {
			bad(t, "Content-Length: "+v+"\r\n\r\n")
		}
		bad(t, "Content-Length: 5\r\nContent-Length: 3\r\n\r\n")
		r, _, err := consume("Content-Length: 5\r\ncontent-length: 5\r\n\r\n")
		if err != nil || r.ContentLength != 5 || r.Header.Len() != 1 {
			t.Errorf("%d %v, %v", r.ContentLength, fields(&r.Header), err)
		}
		if r, _, _ := consume("A: 1\r\n\r\n"); r.ContentLength != -1 {
			t.Errorf("%d", r.ContentLength)
		}
	})
	t.Run("Transfer-Encoding [253 F19]", func(t *testing.T) {
		bad(t, "Transfer-Encoding: chunked\r\n\r\n", "transfer-encoding: identity\r\n\r\n")
	})
	t.Run("repeated fields [256 272]", func(t *testing.T) {
		r, _, err := consume("Set-Cookie: a\r\nX: 1\r\nSet-Cookie: b\r\nX: 2\r\n\r\n")
		if diff := cmp.Diff([]string{"Set-Cookie: a", "X: 1", "Set-Cookie: b", "X: 2"}, fields(&r.Header)); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
		b, err := gateway.AppendResponse(nil, r)
		if err != nil || string(b) != "Status: 200 OK\r\nSet-Cookie: a\r\nX: 1\r\nSet-Cookie: b\r\nX: 2\r\n\r\n" {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("limits [257]", func(t *testing.T) {
		_, n, err := consume(strings.Repeat("A: 1\r\n", 1001) + "\r\n")
		if !errors.Is(err, gateway.ErrTooLarge) || n != -1 {
			t.Errorf("%d, %v", n, err)
		}
		_, _, err = consume("A: " + strings.Repeat("v", 64<<10+1) + "\r\n\r\n")
		wantError(t, err, gateway.ErrTooLarge)
	})
	t.Run("an empty head [259]", func(t *testing.T) {
		for _, b := range []string{"\r\n", "\n"} {
			if r, n, err := consume(b + "body"); err != nil || n != len(b) || r.Status != 200 || r.Header.Len() != 0 {
				t.Errorf("%d %d, %v", r.Status, n, err)
			}
		}
	})
	t.Run("Date and Server are kept [262]", func(t *testing.T) {
		if r, _, err := consume("Date: x\r\nServer: y\r\n\r\n"); err != nil || r.Header.Len() != 2 {
			t.Error(err)
		}
	})
	t.Run("AppendResponse [263 265 266]", func(t *testing.T) {
		r := &gateway.Response{Status: 302, ContentLength: -1}
		r.Header.Add("Status", "200 Forged")
		r.Header.Add("Location", "/x")
		b, err := gateway.AppendResponse([]byte("dst"), r)
		if err != nil || string(b) != "dstStatus: 302 Found\r\nLocation: /x\r\n\r\n" {
			t.Errorf("%q, %v", b, err)
		}
		r.ContentLength = 3
		if b, err = gateway.AppendHTTPResponse(nil, r); err != nil || string(b) != "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 3\r\n\r\n" {
			t.Errorf("%q, %v", b, err)
		}
		for status, line := range map[int]string{200: "Status: 200 OK", 599: "Status: 599 Status 599", 999: "Status: 999 Status 999"} {
			if b, err := gateway.AppendResponse(nil, &gateway.Response{Status: status, ContentLength: -1}); err != nil || string(b) != line+"\r\n\r\n" {
				t.Errorf("%q, %v", b, err)
			}
		}
		if b, err := gateway.AppendResponse(nil, &gateway.Response{Status: 204}); err != nil || strings.Contains(string(b), "Length") {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("fields that AppendResponse refuses [264 270 F18]", func(t *testing.T) {
		for _, nv := range [][2]string{{"", "v"}, {"A B", "v"}, {"A:", "v"}, {"A", "v\r\nB: 1"}, {"A", "v\n"}, {"A", "\x00"}, {"A\r\n", "v"}} {
			r := &gateway.Response{Status: 200}
			r.Header.Add(nv[0], nv[1])
			b, err := gateway.AppendResponse([]byte("dst"), r)
			if wantError(t, err, gateway.ErrMalformed); string(b) != "dst" {
				t.Errorf("%q", b)
			}
		}
		for _, status := range []int{0, 99, 1000, -200} {
			_, err := gateway.AppendResponse(nil, &gateway.Response{Status: status})
			wantError(t, err, gateway.ErrMalformed)
		}
	})
}

// consume reads a head.
func consume(b string) (*gateway.Response, int, error) {
	r := new(gateway.Response)
	n, err := gateway.ConsumeResponse([]byte(b), r)
	return r, n, err
}

func fields(h *gateway.Header) (all []string) {
	for name, value := range h.All() {
		all = append(all, string(name)+": "+string(value))
	}
	return all
}

func TestHeadEdges(t *testing.T) {
	consume := func(head string) error {
		_, err := gateway.ConsumeResponse([]byte(head), new(gateway.Response))
		return err
	}
	t.Run("control bytes in a reason [245 F18]", func(t *testing.T) {
		for _, head := range []string{"HTTP/1.1 200 O\rK\r\n\r\n", "HTTP/1.1 200 \x01\r\n\r\n", "Status: 200 O\rK\r\n\r\n"} {
			wantError(t, consume(head), gateway.ErrMalformed)
		}
	})
	t.Run("a name over the cap [257]", func(t *testing.T) {
		wantError(t, consume(strings.Repeat("N", 8193)+": v\r\n\r\n"), gateway.ErrTooLarge)
		if err := consume(strings.Repeat("N", 8192) + ": v\r\n\r\n"); err != nil {
			t.Error(err)
		}
	})
	t.Run("white space around a status [244]", func(t *testing.T) {
		var res gateway.Response
		if _, err := gateway.ConsumeResponse([]byte("Status:\t404\t\r\n\r\n"), &res); err != nil || res.Status != 404 {
			t.Errorf("%d, %v", res.Status, err)
		}
	})
	t.Run("one Content-Length [268 F19]", func(t *testing.T) {
		for _, c := range []struct {
			status int
			length int64
			want   string
		}{
			{200, 3, "Status: 200 OK\r\nContent-Length: 3\r\n\r\n"},
			{200, -1, "Status: 200 OK\r\n\r\n"},
			{204, 3, "Status: 204 No Content\r\n\r\n"},
			{103, 0, "Status: 103 Early Hints\r\n\r\n"},
		} {
			res := gateway.Response{Status: c.status, ContentLength: c.length}
			res.Header.Add("Content-Length", "99")
			if b, err := gateway.AppendResponse(nil, &res); string(b) != c.want || err != nil {
				t.Errorf("%q, %v", b, err)
			}
		}
	})
}
