package gatewayhttp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
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
	c := &hijacked{w: w.w, peer: w.r.Peer, local: w.r.Local, opened: make(chan struct{})}
	w.taken = c
	return c, bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c)), nil
}

// hijacked is a connection as a handler of net/http expects it: the first that is written to it is the head of an HTTP
// response. A 101 makes it that of the gateway; any other answer is sent as one.
type hijacked struct {
	w           gateway.ResponseWriter
	peer, local netip.AddrPort

	mu     sync.Mutex
	head   []byte
	plain  bool           // the answer is no 101: what follows its head is its body
	stream gateway.Stream // after a 101
	err    error
	opened chan struct{} // closed with the first of plain, stream and err
}

const maxHijackedHead = 64 << 10

func (c *hijacked) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return 0, c.err
	case c.stream != nil:
		return c.stream.Write(p)
	case c.plain:
		return c.w.Write(p)
	}
	c.head = append(c.head, p...)
	opened, err := c.advance()
	if err == nil && !opened {
		return len(p), nil
	}
	if err != nil {
		c.err = fmt.Errorf("gatewayhttp: hijacked connection: %w", err)
	}
	c.head = nil
	close(c.opened)
	if c.err != nil {
		return 0, c.err
	}
	return len(p), nil
}

// advance takes whole heads out of what was written: interim ones, and the last, which opens the connection.
func (c *hijacked) advance() (opened bool, err error) {
	for {
		if start := min(len(c.head), len("HTTP/")); string(c.head[:start]) != "HTTP/"[:start] {
			return false, fmt.Errorf("no HTTP: %w", gateway.ErrMalformed) // the head of a CGI script would do, too
		}
		var res gateway.Response
		n, err := gateway.ConsumeResponse(c.head, &res)
		switch {
		case err != nil:
			return false, err
		case n == 0 && len(c.head) > maxHijackedHead: // not ErrTooLarge, which is for what a peer sent
			return false, fmt.Errorf("head of more than %d bytes: %w", maxHijackedHead, gateway.ErrMalformed)
		case n == 0:
			return false, nil
		case res.Status >= 200 || res.Status == http.StatusSwitchingProtocols:
			return true, c.open(&res, c.head[n:])
		}
		if res.Status != http.StatusContinue { // which is the web server's to send
			var h gateway.Header
			copyRaw(&h, &res.Header)
			c.w.WriteInterim(res.Status, &h) // where it can be sent
		}
		c.head = c.head[n:]
	}
}

// open sends the head, and what was written after it.
func (c *hijacked) open(res *gateway.Response, rest []byte) (err error) {
	if res.Status != http.StatusSwitchingProtocols {
		return c.answer(res, rest)
	}
	h := c.w.Header()
	for name, value := range res.Header.All() {
		h.AddBytes(name, value)
	}
	if c.stream, err = c.w.Hijack(); err == nil && len(rest) > 0 {
		_, err = c.stream.Write(rest)
	}
	return err
}

// answer sends the head of an answer that is no 101, and of its body what was written with it.
func (c *hijacked) answer(res *gateway.Response, rest []byte) (err error) {
	copyRaw(c.w.Header(), &res.Header)
	c.plain = true
	c.w.WriteHeader(res.Status)
	if len(rest) > 0 {
		_, err = c.w.Write(rest)
	}
	return err
}

// copyRaw copies the fields that a handler may set.
func copyRaw(dst, src *gateway.Header) {
	for name, value := range src.All() {
		if !notSent(http.CanonicalHeaderKey(string(name))) {
			dst.AddBytes(name, value)
		}
	}
}

// Read waits for the head to be sent: nothing that the peer sends before it is the handler's.
func (c *hijacked) Read(p []byte) (int, error) {
	<-c.opened
	c.mu.Lock()
	stream, err := c.stream, c.err
	c.mu.Unlock()
	switch {
	case stream != nil:
		return stream.Read(p)
	case err != nil:
		return 0, err
	}
	return 0, io.EOF
}

func (c *hijacked) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream != nil {
		return c.stream.Close()
	}
	if c.err == nil && !c.plain {
		c.err = net.ErrClosed
		close(c.opened)
	}
	return nil
}

// finish ends an answer that is no 101.
func (c *hijacked) finish() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.stream != nil || c.plain:
		return nil
	case c.err == nil:
		c.err = errors.New("gatewayhttp: hijacked connection: no response was written")
		close(c.opened)
	}
	return c.err
}

func (c *hijacked) LocalAddr() net.Addr  { return address(c.local) }
func (c *hijacked) RemoteAddr() net.Addr { return address(c.peer) }

// address is that of a socket, of which a Unix one has none.
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
	defer c.mu.Unlock()
	if s, ok := c.stream.(interface{ SetReadDeadline(time.Time) error }); ok {
		return s.SetReadDeadline(t)
	}
	return c.w.SetReadDeadline(t)
}

func (c *hijacked) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.stream.(interface{ SetWriteDeadline(time.Time) error }); ok {
		return s.SetWriteDeadline(t)
	}
	return c.w.SetWriteDeadline(t)
}
