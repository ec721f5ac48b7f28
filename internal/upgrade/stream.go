// Package upgrade has the stream that a connection becomes after a 101.
package upgrade

import (
	"io"
	"net"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// A Stream is a connection after a 101. Bytes that arrived early are read first. It is also a
// net.Conn.
type Stream struct {
	net.Conn
	Early  []byte // what is read first
	Closed func() // called by Close; may be nil
}

var _ gateway.Stream = (*Stream)(nil)

func (s *Stream) Read(p []byte) (int, error) {
	if len(s.Early) > 0 {
		n := copy(p, s.Early)
		s.Early = s.Early[n:]
		return n, nil
	}
	return s.Conn.Read(p)
}

// WriteTo copies to w, in the kernel if the types of both ends allow that. io.Copy uses it.
func (s *Stream) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(s.Early)
	s.Early = s.Early[n:]
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
	if s.Closed != nil {
		s.Closed()
	}
	return err
}
