package gatewayhttp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// A framedConn is the connection that the transport uses. It ends when a server sends more than the
// response: the transport could take that for the response to the next request. Some servers,
// gunicorn among them, send a body after the head of a response that has none, which may arrive at
// any time. So the connection ends with such a head even if nothing follows.
type framedConn struct {
	net.Conn
	timeout time.Duration // of one read of a response's body; 0 or less means no limit
	wait    time.Duration // of a failed Write for the head of the response

	once  sync.Once
	ended chan struct{} // closed when nothing more will be read, and after a 101
	begun atomic.Bool   // the head of the response has been read
	stops atomic.Bool   // the rest of the body is read without waiting

	next atomic.Pointer[string] // the method of a request that is about to be sent, or nil
	sent atomic.Pointer[string] // that of the last one that was sent

	// These belong to the goroutine of the transport that reads.
	request  *string // to which the response is read
	response framing
	whole    bool // the response has been read
	over     bool
	armed    bool  // there is a read deadline
	seen     int64 // bytes of the body when it was set
}

// errOdd is the error of a response whose end is not certain.
var errOdd = fmt.Errorf("http: a field of the response that says how long it is: %w", gateway.ErrMalformed)

// begin notes that a request with method is about to be sent.
func (c *framedConn) begin(method string) {
	c.begun.Store(false)
	c.stops.Store(false)
	c.next.Store(&method)
}

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
// returns an error. The head must come soon; the reader of the body, who has time-outs, ends it.
func (c *framedConn) awaitEnd() {
	timer := time.NewTimer(c.wait)
	defer timer.Stop()
	select {
	case <-c.ended:
		return
	case <-timer.C:
	}
	if c.begun.Load() {
		<-c.ended
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
	inBody := !c.whole && c.sent.Load() == c.request && c.response.inBody()
	switch {
	case inBody && c.stops.Load():
		c.Conn.SetReadDeadline(time.Unix(1, 0))
		c.armed = true
	case inBody && c.timeout > 0:
		if c.armed && c.seen == c.response.body {
			return // bytes that are not of the body do not renew it
		}
		c.Conn.SetReadDeadline(time.Now().Add(c.timeout))
		c.armed, c.seen = true, c.response.body
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
	switch {
	case c.response.odd: // F67
		c.over = true
		return 0, errOdd
	case c.response.isSwitched():
		c.end()
	case c.response.in != inHead:
		c.begun.Store(true)
	}
	if done && (c.response.bare || used < n) { // rule F67
		c.over = true
		return used, io.EOF
	}
	return n, err
}
