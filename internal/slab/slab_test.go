package slab

import "testing"

func TestGet(t *testing.T) {
	var p Pool[[100]byte]
	seen := make(map[*[100]byte]bool)
	for i := range 10000 {
		x := p.Get(0)
		if seen[x] || *x != [100]byte{} {
			t.Fatalf("object %d was given out before", i)
		}
		seen[x] = true
		x[0] = 1
	}
}

func TestSize(t *testing.T) {
	var p Pool[[512]byte]
	for range 20 {
		p.next(0)
	}
	for others, want := range map[int]int{0: maxBytes / 512, 1: maxBytes / 1024, 31: maxBytes / 512 / 32, 1 << 20: least} {
		if got := p.next(others); got != want {
			t.Errorf("slab of %d with %d others, want %d", got, others, want)
		}
	}
	var small Pool[int]
	if got := small.next(0); got != least {
		t.Errorf("the first slab has %d", got)
	}
}
