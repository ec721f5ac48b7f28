package gatewayhttp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/grammar"
)

// Hijack hands the connection to the handler of a request that asks for an upgrade.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	switch {
	case w.taken != nil:
		return nil, nil, http.ErrHijacked
	case w.r.Upgrade == "":
		return nil, nil, fmt.Errorf("gatewayhttp: Hijack: %w", http.ErrNotSupported)
	case w.status != 0:
		return nil, nil, errors.New("gatewayhttp: Hijack after WriteHeader")
	}
	c := &hijacked{
		w: w.w, ctx: w.r.Context(), peer: w.r.Peer, local: w.r.Local, bare: w.head,
		opened: make(chan struct{}), changed: make(chan struct{}),
	}
	w.taken = c
	return c, bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c)), nil
}

// A hijacked is a connection as a handler of net/http expects it: the head of an HTTP response is
// written to it first. A 101 makes it the connection of the gateway; any other response is sent as
// the response of the request.
//
// mu guards the state and is never held while the peer is waited for. writing admits one Write at a
// time.
type hijacked struct {
	w           gateway.ResponseWriter
	ctx         context.Context // of the request
	peer, local netip.AddrPort
	bare        bool          // the request is a HEAD: no body is sent
	opened      chan struct{} // closed with the first of status, stream and err

	writing sync.Mutex // guards head and end
	head    []byte
	end     grammar.HeadEnd

	mu     sync.Mutex     // guards the fields below
	status int            // of a response other than 101, whose body follows
	stream gateway.Stream // after a 101
	err    error

	readDeadline time.Time     // before there is a stream
	changed      chan struct{} // closed when readDeadline changes
}

const maxHijackedHead = 64 << 10

func (c *hijacked) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.begun() {
		return c.send(p)
	}
	c.head = append(c.head, p...)
	opened, err := c.advance()
	if err == nil && opened {
		_, err = c.send(c.head)
	}
	if opened || err != nil {
		c.head = nil
	}
	if err != nil {
		return 0, c.fail(fmt.Errorf("gatewayhttp: hijacked connection: %w", err))
	}
	return len(p), nil
}

// state returns what has become of the connection.
func (c *hijacked) state() (stream gateway.Stream, status int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stream, c.status, c.err
}

// begun reports whether a head was written, or an error occurred.
func (c *hijacked) begun() bool {
	stream, status, err := c.state()
	return stream != nil || status != 0 || err != nil
}

// fail makes err what Write returns from now on, unless the connection has another error.
func (c *hijacked) fail(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.settle(func() { c.err = err })
	}
	return c.err
}

// settle changes the state and releases the readers.
func (c *hijacked) settle(change func()) {
	if c.stream == nil && c.status == 0 && c.err == nil {
		defer close(c.opened)
	}
	change()
}

// send sends bytes that follow the head.
func (c *hijacked) send(p []byte) (int, error) {
	stream, status, err := c.state()
	switch {
	case err != nil:
		return 0, err
	case len(p) == 0:
		return 0, nil
	case stream != nil:
		return stream.Write(p)
	case !bodyAllowed(status):
		return 0, http.ErrBodyNotAllowed
	case c.bare:
		return len(p), nil
	}
	return c.w.Write(p)
}

// advance consumes complete heads from what was written: interim ones, and the last, which opens
// the connection. The rest of head follows it.
func (c *hijacked) advance() (opened bool, err error) {
	for {
		if start := min(len(c.head), len("HTTP/")); string(c.head[:start]) != "HTTP/"[:start] {
			return false, fmt.Errorf("no HTTP: %w", gateway.ErrMalformed) // the head of a CGI program would pass as well
		}
		n := c.end.Find(c.head)
		if n > maxHijackedHead || n == 0 && len(c.head) > maxHijackedHead { // not ErrTooLarge, which is for received heads
			return false, fmt.Errorf("head of more than %d bytes: %w", maxHijackedHead, gateway.ErrMalformed)
		}
		if n == 0 {
			return false, nil
		}
		var res gateway.Response
		if _, err := gateway.ConsumeResponse(c.head[:n], &res); err != nil {
			return false, err
		}
		c.head, c.end = c.head[n:], grammar.HeadEnd{}
		switch {
		case res.Status == http.StatusSwitchingProtocols:
			return true, c.upgrade(&res.Header)
		case res.Status >= 200:
			c.respond(&res)
			return true, nil
		case res.Status != http.StatusContinue: // the web server sends 100 itself
			var h gateway.Header
			copyRaw(&h, &res.Header)
			c.w.WriteInterim(res.Status, &h) // if it can be sent
		}
	}
}

