package client

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Defaults of a client's time-outs.
const (
	DefaultSendTimeout = time.Minute
	DefaultHeadTimeout = time.Minute
	DefaultBodyTimeout = time.Minute
)

// An Upload is a request that is being sent while its response is awaited. It also reads the
// connection, under the deadline of what is awaited.
//
// The goroutine of RoundTrip reads. A body that may take time is sent by a second goroutine, the
// sender, which calls Done at its end. mu guards the fields below it and is never held while the
// connection is read or written.
type Upload struct {
	HeadTimeout time.Duration // from the end of the request to the end of the response's head; 0 means no limit
	BodyTimeout time.Duration // of one read of the response's body; 0 means no limit

	conn readConn
	out  *stream.Output

	mu        sync.Mutex
	changed   sync.Cond
	sending   bool      // the sender runs
	inMemory  bool      // the sender waits for the connection alone, since the body is in memory
	waiting   bool      // the response's head is awaited
	stuck     bool      // the connection accepted no byte for the SendTimeout while the head was awaited
	err       error     // of sending
	limit     time.Time // of the head
	bodyLimit time.Time // of the read of the body in progress
	deadline  time.Time // the read deadline that is set
}

// A readConn is what an Upload needs of a connection.
type readConn interface {
	io.Reader
	SetReadDeadline(t time.Time) error
}

// Reset makes u ready for requests over conn, which out writes.
func (u *Upload) Reset(conn readConn, out *stream.Output) {
	u.conn, u.out = conn, out
	u.changed.L = &u.mu
}

// Begin makes u ready for the next request.
func (u *Upload) Begin() {
	u.waiting, u.stuck, u.err, u.limit, u.bodyLimit = true, false, nil, time.Time{}, time.Time{}
}

// StartHead starts the time for the head now, instead of when the request has been sent.
func (u *Upload) StartHead() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.HeadTimeout > 0 && u.waiting {
		u.limit = time.Now().Add(u.HeadTimeout)
		u.setDeadline(u.limit) // a Read may be waiting already
	}
}

// SetTimeouts sets HeadTimeout and BodyTimeout from the fields of a client.
func (u *Upload) SetTimeouts(head, body time.Duration) {
	u.HeadTimeout = stream.Timeout(head, DefaultHeadTimeout)
	u.BodyTimeout = stream.Timeout(body, DefaultBodyTimeout)
}

// A programWriter writes to a program, which may respond at any time. The time for its head begins
// again with each byte that it takes.
type programWriter struct {
	Conn
	up *Upload
}

func (w programWriter) Write(p []byte) (int, error) {
	n, err := w.Conn.Writer().Write(p)
	if n > 0 {
		w.up.StartHead()
	}
	return n, err
}

// Read reads from the connection.
func (u *Upload) Read(p []byte) (int, error) {
	u.arm()
	return u.conn.Read(p)
}

// arm sets the read deadline for what is awaited.
func (u *Upload) arm() {
	u.mu.Lock()
	defer u.mu.Unlock()
	var t time.Time
	switch {
	case u.waiting:
		t = u.limit
	default:
		t = u.bodyLimit
	}
	u.setDeadline(t)
}

// BeginRead starts the time for one read of the response's body. What arrives besides the body,
// such as STDERR, does not renew it.
func (u *Upload) BeginRead() {
	if u.BodyTimeout > 0 {
		u.mu.Lock()
		u.bodyLimit = time.Now().Add(u.BodyTimeout)
		u.mu.Unlock()
	}
}

func (u *Upload) setDeadline(t time.Time) {
	if !t.Equal(u.deadline) {
		u.deadline = t
		u.conn.SetReadDeadline(t)
	}
}

// Start notes that a sender will run.
func (u *Upload) Start(inMemory bool) { u.sending, u.inMemory = true, inMemory }

// Done notes the end of sending; from now on the head is awaited with a limit. It reports whether
// the exchange cannot succeed, because the body could not be read or the connection accepted no
// more of it. The caller must then close the connection: the application must not mistake a partial
// body for a complete one. Another error of the connection is not reported, since a response may
// have arrived before it.
func (u *Upload) Done(err error) (fault bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.HeadTimeout > 0 && u.waiting && u.limit.IsZero() {
		u.limit = time.Now().Add(u.HeadTimeout)
		if u.sending {
			u.setDeadline(u.limit) // a Read may be waiting already
		}
	}
	u.stuck = u.waiting && u.out.Failed != nil && errors.Is(err, os.ErrDeadlineExceeded)
	u.sending, u.err = false, err
	u.changed.Broadcast()
	return u.fault() != nil
}

// HeadDone notes that the head is no longer awaited.
func (u *Upload) HeadDone() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.waiting, u.limit = false, time.Time{}
}

// Fault returns the error of the request's body, or of a connection that accepted no more of the
// request, or nil. Errors of reading the response follow from it.
func (u *Upload) Fault() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	err := u.fault()
	if err == nil || u.stuck || err == stream.ErrStopped {
		return err
	}
	return BodyFault(err) // rule F68
}

func (u *Upload) fault() error {
	if u.err != nil && (u.stuck || u.out.Failed == nil) { // Failed is set by the sender before err is
		return u.err
	}
	return nil
}

// Stuck reports whether the connection accepted no more of the request.
func (u *Upload) Stuck() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.stuck
}

// Err returns the error of sending, whatever its cause.
func (u *Upload) Err() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

// Sent reports whether the request has been sent completely.
func (u *Upload) Sent() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return !u.sending && u.err == nil
}

// Await waits until the sender has ended, at most for d and until ctx is done. It reports whether
// it has.
func (u *Upload) Await(ctx context.Context, d time.Duration) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.sending {
		return true
	}
	over := false
	wake := func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		over = true
		u.changed.Broadcast()
	}
	defer time.AfterFunc(d, wake).Stop()
	defer context.AfterFunc(ctx, wake)()
	for u.sending && !over {
		u.changed.Wait()
	}
	return !u.sending
}

// Settle stops the sender. If the body is in memory, Settle waits for the sender, which ends soon.
// Otherwise the sender may be left in a Read of the caller's body; it reads nothing after that.
func (u *Upload) Settle() {
	u.out.Stopped.Store(true)
	u.mu.Lock()
	defer u.mu.Unlock()
	for u.sending && u.inMemory {
		u.changed.Wait()
	}
}
