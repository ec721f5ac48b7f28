package stream

// Queue is content that came while nobody wanted it. The zero value is empty.
type Queue struct {
	b    []byte
	read int
}

// Len is how many bytes wait.
func (q *Queue) Len() int { return len(q.b) - q.read }

// Cap is how many bytes of memory the queue keeps.
func (q *Queue) Cap() int { return cap(q.b) }

// Add puts a copy of b at the end.
func (q *Queue) Add(b []byte) {
	if q.read == len(q.b) || q.read > 0 && len(q.b)+len(b) > cap(q.b) {
		q.b, q.read = q.b[:copy(q.b, q.b[q.read:])], 0
	}
	q.b = append(q.b, b...)
}

// Take moves what fits into p.
func (q *Queue) Take(p []byte) int {
	n := copy(p, q.b[q.read:])
	q.read += n
	return n
}

// Reset empties the queue and keeps its memory.
func (q *Queue) Reset() { q.b, q.read = q.b[:0], 0 }
