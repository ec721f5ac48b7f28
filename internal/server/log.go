package server

import (
	"bytes"
	"log/slog"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// LogRequest logs a record about r with the context of r: its method, its path without the query,
// and the client's address. Parts that r lacks are left out.
func LogRequest(l *slog.Logger, level slog.Level, message string, r *gateway.Request, attrs ...slog.Attr) {
	ctx := r.Context()
	if !l.Enabled(ctx, level) {
		return
	}
	for _, a := range []slog.Attr{
		slog.String("method", r.Method()), slog.String("path", r.Path()), slog.String("remote", r.Params.Get("REMOTE_ADDR")),
	} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	l.LogAttrs(ctx, level, message, attrs...)
}

// LevelOf returns the level at which a response of the library's own is logged: a fault is an
// error, and what the client did wrong is not, since a scanner would fill the log.
func LevelOf(status int) slog.Level {
	if status >= 500 {
		return slog.LevelError
	}
	return slog.LevelInfo
}

// WarnOfHTTP logs that a web server speaks HTTP to a port of protocol, if input begins like a
// request of HTTP. directives says what to change.
func WarnOfHTTP(l *slog.Logger, protocol, directives string, input []byte) {
	for _, method := range []string{"GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "CONNECT ", "PRI * HTTP/2"} {
		if bytes.HasPrefix(input, []byte(method)) {
			l.Warn("HTTP on a port of "+protocol+": pass requests on with "+directives, "protocol", protocol)
			return
		}
	}
}
