package gatewayhttp_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
)

var quiet = slog.New(slog.DiscardHandler)

func get(target string, fields ...string) *http.Request {
	r := httptest.NewRequest("GET", target, nil)
	for i := 0; i < len(fields); i += 2 {
		r.Header[fields[i]] = append(r.Header[fields[i]], fields[i+1])
	}
	return r
}
