package stream

// A Queue buffers content that arrived before it was read. The zero value is empty.
type Queue struct {
	b    []byte
	read int
}

// Len returns the number of bytes in the queue.
func (q *Queue) Len() int { return len(q.b) - q.read }

// Cap returns the number of bytes of memory that the queue keeps.
func (q *Queue) Cap() int { return cap(q.b) }

// Add appends a copy of b.
func (q *Queue) Add(b []byte) {
	if q.read == len(q.b) || q.read > 0 && len(q.b)+len(b) > cap(q.b) {
		q.b, q.read = q.b[:copy(q.b, q.b[q.read:])], 0
	}
	q.b = append(q.b, b...)
}

// Take moves bytes into p, as many as fit.
func (q *Queue) Take(p []byte) int {
	n := copy(p, q.b[q.read:])
	q.read += n
	return n
}

// Reset empties the queue. It keeps its memory.
func (q *Queue) Reset() { q.b, q.read = q.b[:0], 0 }
