package stream

import "bytes"

// maxLine limits a line of STDERR in bytes; a longer one is split.
const maxLine = 4 << 10

// Lines splits an application's STDERR into lines and escapes control bytes, so that a line cannot
// look like two in a log (F7).
type Lines struct {
	partial []byte
	escaped []byte
}

// Write passes every complete line in p to line, which must not keep it.
func (l *Lines) Write(p []byte, line func([]byte)) {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		n := i + 1
		if i < 0 {
			n = len(p)
		}
		n = min(n, maxLine-len(l.partial))
		l.partial = append(l.partial, p[:n]...)
		p = p[n:]
		if len(l.partial) >= maxLine || l.partial[len(l.partial)-1] == '\n' {
			l.Flush(line)
		}
	}
}

// Flush passes the rest to line.
func (l *Lines) Flush(line func([]byte)) {
	b := bytes.TrimRight(l.partial, "\r\n")
	l.partial = l.partial[:0]
	if len(b) == 0 {
		return
	}
	const hex = "0123456789abcdef"
	l.escaped = l.escaped[:0]
	for _, c := range b {
		switch {
		case c == '\t' || c >= ' ' && c != 0x7f: // rule F7
			l.escaped = append(l.escaped, c)
		default:
			l.escaped = append(l.escaped, '\\', 'x', hex[c>>4], hex[c&15])
		}
	}
	line(l.escaped)
}
