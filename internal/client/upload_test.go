package client

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// still is a connection that records its read deadline.
type still struct{ deadline time.Time }

func (s *still) Read([]byte) (int, error)          { return 0, io.EOF }
func (s *still) SetReadDeadline(t time.Time) error { s.deadline = t; return nil }

func newUpload() (*Upload, *still, *stream.Output) {
	conn, out := new(still), new(stream.Output)
	out.Reset(io.Discard)
	u := &Upload{HeadTimeout: time.Minute, BodyTimeout: time.Second}
	u.Reset(conn, out)
	u.Begin()
	return u, conn, out
}

func TestUploadDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, conn, _ := newUpload()
		u.Start(false)
		if u.Read(nil); !conn.deadline.IsZero() {
			t.Error("the head has a deadline before the request was sent")
		}
		u.Done(nil)
		if left := time.Until(conn.deadline); left != time.Minute {
			t.Errorf("%v for the head, want HeadTimeout", left)
		}
		u.HeadDone()
		u.BeginRead()
		for past := range 3 * time.Nanosecond {
			u.Read(nil)
			if left := time.Until(conn.deadline); left != time.Second-past*100*time.Millisecond {
				t.Errorf("%v for a read of the body, want what is left of BodyTimeout", left)
			}
			time.Sleep(100 * time.Millisecond) // something else arrives
		}
		u.BeginRead()
		u.Read(nil)
		if left := time.Until(conn.deadline); left != time.Second {
			t.Errorf("%v for the next read, want BodyTimeout", left)
		}
	})
}

func TestUploadFault(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name  string
		write bool
		fault bool
	}{
		{"the body cannot be read", false, true},
		{"the connection does not accept it", true, false}, // a response may have arrived
	} {
		t.Run(c.name, func(t *testing.T) {
			u, _, out := newUpload()
			u.Start(false)
			if c.write {
				out.Failed = broken
			}
			if fault := u.Done(broken); fault != c.fault || (u.Fault() != nil) != c.fault || u.Err() != broken || u.Sent() {
				t.Errorf("Done %v, Fault %v, Err %v, Sent %v", fault, u.Fault(), u.Err(), u.Sent())
			}
		})
	}
}

func TestUploadAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, _, _ := newUpload()
		if !u.Await(t.Context(), 0) {
			t.Error("Await waits without a sender")
		}
		u.Start(false)
		if u.Await(t.Context(), time.Second) {
			t.Error("Await reports the end of a sender that runs")
		}
		time.AfterFunc(time.Second, func() { u.Done(nil) })
		if !u.Await(t.Context(), time.Minute) || !u.Sent() {
			t.Error("Await does not report the end of the sender")
		}
	})
}

// TestUploadSettle checks that Settle waits for a sender of bytes in memory, and for no other.
func TestUploadSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, _, out := newUpload()
		u.Start(false)
		u.Settle()
		if !out.Stopped.Load() {
			t.Error("the sender may read further")
		}
		u.Done(nil)
		u.Start(true)
		begun := time.Now()
		time.AfterFunc(time.Second, func() { u.Done(nil) })
		if u.Settle(); time.Since(begun) != time.Second {
			t.Error("Settle does not wait for the sender")
		}
	})
}

// TestDialOfNothing checks a Dial that returns neither a connection nor an error.
func TestDialOfNothing(t *testing.T) {
	d := &Dialer{Dial: func(context.Context) (net.Conn, error) { return nil, nil }}
	if c, err := d.Connect(t.Context()); c != nil || err == nil {
		t.Errorf("%v, %v", c, err)
	}
}
