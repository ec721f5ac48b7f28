package gatewayhttp

import (
	"iter"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// hopByHop are the fields that belong to one connection, RFC 9110 section 7.6.1, in canonical form.
var hopByHop = map[string]bool{
	"Connection":          true,
	"Keep-Alive":          true,
	"Proxy-Authenticate":  true,
	"Proxy-Authorization": true,
	"Proxy-Connection":    true,
	"Te":                  true,
	"Trailer":             true,
	"Transfer-Encoding":   true,
	"Upgrade":             true,
}

// upgradeToken is the token of a request that asks for a WebSocket; "" stands for none. No other protocol is passed through:
// to one that a server on the way acts on by itself, h2c for one, requests could be smuggled (F31).
//
// RFC 6455 section 4.1 has it asked for with a GET of HTTP/1.1, which here has no body.
func upgradeToken(r *http.Request) string {
	token := r.Header.Get("Upgrade")
	if r.ProtoMajor != 1 || r.ProtoMinor < 1 || methodOf(r) != http.MethodGet || r.ContentLength != 0 || !strings.EqualFold(token, "websocket") {
		return ""
	}
	for name := range listed(r.Header["Connection"]) {
		if name == "Upgrade" {
			return token
		}
	}
	return ""
}

// listed are the fields that Connection names.
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

// forServer reports whether a field of a response is an order to the web server that it goes through, X-Accel-Redirect
// for one: from an application that echoes what it was sent, it would be the client's order (F28).
func forServer(name string) bool {
	switch name {
	case "X-Sendfile", "X-Sendfile2", "X-Lighttpd-Send-File", "X-Reproxy-Url":
		return true
	}
	return strings.HasPrefix(name, "X-Accel-")
}

// bodyAllowed reports whether an answer of that status may have a body.
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// paramName makes a param's name of a canonical field name; "" if the field is not passed. A name with a byte other
// than A-Z a-z 0-9 and "-" is not: X_User would become what X-User becomes (F10).
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

// notPassed are the fields of a request that no application gets: a param says the same, or they are of one hop, or
// they would be taken for something else (httpoxy, F1).
func notPassed(field string) bool {
	switch field {
	case "Host", "Content-Type", "Content-Length", "Proxy", "Expect":
		return true
	}
	return hopByHop[field]
}

// authority takes a host and port apart. It is a name, an IPv4 address, or an IPv6 address in brackets, and a port of up
// to 65535 or none: what stands in SERVER_PORT is a number, whoever wrote Host (F44).
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
