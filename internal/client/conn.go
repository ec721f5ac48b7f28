package client

import (
	"context"
	"io"
	"net"
	"time"

	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// A Conn carries one request: a Socket, or the pipes of a program.
type Conn interface {
	io.ReadWriteCloser
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error

	// Writer returns what the request is written to.
	Writer() io.Writer

	// Started reports whether the application may respond before anything is sent: a CGI program
	// runs already.
	Started() bool

	// StatusLine says how a response head begins.
	StatusLine() stream.StatusLine

	// EndRequest notes that the request has been sent.
	EndRequest()

	// Detach notes that the caller has closed the Body, while the rest of the response is read: the
	// caller's writers are not called any more.
	Detach()

	// EndResponse waits for the end of a response whose body has ended. It returns the exit status.
	EndResponse() (status uint32, err error)

	// NetConn returns the connection that a 101 hands over, or nil if there is none.
	NetConn() net.Conn

	// Silence returns what a close without a byte of a response may mean, or "". head is the size
	// of the request's head.
	Silence(head int) string

	// Gone returns a channel that is closed when the processes of a program have ended, some time
	// after Close. It is nil for a socket.
	Gone() <-chan struct{}
}

// An Open connects to the application, or starts it. A connection may be placed in s, which saves
// an allocation.
type Open func(ctx context.Context, s *Socket) (Conn, error)

// A Socket is a Conn over a net.Conn. Nothing is wrapped: the request is written to the net.Conn
// itself.
type Socket struct {
	net.Conn
	hint func(head int) string
}

func (s *Socket) Writer() io.Writer             { return s.Conn }
func (s *Socket) Started() bool                 { return false }
func (s *Socket) StatusLine() stream.StatusLine { return stream.LineOptional }
func (s *Socket) EndRequest()                   {}
func (s *Socket) Detach()                       {}
func (s *Socket) EndResponse() (uint32, error)  { return 0, nil }
func (s *Socket) NetConn() net.Conn             { return s.Conn }
func (s *Socket) Gone() <-chan struct{}         { return nil }

// Silence returns what hint says.
func (s *Socket) Silence(head int) string {
	if s.hint == nil {
		return ""
	}
	return s.hint(head)
}
