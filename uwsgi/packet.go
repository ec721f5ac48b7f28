package uwsgi

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/client"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// AppendItem appends an item of an array, as of a remote procedure call: its length in two bytes,
// little-endian, and its bytes. An item of more than 65,535 bytes is gateway.ErrTooLarge.
func AppendItem[V ~string | ~[]byte](dst []byte, item V) ([]byte, error) {
	if len(item) > math.MaxUint16 {
		return dst, fmt.Errorf("uwsgi: item: %w", gateway.ErrTooLarge)
	}
	return append(binary.LittleEndian.AppendUint16(dst, uint16(len(item))), item...), nil
}

// ConsumeItem reads an item from the start of b; item is a view of it. n is its size with the
// length, or 0 if b holds only a part of it.
func ConsumeItem(b []byte) (item []byte, n int) {
	if len(b) < 2 {
		return nil, 0
	}
	n = 2 + int(binary.LittleEndian.Uint16(b))
	if len(b) < n {
		return nil, 0
	}
	return b[2:n:n], n
}

// Packet sends a packet that is not a request, such as a remote procedure call (ModifierRPC), a
// task for the spooler, a signal or an operation on the cache, on a connection of its own. The size
// in h is that of payload. Packet returns all that is received until the connection is closed,
// usually a packet: a header for ConsumeHeader, and what follows it. It waits for HeadTimeout.
// Errors are *gateway.Error, unless Addr or Env is invalid. The cause is gateway.ErrTooLarge for a
// payload of more than 65,535 bytes and a response of more than MaxHeadBytes, and
// gateway.ErrNoResponse if nothing is received: uWSGI closes the connection to refuse a packet,
// and if an entry of the cache is missing.
func (c *Client) Packet(ctx context.Context, h PacketHeader, payload []byte) (response []byte, err error) {
	if len(payload) > math.MaxUint16 {
		return nil, &gateway.Error{Phase: gateway.PhaseRequest, Addr: c.Addr, Err: fmt.Errorf("uwsgi: packet of %d bytes: %w", len(payload), gateway.ErrTooLarge)}
	}
	h.Size = uint16(len(payload))
	most := int64(stream.Limit(c.MaxHeadBytes, stream.DefaultResponseHead))
	b := append(AppendHeader(nil, h), payload...)
	err = c.send(ctx, stream.Timeout(c.HeadTimeout, client.DefaultHeadTimeout), b, func(in *stream.Input) error {
		response, err = io.ReadAll(io.LimitReader(in, most+1))
		switch {
		case err != nil:
			return fmt.Errorf("uwsgi: packet: %w", err)
		case len(response) == 0:
			return fmt.Errorf("uwsgi: packet: %w", gateway.ErrNoResponse)
		case int64(len(response)) > most:
			return fmt.Errorf("uwsgi: packet: response of more than %d bytes: %w", most, gateway.ErrTooLarge)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return response, nil
}
