package uwsgi

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/gatehouse-go/gatehouse/gateway"
)

const (
	maxSubscription = 4096 // bytes of a datagram that routers read
	maxNode         = 255  // bytes of a key, and of an address
)

// Subscription announces a node to a router of uWSGI, its fastrouter or its HTTP router: requests
// for Key are to be sent to Address. It is one datagram, of which routers read 4,096 bytes.
type Subscription struct {
	// Key is what the router chooses by: a host, or a host and a port.
	Key string

	// Address is where the node listens: "host:port" or a path.
	Address string

	// Modifier1 and Modifier2 are what the router sets in the packets for this node.
	Modifier1 Modifier
	Modifier2 uint8

	// Cores, Load and Weight describe the node. For a router a Weight of 0 means 1.
	Cores, Load, Weight uint64

	// Unsubscribe says that the packet ends the subscription.
	Unsubscribe bool

	// Unix is the time of a signed packet in seconds; uWSGI sends the current time plus Modifier2.
	// It is written if Signature is not empty.
	Unix int64

	// Signature is the signature of the packet. After ConsumeSubscription it is a view of the bytes
	// that were consumed, and empty if the packet is not signed.
	Signature []byte

	// Signed is set by ConsumeSubscription to the bytes that Signature covers, a view of the bytes
	// that were consumed.
	Signed []byte
}

// AppendSubscription appends s as a packet. The signature is its last pair, as routers require. An
// empty Key or Address, one of more than 255 bytes, and a control byte in one are gateway.ErrParam;
// a packet of more than 4,096 bytes is gateway.ErrTooLarge. dst is then returned unchanged.
func AppendSubscription(dst []byte, s *Subscription) ([]byte, error) {
	b, err := appendUnsigned(dst, s, len(s.Signature) > 0)
	if err != nil {
		return dst, err
	}
	return finishSubscription(dst, b, s.Signature)
}

// appendUnsigned appends the packet without its signature. timed says that it has the time.
func appendUnsigned(dst []byte, s *Subscription, timed bool) ([]byte, error) {
	switch {
	case !node(s.Key):
		return dst, fmt.Errorf("uwsgi: subscription: Key: %w", gateway.ErrParam)
	case !node(s.Address):
		return dst, fmt.Errorf("uwsgi: subscription: Address: %w", gateway.ErrParam)
	}
	h := PacketHeader{Modifier1: ModifierSubscription}
	if s.Unsubscribe {
		h.Modifier2 = 1
	}
	b := appendPair(AppendHeader(dst, h), "key", s.Key)
	b = appendPair(b, "address", s.Address)
	for _, n := range [...]struct {
		name  string
		value uint64
	}{
		{"modifier1", uint64(s.Modifier1)}, {"modifier2", uint64(s.Modifier2)}, {"cores", s.Cores}, {"load", s.Load}, {"weight", s.Weight},
	} {
		b = appendPair(b, n.name, strconv.FormatUint(n.value, 10))
	}
	if timed {
		b = appendPair(b, "unix", strconv.FormatInt(s.Unix, 10))
	}
	return b, nil
}

// finishSubscription appends the signature, if there is one, and sets the size. b is the packet
// behind dst.
func finishSubscription(dst, b, signature []byte) ([]byte, error) {
	size := len(b) - len(dst)
	if len(signature) > 0 {
		size += len("sign") + len(signature) + 4
	}
	if size > maxSubscription {
		return dst, fmt.Errorf("uwsgi: subscription of %d bytes: %w", size, gateway.ErrTooLarge)
	}
	if len(signature) > 0 {
		b = appendPair(b, "sign", signature)
	}
	binary.LittleEndian.PutUint16(b[len(dst)+1:], uint16(size-headerSize))
	return b, nil
}

// node reports whether s may be a key or an address.
func node(s string) bool {
	control := func(c rune) bool { return c < ' ' || c == 0x7f }
	return s != "" && len(s) <= maxNode && !strings.ContainsFunc(s, control)
}

// ConsumeSubscription reads a packet from the start of b into s, which it resets first. n is its
// size, or 0 with a nil error if b holds only a part of it. Pairs with other names (backup, proto,
// notify, vassal, sni_*) are skipped. gateway.ErrMalformed means another modifier, a truncated
// pair, an invalid number, a key or an address that AppendSubscription would refuse, or a
// signature that is not the last pair; n is then -1 and s empty.
//
// The signature is not verified. Any process that can send a datagram can claim a key: verify
// Signature over Signed, and Unix, before you use the subscription.
func ConsumeSubscription(b []byte, s *Subscription) (n int, err error) {
	*s = Subscription{}
	h, used := ConsumeHeader(b)
	end := used + int(h.Size)
	if used == 0 || len(b) < end {
		return 0, nil
	}
	if h.Modifier1 != ModifierSubscription || h.Modifier2 > 1 || !s.pairs(b[used:end]) || !node(s.Key) || !node(s.Address) {
		*s = Subscription{}
		return -1, fmt.Errorf("uwsgi: subscription: %w", gateway.ErrMalformed)
	}
	s.Unsubscribe = h.Modifier2 == 1
	return end, nil
}

// pairs reads the pairs of a packet. It returns false if one is invalid.
func (s *Subscription) pairs(b []byte) bool {
	for at := 0; at < len(b); {
		name, value, n := ConsumeParam(b[at:])
		if n <= 0 || len(s.Signature) > 0 || !s.set(string(name), value) {
			return false
		}
		if string(name) == "sign" {
			s.Signature, s.Signed = value, b[:at:at]
		}
		at += n
	}
	return true
}

// set sets the field of a pair.
func (s *Subscription) set(name string, value []byte) bool {
	var err error
	number := func(bits int) (n uint64) {
		n, err = strconv.ParseUint(string(value), 10, bits)
		return n
	}
	switch name {
	case "key":
		s.Key = string(value)
	case "address":
		s.Address = string(value)
	case "modifier1":
		s.Modifier1 = Modifier(number(8))
	case "modifier2":
		s.Modifier2 = uint8(number(8))
	case "cores":
		s.Cores = number(64)
	case "load":
		s.Load = number(64)
	case "weight":
		s.Weight = number(64)
	case "unix":
		s.Unix = int64(number(63))
	case "sign":
		return len(value) > 0
	}
	return err == nil
}
