package server

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/upgrade"
)

// wantsUpgrade returns the token of a request for an upgrade that Hijack may grant, or "". That is
// WebSocket alone: any other protocol could be one that the web server itself acts on (F31).
func wantsUpgrade(r *gateway.Request) string {
	token, _ := r.Params.Lookup("HTTP_UPGRADE")
	if !strings.EqualFold(string(token), "websocket") {
		return ""
	}
	connection, _ := r.Params.Lookup("HTTP_CONNECTION")
	for field := range strings.SplitSeq(string(connection), ",") {
		if strings.EqualFold(strings.TrimSpace(field), "upgrade") {
			return string(token)
		}
	}
	return ""
}

// Hijack sends the head of a 101 and hands over the connection.
func (w *connWriter) Hijack() (gateway.Stream, error) {
	r, err := w.c.Acquire()
	if err != nil {
		return nil, err
	}
	defer r.Unlock()
	switch {
	case w.c.req.Upgrade == "":
		return nil, fmt.Errorf("gateway: Hijack: the request does not ask for an upgrade: %w", errors.ErrUnsupported)
	case r.committed:
		return nil, errors.New("gateway: Hijack after the head was settled")
	}
	s, err := w.c.takeOver()
	if err != nil {
		w.c.s.group.Busy(w.c) // the watcher that it had is to start again
		return nil, err
	}
	w.c.hijacked = true
	w.c.s.group.Remove(w.c) // the server neither waits for it nor closes it
	w.c.s.observer.Free()
	return s, nil
}

// takeOver ends all reading and sends the head.
func (c *conn) takeOver() (gateway.Stream, error) {
	if err := c.endReading(); err != nil {
		return nil, err
	}
	err := c.switchProtocols() // without mu, since it writes
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.watchAgain()
		return nil, err
	}
	early := make([]byte, c.mem.queue.Len(), c.mem.queue.Len()+c.in.Len())
	c.mem.queue.Take(early)
	early = append(early, c.in.Buffered()...)
	c.c.SetDeadline(time.Time{})
	return &upgrade.Stream{Conn: c.c, Early: early}, nil
}

// endReading ends the watcher, if the connection can be taken over.
func (c *conn) endReading() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.left > 0:
		return errors.New("gateway: Hijack with an unread body")
	case c.reading:
		return errors.New("gateway: Hijack while the body is being read")
	}
	if !c.stopReading() {
		return errors.New("gateway: Hijack of a connection without deadlines")
	}
	if c.lost != nil {
		c.watchAgain()
	}
	return c.lost
}

// watchAgain undoes stopReading: c remains a request, whose peer is watched. mu is held.
func (c *conn) watchAgain() {
	c.stopped = false
	c.startWatcher()
}

// switchProtocols writes the head of the 101. The handler may have set Upgrade and Connection
// itself.
func (c *conn) switchProtocols() error {
	head := &c.writer.Head
	token, ok := head.Header.Lookup("Upgrade")
	if ok && !strings.EqualFold(string(token), c.req.Upgrade) {
		return fmt.Errorf("gateway: Hijack to %q, which the request did not ask for: %w", token, gateway.ErrMalformed)
	}
	if !ok {
		head.Header.Set("Upgrade", c.req.Upgrade)
	}
	if _, ok := head.Header.Lookup("Connection"); !ok {
		head.Header.Set("Connection", "Upgrade")
	}
	head.Status, head.ContentLength = 101, -1
	out := &c.response.Out
	b, err := c.s.AppendHead(out.B, head)
	if err != nil {
		return fmt.Errorf("gateway: response: %v", err)
	}
	out.B = b
	c.c.SetWriteDeadline(c.s.writeDeadline())
	return out.Flush()
}
