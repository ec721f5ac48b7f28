// Package tunnel joins two streams after an upgrade, and copies the bodies of responses.
package tunnel

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// A Stream is a connection one of whose directions can end before the other.
type Stream interface {
	io.ReadWriteCloser
	CloseWrite() error
	SetDeadline(t time.Time) error
}

// Silence limits how long one direction may be silent after the other has ended.
const Silence = time.Minute

// Join copies between front and back until both directions have ended, and closes both. The end of
// one direction is passed on with CloseWrite, and an error ends both. After that the other
// direction goes on as long as it is not silent for longer than Silence: a peer that has left would
// otherwise hold both connections for good.
func Join(front, back Stream) { join(front, back, Silence) }

func join(front, back Stream, silence time.Duration) {
	there := &direction{dst: back, src: front, silence: silence}
	here := &direction{dst: front, src: back, silence: silence}
	done := make(chan struct{})
	go func() {
		defer close(done)
		there.pass(here)
	}()
	here.pass(there)
	<-done
	front.Close()
	back.Close()
}

// A direction is one of the two of a tunnel. Each is passed by its own goroutine.
type direction struct {
	dst, src Stream
	silence  time.Duration
	alone    atomic.Bool // the other direction has ended
}

// pass copies until src ends, and then tells dst and the other direction.
func (d *direction) pass(other *direction) {
	if err := d.copy(); err != nil {
		d.dst.Close()
		d.src.Close()
		return
	}
	d.dst.CloseWrite()
	other.alone.Store(true)
	other.dst.SetDeadline(time.Now().Add(d.silence)) // a Write may be waiting
	other.src.SetDeadline(time.Unix(1, 0))           // interrupts its Read; nothing more is written to it
}

func (d *direction) copy() error {
	src := source{r: d.src}
	_, err := io.Copy(d.dst, &src)
	if d.alone.Load() && errors.Is(src.err, os.ErrDeadlineExceeded) {
		return d.copyAlone()
	}
	return err
}

// A source notes the error of its reader, to tell it from that of the writer: after a Write that
// was cut short nothing can follow.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (n int, err error) {
	n, s.err = s.r.Read(p)
	return n, s.err
}

// copyAlone copies while neither end makes the other wait for longer than silence.
func (d *direction) copyAlone() error {
	buf := make([]byte, 32<<10)
	for {
		d.src.SetDeadline(time.Now().Add(d.silence))
		n, err := d.src.Read(buf)
		if n > 0 {
			d.dst.SetDeadline(time.Now().Add(d.silence))
			if _, err := d.dst.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
