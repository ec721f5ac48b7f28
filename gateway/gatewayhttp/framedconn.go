package gatewayhttp

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A framedConn is the connection that the transport uses. It ends when a server sends more than the
// response: the transport could take that for the response to the next request. Some servers,
// gunicorn among them, send a body after the head of a response that has none, which may arrive at
// any time. So the connection ends with such a head even if nothing follows.
type framedConn struct {
	net.Conn
	timeout time.Duration // of one read of a response's body; 0 or less means no limit
	wait    time.Duration // of a failed Write for the response; 0 or less means no limit

	once  sync.Once
	ended chan struct{} // closed when nothing more will be read

	next atomic.Pointer[string] // the method of a request that is about to be sent, or nil
	sent atomic.Pointer[string] // that of the last one that was sent

	// These belong to the goroutine of the transport that reads.
	request  *string // to which the response is read
	response framing
	whole    bool // the response has been read
	over     bool
	armed    bool // there is a read deadline
}

// begin notes that a request with method is about to be sent.
func (c *framedConn) begin(method string) { c.next.Store(&method) }

func (c *framedConn) Write(p []byte) (int, error) {
	if method := c.next.Swap(nil); method != nil {
		c.sent.Store(method)
	}
	n, err := c.Conn.Write(p)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.awaitEnd()
	}
	return n, err
}

// awaitEnd waits until nothing more will be read. A server may respond to a request without reading
// its body, and close the connection. The transport would drop that response as soon as Write
// returns an error.
func (c *framedConn) awaitEnd() {
	var late <-chan time.Time
	if c.wait > 0 {
		timer := time.NewTimer(c.wait)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-c.ended:
	case <-late:
	}
}

func (c *framedConn) end() { c.once.Do(func() { close(c.ended) }) }

func (c *framedConn) Close() error {
	c.end()
	return c.Conn.Close()
}

// arm sets the deadline of a read of the body. A read that waits for a head has none: the transport
// limits that itself, and an idle connection waits for the next request.
func (c *framedConn) arm() {
	switch inBody := !c.whole && c.sent.Load() == c.request && c.response.inBody(); {
	case inBody && c.timeout > 0:
		c.Conn.SetReadDeadline(time.Now().Add(c.timeout))
		c.armed = true
	case c.armed:
		c.Conn.SetReadDeadline(time.Time{})
		c.armed = false
	}
}

func (c *framedConn) Read(p []byte) (int, error) {
	n, err := c.read(p)
	if err != nil {
		c.end()
	}
	return n, err
}

func (c *framedConn) read(p []byte) (int, error) {
	if c.over {
		return 0, io.EOF
	}
	c.arm()
	n, err := c.Conn.Read(p)
	if request := c.sent.Load(); request != c.request {
		c.request, c.response, c.whole = request, framing{method: *request}, false
	}
	if c.whole && n > 0 {
		c.over = true
		return 0, io.EOF
	}
	used, done := c.response.next(p[:n])
	c.whole = done
	if done && (c.response.bare || used < n) { // rule F67
		c.over = true
		return used, io.EOF
	}
	return n, err
}
