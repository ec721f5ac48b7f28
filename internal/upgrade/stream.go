// Package upgrade has the stream that a connection becomes after a 101.
package upgrade

import (
	"io"
	"net"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// A Stream is a connection after a 101. Bytes that arrived early are read first. It is also a
// net.Conn.
type Stream struct {
	net.Conn
	early  []byte
	closed func() // called by Close; may be nil
}

var _ gateway.Stream = (*Stream)(nil)

// NewStream returns a Stream of c. early is read first. closed is called by Close, unless it is nil.
func NewStream(c net.Conn, early []byte, closed func()) *Stream {
	return &Stream{Conn: c, early: early, closed: closed}
}

func (s *Stream) Read(p []byte) (int, error) {
	if len(s.early) > 0 {
		n := copy(p, s.early)
		s.early = s.early[n:]
		return n, nil
	}
	return s.Conn.Read(p)
}

// WriteTo copies to w, in the kernel if the types of both ends allow that. io.Copy uses it.
func (s *Stream) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(s.early)
	s.early = s.early[n:]
	if err != nil {
		return int64(n), err
	}
	more, err := io.Copy(w, s.Conn)
	return int64(n) + more, err
}

// CloseWrite tells the peer that no more will be sent. A connection that cannot do that is closed.
func (s *Stream) CloseWrite() error {
	if hc, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return hc.CloseWrite()
	}
	return s.Close()
}

func (s *Stream) Close() error {
	err := s.Conn.Close()
	if s.closed != nil {
		s.closed()
	}
	return err
}

// SetDeadline sets the deadline of both directions.
func (s *Stream) SetDeadline(t time.Time) error { return s.Conn.SetDeadline(t) }
