package stream

import (
	"bytes"
	"testing"
)

func TestQueue(t *testing.T) {
	var q Queue
	var want, got []byte
	for i := range 1000 {
		piece := bytes.Repeat([]byte{byte(i)}, i%37)
		q.Add(piece)
		want = append(want, piece...)
		p := make([]byte, i%23)
		got = append(got, p[:q.Take(p)]...)
		if q.Len() != len(want)-len(got) {
			t.Fatalf("%d bytes are queued", q.Len())
		}
		if i%100 == 0 {
			p = make([]byte, q.Len())
			q.Take(p)
			got = append(got, p...)
		}
	}
	p := make([]byte, q.Len())
	q.Take(p)
	if got = append(got, p...); !bytes.Equal(got, want) {
		t.Error("the bytes came out in another order")
	}
	if q.Reset(); q.Len() != 0 || q.Cap() > 64<<10 {
		t.Errorf("after Reset: %d bytes in %d", q.Len(), q.Cap())
	}
}

// TestQueueMemory checks that the space of taken bytes is used again.
func TestQueueMemory(t *testing.T) {
	var q Queue
	p := make([]byte, 10)
	for range 1000 {
		q.Add(p)
		q.Take(p)
	}
	if q.Cap() > 1000 {
		t.Errorf("%d bytes of memory for 10 bytes of content", q.Cap())
	}
	q.Add(p)
	if q.Reset(); q.Len() != 0 || q.Cap() == 0 {
		t.Errorf("after Reset: %d bytes in %d", q.Len(), q.Cap())
	}
}
