package uwsgi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/gatehouse-go/gatehouse/internal/sockets"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Subscriber keeps a node subscribed to routers. Set its fields before Run and do not change them
// afterwards.
type Subscriber struct {
	// Subscription describes the node. Run sets Unix, Signature and Unsubscribe.
	Subscription

	// Routers lists the addresses of the subscription servers: "host:port" for UDP, or "unix:/path"
	// for a datagram socket.
	Routers []string

	// Interval is the time between two packets. Zero or a negative value means 10 seconds; a router
	// forgets a node after 17.
	Interval time.Duration

	// Sign, if not nil, returns the signature of signed: that of rsa.SignPKCS1v15 with the digest
	// that the router is configured for. Nil means that packets are not signed.
	Sign func(signed []byte) ([]byte, error)

	// Logger receives log records. Nil means slog.Default.
	Logger *slog.Logger
}

const defaultInterval = 10 * time.Second

// Run subscribes until ctx is done, and then unsubscribes: from then on a router sends no new
// requests. It returns nil, or why it could not begin: no router, an invalid address, an error
// of AppendSubscription or of Sign. A packet that cannot be sent later is logged, and the next one
// is sent after Interval.
func (s *Subscriber) Run(ctx context.Context) error {
	if len(s.Routers) == 0 {
		return errors.New("uwsgi: Subscriber without Routers")
	}
	for _, addr := range s.Routers {
		if _, _, err := sockets.Network(addr); err != nil {
			return fmt.Errorf("uwsgi: %w", err)
		}
	}
	if _, err := s.packet(false); err != nil {
		return err
	}
	tick := time.NewTicker(stream.Limit(s.Interval, defaultInterval))
	defer tick.Stop()
	for {
		s.announce(ctx, false)
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.announce(context.WithoutCancel(ctx), true)
			return nil
		}
	}
}

// announce sends a packet to every router.
func (s *Subscriber) announce(ctx context.Context, unsubscribe bool) {
	b, err := s.packet(unsubscribe)
	for _, addr := range s.Routers {
		if err := cmp.Or(err, send(ctx, addr, b)); err != nil {
			cmp.Or(s.Logger, slog.Default()).WarnContext(ctx, "subscription not sent", "router", addr, "key", s.Key, "error", err)
		}
	}
}

// packet returns the packet to be sent now.
func (s *Subscriber) packet(unsubscribe bool) ([]byte, error) {
	now := s.Subscription
	now.Unsubscribe = unsubscribe
	now.Unix = time.Now().Unix() + int64(now.Modifier2)
	b, err := appendUnsigned(nil, &now, s.Sign != nil)
	var signature []byte
	if err == nil && s.Sign != nil {
		signature, err = s.Sign(b[headerSize:])
		switch {
		case err != nil:
			err = fmt.Errorf("uwsgi: Sign: %w", err)
		case len(signature) == 0:
			err = errors.New("uwsgi: Sign returned no signature")
		}
	}
	if err != nil {
		return nil, err
	}
	return finishSubscription(nil, b, signature)
}

// send sends a datagram. The socket is opened anew each time: a router that was started again has
// another socket of that path.
func send(ctx context.Context, addr string, b []byte) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	network, address := "udp", addr
	if path, unix := strings.CutPrefix(addr, "unix:"); unix {
		network, address = "unixgram", path
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	c.SetWriteDeadline(deadline) // a Unix socket waits while the queue of the router is full
	_, err = c.Write(b)
	return err
}
