package gatewayhttp

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// A clientConn is a connection of a Client. It counts bytes, and limits the time in which no byte
// can be written. The transport reads and writes it in its goroutines.
type clientConn struct {
	net.Conn
	c              *Client
	timeout        atomic.Int64 // of one write without progress, a time.Duration; 0 means no limit
	sent, received atomic.Int64
	stuck          atomic.Bool // a write made no progress for timeout
	ended          atomic.Bool // a read failed: nothing more comes
	closed         atomic.Bool
}

// rawConn returns the clientConn below a connection.
func rawConn(conn net.Conn) *clientConn {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	cc, _ := conn.(*clientConn)
	return cc
}

func (cc *clientConn) Read(p []byte) (int, error) {
	n, err := cc.Conn.Read(p)
	cc.received.Add(int64(n))
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		cc.ended.Store(true)
	}
	return n, err
}

// Write writes p. Each byte that is written begins the time-out again.
func (cc *clientConn) Write(p []byte) (n int, err error) {
	for {
		timeout := time.Duration(cc.timeout.Load())
		if timeout > 0 {
			cc.Conn.SetWriteDeadline(time.Now().Add(timeout))
		}
		some, err := cc.Conn.Write(p[n:])
		n += some
		cc.sent.Add(int64(some))
		if err == nil || timeout <= 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if some == 0 {
			cc.stuck.Store(true)
			return n, err
		}
	}
}

// CloseWrite tells the peer that no more will be sent.
func (cc *clientConn) CloseWrite() error {
	if hc, ok := cc.Conn.(interface{ CloseWrite() error }); ok {
		return hc.CloseWrite()
	}
	return cc.Close()
}

func (cc *clientConn) Close() error {
	if !cc.closed.Swap(true) {
		cc.c.open.Add(-1)
	}
	return cc.Conn.Close()
}

// A switchedConn is a connection after a 101. Bytes that the transport has read already come first.
type switchedConn struct {
	net.Conn
	body io.ReadWriteCloser
}

func (s *switchedConn) Read(p []byte) (int, error)  { return s.body.Read(p) }
func (s *switchedConn) Write(p []byte) (int, error) { return s.body.Write(p) }
func (s *switchedConn) Close() error                { return s.body.Close() }

func (s *switchedConn) CloseWrite() error {
	if hc, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return hc.CloseWrite()
	}
	return s.Close()
}
