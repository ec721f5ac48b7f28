package tunnel

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// events is a Writer that records writes and flushes.
type events struct{ log []string }

func (e *events) Write(p []byte) (int, error) { e.log = append(e.log, string(p)); return len(p), nil }
func (e *events) flush() error                { e.log = append(e.log, "flush"); return nil }

// ready is a body that can be read without waiting.
type ready struct{ io.Reader }

func (ready) Ready() bool { return true }

func TestCopyBody(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name string
		body io.Reader
		want string
		err  error
	}{
		{"the head does not wait for the body", strings.NewReader("a"), "flush a flush", nil},
		{"the head is sent with a body that is ready", ready{strings.NewReader("a")}, "a flush", nil},
		{"the end that comes with the last bytes is sent with them", ready{iotest.DataErrReader(strings.NewReader("a"))}, "a", nil},
		{"every piece is flushed", ready{iotest.OneByteReader(strings.NewReader("ab"))}, "a flush b flush", nil},
		{"an error of the body", ready{io.MultiReader(strings.NewReader("a"), iotest.ErrReader(broken))}, "a flush", broken},
	} {
		t.Run(c.name, func(t *testing.T) {
			var e events
			err := CopyBody(&e, e.flush, c.body, make([]byte, 10))
			if got := strings.Join(e.log, " "); got != c.want || err != c.err {
				t.Errorf("%q, %v, want %q, %v", got, err, c.want, c.err)
			}
		})
	}
}

// TestJoin checks that the end of one direction leaves the other open.
func TestJoin(t *testing.T) {
	client, front := pair(t)
	server, back := pair(t)
	over := make(chan struct{})
	go func() {
		Join(front, back)
		close(over)
	}()
	io.WriteString(client, "question")
	client.CloseWrite()
	if b, err := io.ReadAll(server); string(b) != "question" || err != nil {
		t.Errorf("the backend received %q, %v", b, err)
	}
	io.WriteString(server, "response")
	server.CloseWrite()
	if b, err := io.ReadAll(client); string(b) != "response" || err != nil {
		t.Errorf("the client received %q, %v", b, err)
	}
	<-over
}

// TestOneDirectionAlone checks that a direction ends when it is silent after the other has ended,
// and not while it sends.
func TestOneDirectionAlone(t *testing.T) {
	const silence = 200 * time.Millisecond
	for name, ended := range map[string]bool{"the client has ended": true, "the backend has ended": false} {
		t.Run(name, func(t *testing.T) {
			client, front := pair(t)
			server, back := pair(t)
			first, second := client, server
			if !ended {
				first, second = server, client
			}
			over := make(chan struct{})
			go func() {
				join(front, back, silence)
				close(over)
			}()
			first.CloseWrite()
			if _, err := io.ReadAll(second); err != nil {
				t.Fatal(err)
			}
			for range 5 { // longer than silence, in pieces
				time.Sleep(silence / 2)
				if _, err := io.WriteString(second, "piece"); err != nil {
					t.Fatal(err)
				}
			}
			if b, err := io.ReadAll(first); string(b) != strings.Repeat("piece", 5) {
				t.Errorf("received %q, %v", b, err)
			}
			<-over // although second never closes
		})
	}
}

// TestUnreadDirectionAlone checks that a direction whose peer reads nothing ends as well: it waits
// in Write when the other ends.
func TestUnreadDirectionAlone(t *testing.T) {
	client, front := pair(t)
	server, back := pair(t)
	over := make(chan struct{})
	go func() {
		join(front, back, 200*time.Millisecond)
		close(over)
	}()
	full := make(chan struct{})
	go func() {
		defer close(full)
		for err := error(nil); err == nil; { // until the tunnel, whose client reads nothing, is full
			server.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			_, err = server.Write(make([]byte, 64<<10))
		}
	}()
	<-full
	client.CloseWrite()
	<-over
}

// pair returns the two ends of a TCP connection.
func pair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialed.Close(); accepted.Close() })
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn)
}
