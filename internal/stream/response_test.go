package stream

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
)

func TestResponse(t *testing.T) {
	const ok = "Status: 200 OK\r\nContent-Length: 5\r\n\r\n"
	for _, c := range []struct {
		name, input string
		line        StatusLine
		head, body  error
	}{
		{"a head and its body", ok + "12345", LineOptional, nil, nil},
		{"bytes after the body are not read", ok + "12345678", LineOptional, nil, nil},
		{"a body without a length", "Status: 200 OK\r\n\r\n12345", LineOptional, nil, nil},
		{"a truncated body [252]", ok + "1234", LineOptional, nil, gateway.ErrTruncated},
		{"a truncated head [087]", "Status: 200", LineOptional, gateway.ErrTruncated, nil},
		{"no byte [088]", "", LineOptional, io.EOF, nil},
		{"nothing after an interim response", "Status: 103 Early Hints\r\n\r\n", LineOptional, gateway.ErrTruncated, nil},
		{"an interim response [249 F30]", "Status: 103 Early Hints\r\n\r\n" + ok + "12345", LineOptional, nil, nil},
		{"too many interim responses [F30]", strings.Repeat("Status: 103 Early Hints\r\n\r\n", 17) + ok, LineOptional, gateway.ErrMalformed, nil},
		{"a 101 without a request for it [F31]", "Status: 101 Switching\r\nUpgrade: websocket\r\n\r\n", LineOptional, gateway.ErrMalformed, nil},
		{"a head over the limit [F17]", "A: " + strings.Repeat("x", 1000) + "\r\n\r\n", LineOptional, gateway.ErrTooLarge, nil},
		{"a status line where none may be", "HTTP/1.1 200 OK\r\n\r\n", LineRefused, gateway.ErrMalformed, nil},
		{"no status line where one must be", ok, LineRequired, gateway.ErrMalformed, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var in Input
			in.Reset(strings.NewReader(c.input))
			var r Response
			r.Reset(&in)
			r.Line = c.line
			var res gateway.Response
			if err := r.ReadHead(&res, 500); !errors.Is(err, c.head) {
				t.Fatalf("ReadHead: %v, want %v", err, c.head)
			}
			if c.head != nil {
				return
			}
			body, err := io.ReadAll(&r)
			if !errors.Is(err, c.body) || err == nil && string(body) != "12345" {
				t.Errorf("%q, %v, want %v", body, err, c.body)
			}
		})
	}
}
