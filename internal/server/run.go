package server

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"time"

	"github.com/gatehouse-go/gatehouse/internal/sockets"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Listen opens a listener on an address of package sockets. protocol is for errors.
func Listen(protocol, addr string, mode fs.FileMode) (net.Listener, error) {
	l, err := sockets.Listen(addr, mode)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", protocol, err)
	}
	return l, nil
}

// A Runner is the server of a protocol.
type Runner interface {
	Listen(addr string) (net.Listener, error)
	Stoppable
}

// A Stoppable serves until it is shut down.
type Stoppable interface {
	Serve(l net.Listener) error
	Shutdown(ctx context.Context) error
}

// ListenAndServe listens on addr and serves until s is closed.
func ListenAndServe(s Runner, addr string) error {
	l, err := s.Listen(addr)
	if err != nil {
		return err
	}
	return s.Serve(l)
}

// Run listens on addr and serves until ctx is done, then shuts s down within timeout: zero means 30
// seconds, a negative value no limit.
func Run(ctx context.Context, s Runner, addr string, timeout time.Duration) error {
	l, err := s.Listen(addr)
	if err != nil {
		return err
	}
	return ServeUntil(ctx, s, l, timeout)
}

// ServeUntil is Run with a listener.
func ServeUntil(ctx context.Context, s Stoppable, l net.Listener, timeout time.Duration) error {
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	ctx = context.WithoutCancel(ctx)
	if d := stream.Timeout(timeout, 30*time.Second); d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	return s.Shutdown(ctx)
}
