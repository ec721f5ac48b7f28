package gatewayhttp

import (
	"iter"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// hopByHop reports whether a field, in canonical form, belongs to one connection, RFC 9110 section
// 7.6.1.
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// upgradeToken returns the token of a request for a WebSocket, or "". Upgrades to other protocols
// are not passed: through one that a server on the way acts on, such as h2c, requests could be
// smuggled (F31).
//
// RFC 6455 section 4.1 requires a GET of HTTP/1.1. Here it must have no body.
func upgradeToken(r *http.Request) string {
	token := r.Header.Get("Upgrade")
	if r.ProtoMajor != 1 || r.ProtoMinor < 1 || methodOf(r) != http.MethodGet || r.ContentLength != 0 || !strings.EqualFold(token, "websocket") {
		return ""
	}
	if _, ok := named(r.Header["Connection"])["Upgrade"]; !ok {
		return ""
	}
	return token
}

// listed returns an iterator over the fields that Connection names.
func listed(connection []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, v := range connection {
			for field := range strings.SplitSeq(v, ",") {
				if field = strings.TrimSpace(field); field != "" && !yield(http.CanonicalHeaderKey(field)) {
					return
				}
			}
		}
	}
}

// named returns the fields that Connection names, which belong to one hop as well, or nil.
func named(connection []string) (names map[string]bool) {
	for name := range listed(connection) {
		if names == nil {
			names = make(map[string]bool)
		}
		names[name] = name != "Content-Length" && name != "Content-Type"
	}
	return names
}

// forServer reports whether a field of a response is an order to the web server that it passes,
// such as X-Accel-Redirect. If the application echoes what the client sent, the order would be the
// client's (F28).
func forServer(name string) bool {
	switch name {
	case "X-Sendfile", "X-Sendfile2", "X-Lighttpd-Send-File", "X-Reproxy-Url":
		return true
	}
	return strings.HasPrefix(name, "X-Accel-")
}

// bodyAllowed reports whether a response of that status may have a body.
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// paramName returns the name of the param for a header field, or nil if the field is not passed. A
// name with a byte other than A-Z, a-z, 0-9 and "-" is not: X_User would become what X-User becomes
// (F10).
func paramName(buf []byte, field string) []byte {
	for i := range len(field) {
		c := field[i]
		switch {
		case 'a' <= c && c <= 'z':
			c -= 'a' - 'A'
		case c == '-':
			c = '_'
		case !('A' <= c && c <= 'Z' || '0' <= c && c <= '9'):
			return nil // rule F10
		}
		buf = append(buf, c)
	}
	return buf
}

// notPassed reports whether a request field is not passed to applications: a param contains the
// same, it belongs to one hop, or it would be mistaken for something else (httpoxy, F1).
func notPassed(field string) bool {
	switch field {
	case "Host", "Content-Type", "Content-Length", "Proxy", "Expect":
		return true
	}
	return hopByHop(field)
}

// isForwarded reports whether a field tells what a proxy in front knows of the client.
func isForwarded(field string) bool {
	return field == "Forwarded" || field == "X-Real-Ip" || strings.HasPrefix(field, "X-Forwarded-")
}

// authority splits a host and port. The host is a name, an IPv4 address, or an IPv6 address in
// brackets. The port, if there is one, is at most 65535: SERVER_PORT must be a number, whatever
// Host says (F44).
func authority(h string) (name, port string, ok bool) {
	if !httpguts.ValidHostHeader(h) || strings.ContainsAny(h, `/?#@\ `) { // rule F44
		return "", "", false
	}
	name = h
	if i := strings.LastIndexByte(h, ':'); i > strings.LastIndexByte(h, ']') {
		name, port = h[:i], h[i+1:]
	}
	if port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return "", "", false
		}
	}
	if literal, found := strings.CutPrefix(name, "["); found {
		literal, closed := strings.CutSuffix(literal, "]")
		ip, err := netip.ParseAddr(literal)
		return name, port, closed && err == nil && ip.Is6()
	}
	return name, port, !strings.ContainsAny(name, ":[]")
}
