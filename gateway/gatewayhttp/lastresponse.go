package gatewayhttp

import (
	"io"
	"net"
	"net/http"
	"sync/atomic"
)

// A lastResponse is the connection that the transport uses. Some servers, gunicorn among them, send a
// body after the head of a response that has none: one to HEAD, a 204 or a 304. The transport would
// take it for the response to the next request. So the connection ends with such a head.
type lastResponse struct {
	net.Conn
	requests atomic.Int64 // that were sent
	head     atomic.Bool  // the last one has the method HEAD

	// These belong to the goroutine of the transport that reads.
	responses int64 // requests for which scan has begun to read a response
	scan      headScan
	over      bool
}

// begin notes that a request is sent.
func (l *lastResponse) begin(method string) {
	l.head.Store(method == http.MethodHead)
	l.requests.Add(1)
}

func (l *lastResponse) Read(p []byte) (int, error) {
	if l.over {
		return 0, io.EOF
	}
	n, err := l.Conn.Read(p)
	if requests := l.requests.Load(); requests != l.responses {
		l.responses, l.scan = requests, headScan{}
	}
	for rest := p[:n]; ; {
		used, ok := l.scan.next(rest)
		rest = rest[used:]
		switch status := string(l.scan.status[:]); {
		case !ok:
			return n, err
		case status[0] == '1' && status != "101":
			l.scan = headScan{} // the head of the response follows
		case l.head.Load() || status == "204" || status == "304": // rule F67
			l.over = true
			return n - len(rest), io.EOF
		default:
			return n, err
		}
	}
}

// A headScan finds the status and the end of the head of a response.
type headScan struct {
	status [3]byte
	lines  int // that have ended
	line   int // bytes of the current line, without CR
	ended  bool
}

// next reads p up to the end of the head, and returns how many bytes these are, and whether the head
// has ended with them.
func (s *headScan) next(p []byte) (used int, ok bool) {
	const at = len("HTTP/1.1 ")
	for i, c := range p {
		switch {
		case s.ended:
			return i, false
		case c == '\r': // lines may also end without it
		case c == '\n' && s.line == 0:
			s.ended = true
			return i + 1, true
		case c == '\n':
			s.lines, s.line = s.lines+1, 0
		default:
			if i := s.line - at; s.lines == 0 && i >= 0 && i < len(s.status) {
				s.status[i] = c
			}
			s.line++
		}
	}
	return len(p), false
}