// upgrade sends the head of the 101. If c was closed meanwhile, the stream is closed.
func (c *hijacked) upgrade(h *gateway.Header) error {
	copyRaw(c.w.Header(), h)
	if token, ok := h.Lookup("Upgrade"); ok {
		c.w.Header().Set("Upgrade", string(token)) // Hijack compares it with the request's
	}
	stream, err := c.w.Hijack()
	if err != nil {
		return err
	}
	c.mu.Lock()
	failed := c.err
	if failed == nil {
		if s, ok := stream.(interface{ SetReadDeadline(time.Time) error }); ok && !c.readDeadline.IsZero() {
			s.SetReadDeadline(c.readDeadline)
		}
		c.settle(func() { c.stream = stream })
	}
	c.mu.Unlock()
	if failed != nil {
		stream.Close() // without mu, since it may block
	}
	return failed
}

// respond sends the head of a response other than 101.
func (c *hijacked) respond(res *gateway.Response) {
	copyRaw(c.w.Header(), &res.Header)
	c.w.WriteHeader(res.Status)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle(func() { c.status = res.Status })
}

// copyRaw copies the fields that a handler may set.
func copyRaw(dst, src *gateway.Header) {
	for name, value := range src.All() {
		if !notSent(http.CanonicalHeaderKey(string(name))) {
			dst.AddBytes(name, value)
		}
	}
}

// await waits until the head was sent. It ends with the request, and at the read deadline.
func (c *hijacked) await() error {
	for {
		c.mu.Lock()
		deadline, changed := c.readDeadline, c.changed
		c.mu.Unlock()
		var late <-chan time.Time
		if !deadline.IsZero() {
			late = time.After(time.Until(deadline))
		}
		select {
		case <-c.opened:
			return nil
		default:
		}
		select {
		case <-c.opened:
			return nil
		case <-c.ctx.Done():
			return fmt.Errorf("gatewayhttp: hijacked connection: %w", context.Cause(c.ctx))
		case <-late:
			return os.ErrDeadlineExceeded
		case <-changed:
		}
	}
}

// Read waits until the head was sent: bytes that the peer sends before are not for the handler.
func (c *hijacked) Read(p []byte) (int, error) {
	if err := c.await(); err != nil {
		return 0, err
	}
	stream, _, err := c.state()
	switch {
	case stream != nil:
		return stream.Read(p)
	case err != nil:
		return 0, err
	}
	return 0, io.EOF
}

// Close interrupts a Write or Read of the stream. Before a head was written, the request has no
// response.
func (c *hijacked) Close() error {
	stream, _, _ := c.state()
	if stream != nil {
		return stream.Close()
	}
	c.fail(net.ErrClosed)
	return nil
}

// finish ends a response other than 101.
func (c *hijacked) finish() error {
	stream, status, err := c.state()
	switch {
	case stream != nil || status != 0:
		return nil
	case err != nil:
		return err
	}
	return c.fail(errors.New("gatewayhttp: hijacked connection: no response was written"))
}

func (c *hijacked) LocalAddr() net.Addr  { return address(c.local) }
func (c *hijacked) RemoteAddr() net.Addr { return address(c.peer) }

// address returns the address of a socket. Unix sockets have none.
func address(a netip.AddrPort) net.Addr {
	if a.IsValid() {
		return net.TCPAddrFromAddrPort(a)
	}
	return &net.UnixAddr{Net: "unix"}
}

func (c *hijacked) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *hijacked) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.readDeadline = t
	close(c.changed)
	c.changed = make(chan struct{})
	stream := c.stream
	c.mu.Unlock()
	if s, ok := stream.(interface{ SetReadDeadline(time.Time) error }); ok {
		return s.SetReadDeadline(t)
	}
	return c.w.SetReadDeadline(t)
}

func (c *hijacked) SetWriteDeadline(t time.Time) error {
	stream, _, _ := c.state()
	if s, ok := stream.(interface{ SetWriteDeadline(time.Time) error }); ok {
		return s.SetWriteDeadline(t)
	}
	return c.w.SetWriteDeadline(t)
}
