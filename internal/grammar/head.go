package grammar

import "bytes"

// HeadEnd finds the empty line that ends a head in bytes that arrive in pieces. It remembers how
// far it has looked, so that a head that arrives byte by byte costs no more than one that arrives
// whole. The zero value is ready.
type HeadEnd struct {
	line int // offset at which the current line begins
	next int // offset from which the end of the line is still to be looked for
}

// Find returns the length of the head at the start of b, its empty line included, or 0 if b does
// not hold a whole one. From call to call b may only grow; to begin again assign the zero value.
// Lines end with LF or CR LF, in any mixture.
func (h *HeadEnd) Find(b []byte) int {
	for {
		i := bytes.IndexByte(b[h.next:], '\n')
		if i < 0 {
			h.next = len(b)
			return 0
		}
		end := h.next + i
		empty := end == h.line || end == h.line+1 && b[h.line] == '\r'
		h.line, h.next = end+1, end+1
		if empty {
			return end + 1
		}
	}
}
