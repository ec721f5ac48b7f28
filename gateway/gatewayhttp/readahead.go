package gatewayhttp

import (
	"fmt"
	"io"
	"sync"

	"github.com/gatehouse-go/gatehouse/internal/tunnel"
)

// aheadMemory is how many bytes of a response are held in memory before the rest goes to a file.
const aheadMemory = 64 << 10

// A readAhead is a body that is read faster than the client takes it, up to a bound, so that the
// backend is free when it has written.
//
// fill owns body, and runs in its own goroutine. Read is called by the goroutine of the handler. mu
// guards the fields below it; fill writes to the file without it, at an offset that Read does not
// reach before fill has counted the bytes.
type readAhead struct {
	body io.ReadCloser
	most int64     // bytes that may be buffered
	dir  string    // for the file
	once sync.Once // closes body

	mu      sync.Mutex
	changed sync.Cond
	memory  []byte // the oldest bytes
	file    *tunnel.TempFile
	at      int64 // where the next byte is in the file, which is a ring of most bytes
	filed   int64 // bytes in the file, which follow those in memory
	err     error // how the body ended; nil if it has not
	closed  bool  // Read is not called any more
	done    chan struct{}
}

// newReadAhead starts to read body.
func newReadAhead(body io.ReadCloser, most int64, dir string) *readAhead {
	a := &readAhead{body: body, most: most, dir: dir, done: make(chan struct{})}
	a.changed.L = &a.mu
	go a.fill()
	return a
}

// fill reads the body to its end, and closes it.
func (a *readAhead) fill() {
	defer close(a.done)
	defer func() {
		if v := recover(); v != nil { // a function of the backend's caller
			a.end(fmt.Errorf("gatewayhttp: panic while the response was read: %v", v))
		}
	}()
	buf := make([]byte, 32<<10)
	for {
		room := a.await()
		if room == 0 {
			return
		}
		n, err := a.body.Read(buf[:min(room, int64(len(buf)))])
		if n > 0 {
			a.add(buf[:n])
		}
		if err != nil {
			a.free() // the backend
			a.end(err)
			return
		}
	}
}

// await waits until there is room, and returns how much. It returns 0 after Close.
func (a *readAhead) await() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.closed && int64(len(a.memory))+a.filed >= a.most {
		a.changed.Wait()
	}
	if a.closed {
		return 0
	}
	return a.most - int64(len(a.memory)) - a.filed
}

// add buffers p, for which there is room. If the file cannot be written, p waits until the memory
// is empty: the backend is then as slow as the client.
func (a *readAhead) add(p []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.filed > 0 || len(a.memory) > 0 && len(a.memory)+len(p) > aheadMemory {
		if a.write(p) {
			a.filed += int64(len(p))
			a.changed.Broadcast()
			return
		}
		for !a.closed && (a.filed > 0 || len(a.memory) > 0) {
			a.changed.Wait()
		}
	}
	a.memory = append(a.memory, p...)
	a.changed.Broadcast()
}

// write writes p to the file, behind what is in it. mu is held at the call and at the return, but
// not in between.
func (a *readAhead) write(p []byte) (ok bool) {
	at := (a.at + a.filed) % a.most
	file := a.file
	a.mu.Unlock()
	defer a.mu.Lock()
	if file == nil {
		created, err := tunnel.NewTempFile(a.dir, "gatehouse-response-")
		if err != nil {
			return false
		}
		file = created
		a.mu.Lock()
		a.file = file
		a.mu.Unlock()
	}
	first := min(int64(len(p)), a.most-at)
	if _, err := file.WriteAt(p[:first], at); err != nil {
		return false
	}
	_, err := file.WriteAt(p[first:], 0)
	return err == nil
}

func (a *readAhead) end(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
	a.changed.Broadcast()
}

// Read returns what has been buffered. It waits while that is nothing.
func (a *readAhead) Read(p []byte) (n int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.memory) == 0 && a.filed == 0 {
		if a.err != nil {
			return 0, a.err
		}
		a.changed.Wait()
	}
	if len(a.memory) > 0 {
		n = copy(p, a.memory)
		a.memory = append(a.memory[:0], a.memory[n:]...)
	} else if n, err = a.readFile(p); err != nil {
		return n, err
	}
	a.changed.Broadcast()
	if len(a.memory) == 0 && a.filed == 0 && a.err == io.EOF {
		return n, io.EOF // with the last bytes, so that both are sent together
	}
	return n, nil
}

// readFile takes bytes from the file. mu is held.
func (a *readAhead) readFile(p []byte) (int, error) {
	n := min(int64(len(p)), a.filed, a.most-a.at)
	if _, err := a.file.ReadAt(p[:n], a.at); err != nil {
		return 0, err
	}
	a.at, a.filed = (a.at+n)%a.most, a.filed-n
	return int(n), nil
}

// Ready reports whether Read can return without waiting.
func (a *readAhead) Ready() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.memory) > 0 || a.filed > 0 || a.err != nil
}

// free closes body, once.
func (a *readAhead) free() (err error) {
	a.once.Do(func() { err = a.body.Close() })
	return err
}

// Close ends the reading, and waits until body is no longer used.
func (a *readAhead) Close() error {
	a.mu.Lock()
	a.closed = true
	a.changed.Broadcast()
	a.mu.Unlock()
	err := a.free()
	<-a.done
	if a.file != nil {
		a.file.Remove()
	}
	return err
}
