package fastcgi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/client"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// maxValues limits the result of GET_VALUES, in bytes.
const maxValues = 4 << 10

// Values sends GET_VALUES, section 4.1, on a connection of its own, and returns the variables of
// the result. Without names it asks for FCGI_MAX_CONNS, FCGI_MAX_REQS and FCGI_MPXS_CONNS. An
// application leaves out variables that it does not know. It waits for HeadTimeout: PHP responds
// only when it is free, fcgiwrap does not respond, and the libraries of Ruby and node end at
// GET_VALUES.
//
// Errors are *gateway.Error, unless Addr or Env is invalid. The cause is gateway.ErrNoResponse if
// the connection was closed without a result, gateway.ErrMalformed if the application does not know
// GET_VALUES or the result is invalid, gateway.ErrTooLarge for a result of more than 4 KiB, and an
// error of AppendParam in PhaseRequest.
func (c *Client) Values(ctx context.Context, names ...string) (map[string]string, error) {
	c.once.Do(c.setUp)
	if c.fault != nil {
		return nil, c.fault
	}
	b, err := appendGetValues(names)
	if err != nil {
		return nil, &gateway.Error{Phase: gateway.PhaseRequest, Addr: c.Addr, Err: err}
	}
	conn, err := c.dialer.Connect(ctx)
	if err != nil {
		return nil, client.NewError(ctx, gateway.PhaseDial, c.Addr, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if timeout := stream.Timeout(c.HeadTimeout, client.DefaultHeadTimeout); timeout > 0 {
		conn.SetDeadline(time.Now().Add(timeout))
	}
	phase := gateway.PhaseSend
	n, err := conn.Write(b)
	r := NewReader(conn)
	var values map[string]string
	if err == nil {
		phase = gateway.PhaseHead
		values, err = readValues(r)
	}
	if err != nil {
		e := client.NewError(ctx, phase, c.Addr, err)
		e.Sent, e.Received = n > 0, r.Offset() > 0
		return nil, e
	}
	return values, nil
}

// appendGetValues returns a GET_VALUES record that has each name once.
func appendGetValues(names []string) (b []byte, err error) {
	if len(names) == 0 {
		names = []string{"FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"}
	}
	var content []byte
	seen := make(map[string]bool)
	for _, name := range names {
		if seen[name] {
			continue
		}
		seen[name] = true
		if content, err = AppendParam(content, name, ""); err != nil {
			return nil, err
		}
	}
	return AppendRecord(nil, TypeGetValues, 0, content)
}

// readValues reads records until GET_VALUES_RESULT. Others, which no request asked for, are
// skipped.
func readValues(r *Reader) (map[string]string, error) {
	for {
		rec, err := r.Next()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
			return nil, fmt.Errorf("fastcgi: %w (%w)", gateway.ErrNoResponse, err)
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, fmt.Errorf("fastcgi: GET_VALUES_RESULT: %w", gateway.ErrTruncated)
		case err != nil:
			return nil, err
		case rec.Type == TypeUnknown:
			return nil, fmt.Errorf("fastcgi: GET_VALUES is unknown to the application: %w", gateway.ErrMalformed)
		case rec.Type != TypeGetValuesResult:
			continue
		case len(rec.Content) > maxValues:
			return nil, fmt.Errorf("fastcgi: GET_VALUES_RESULT of %d bytes: %w", len(rec.Content), gateway.ErrTooLarge)
		}
		values := make(map[string]string)
		for content := rec.Content; len(content) > 0; {
			name, value, n := ConsumeParam(content)
			if n <= 0 {
				return nil, fmt.Errorf("fastcgi: GET_VALUES_RESULT: %w", gateway.ErrMalformed)
			}
			values[string(name)] = string(value)
			content = content[n:]
		}
		return values, nil
	}
}
