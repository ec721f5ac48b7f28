package fuzz_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// relay is a way between two ends on which things go wrong, by a seed: what is said comes in pieces
// and late, one direction or both end in the middle, with or without a reset.
type relay struct {
	seed uint64
	most time.Duration // a piece is late by, at the most
	odds float64       // of a direction that it goes wrong

	mu    sync.Mutex
	conns int
	open  sync.WaitGroup
}

// fault is a fault in one direction.
type fault int

const (
	none  fault = iota
	cut         // both ends are closed
	reset       // the same, and the peers are told so
	half        // nothing more comes, and the other direction goes on
	still       // nothing more arrives, and no end is signalled
	faults
)

// plan is a direction's fate.
type plan struct {
	fault fault
	at    int64 // bytes before the fault
	piece int   // bytes at a time, at the most
	late  float64
}

// next is the fate of one more connection, each way.
func (r *relay) next() (rng *rand.Rand, there, back plan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns++
	rng = rand.New(rand.NewPCG(r.seed, uint64(r.conns)))
	return rng, r.plan(rng), r.plan(rng)
}

func (r *relay) plan(rng *rand.Rand) plan {
	p := plan{piece: 1 << rng.IntN(17), late: rng.Float64() * rng.Float64() / 4}
	if rng.Float64() < r.odds {
		p.fault = 1 + fault(rng.IntN(int(faults)-1))
		p.at = int64(rng.ExpFloat64() * float64(int(1)<<rng.IntN(18)))
	}
	return p
}

// join passes bytes between two connections until both directions have ended, and closes them.
func (r *relay) join(a, b net.Conn) {
	rng, there, back := r.next()
	seeds := [2]uint64{rng.Uint64(), rng.Uint64()}
	r.open.Go(func() {
		defer a.Close()
		defer b.Close()
		var ways sync.WaitGroup
		ways.Go(func() { r.pass(b, a, there, rand.New(rand.NewPCG(seeds[0], 0))) })
		ways.Go(func() { r.pass(a, b, back, rand.New(rand.NewPCG(seeds[1], 0))) })
		ways.Wait()
	})
}

// pass is one direction.
func (r *relay) pass(dst, src net.Conn, p plan, rng *rand.Rand) {
	buf := make([]byte, p.piece)
	for moved := int64(0); ; {
		room := len(buf)
		if p.fault != none {
			room = int(min(int64(room), p.at-moved))
		}
		if room == 0 {
			fail(dst, src, p.fault)
			return
		}
		n, err := src.Read(buf[:room])
		if rng.Float64() < p.late {
			time.Sleep(time.Duration(rng.Float64() * rng.Float64() * float64(r.most)))
		}
		if _, werr := dst.Write(buf[:n]); werr != nil {
			src.Close() // as a peer that is gone
			return
		}
		moved += int64(n)
		if err != nil {
			closeWrite(dst)
			return
		}
	}
}

// fail makes a direction go wrong.
func fail(dst, src net.Conn, f fault) {
	switch f {
	case reset:
		for _, c := range []net.Conn{dst, src} {
			if tcp, ok := c.(*net.TCPConn); ok {
				tcp.SetLinger(0)
			}
		}
		fallthrough
	case cut:
		dst.Close()
		src.Close()
	case half:
		closeWrite(dst)
		fallthrough
	case still:
		io.Copy(io.Discard, src) // until it gives up
		dst.Close()
	}
}

// closeWrite ends one direction, where the kind of connection knows that, and both where it does
// not.
func closeWrite(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		h.CloseWrite()
		return
	}
	c.Close()
}

// listen starts the relay in front of an address, until the test ends. Seed 0 means no relay.
func (r *relay) listen(t testing.TB, addr string) (front string) {
	t.Helper()
	if r.seed == 0 {
		return addr
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", addr)
			if err != nil {
				a.Close()
				continue
			}
			r.join(a, b)
		}
	})
	t.Cleanup(func() {
		l.Close()
		accepting.Wait()
		r.open.Wait()
	})
	return l.Addr().String()
}

// dial is a client's Dial, without a network: serve gets the other end.
func (r *relay) dial(serve func(c net.Conn)) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		client, a := net.Pipe()
		b, server := net.Pipe()
		r.join(a, b)
		r.open.Go(func() { serve(server) })
		return client, nil
	}
}
