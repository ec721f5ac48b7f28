package cgi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/server"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Server answers the one request this process was started for: the environment is its params, standard input its body,
// and the answer goes to standard output. What the handler writes to Stderr goes to standard error.
type Server struct {
	Handler gateway.Handler
	Logger  *slog.Logger // nil stands for standard error
}

// ErrNotStarted says that the environment is not that of a CGI script.
var ErrNotStarted = errors.New("cgi: GATEWAY_INTERFACE is not set: this process was not started as a CGI script")

// ExitStatus is what Serve returns if the answer was sent and the handler has set an AppStatus other than 0. Exit with it.
type ExitStatus uint32

func (s ExitStatus) Error() string { return fmt.Sprintf("cgi: exit status %d", uint32(s)) }

// Started reports whether this process was started as a CGI script: GATEWAY_INTERFACE is CGI/1.1.
func Started() bool { return os.Getenv("GATEWAY_INTERFACE") == "CGI/1.1" }

// Serve answers the request and returns nil when the answer has been sent: then exit with status 0, whatever HTTP status
// it had. ErrNotStarted: there is no request, and nothing was written. ExitStatus: exit with that. Any other error: the
// answer is not whole. HTTP_PROXY is gone from this process before the handler runs (F1).
//
// A request that breaks a rule is answered, with a 400 for one, and that answer was sent, too.
//
// The request's context is done when ctx is or when the handler has returned. A web server that gives up sends SIGTERM
// (signal.NotifyContext), or closes standard output: then the next Write ends the process with SIGPIPE, as it does any
// program, or is an error if signal.Ignore or signal.Notify say so.
func (s *Server) Serve(ctx context.Context) error {
	if _, ok := os.LookupEnv("GATEWAY_INTERFACE"); !ok {
		return ErrNotStarted
	}
	core := &server.Server{
		Handler:    s.Handler,
		ReadHead:   func(_ *stream.Input, r *gateway.Request) error { return readHead(r) },
		AppendHead: gateway.AppendResponse,
		Logger:     s.logger,
		Stderr:     os.Stderr,
		Process:    true,
	}
	status, err := core.ServeProcess(ctx, stdio{})
	if err != nil {
		return fmt.Errorf("cgi: %w", err)
	}
	if status != 0 {
		return ExitStatus(min(status, 255)) // what a process can exit with; 256 would be 0
	}
	return nil
}

func (s *Server) logger() *slog.Logger {
	if s.Logger != nil {
		return s.Logger
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil))
}

// ReadRequest reads the request this process was started for, without serving it: the environment into req.Params, by
// the rules of package gateway, and req.Body is standard input, of CONTENT_LENGTH bytes and no more; an absent or empty
// CONTENT_LENGTH is 0, section 4.1.2. HTTP_PROXY is gone from it and from this process. Errors are ErrNotStarted,
// gateway.ErrParam and gateway.ErrTooLarge.
func ReadRequest(req *gateway.Request) error {
	req.Reset()
	if _, ok := os.LookupEnv("GATEWAY_INTERFACE"); !ok {
		return ErrNotStarted
	}
	if err := readHead(req); err != nil {
		req.Reset()
		return err
	}
	if req.ContentLength > 0 {
		in := new(stream.Input)
		in.Reset(os.Stdin)
		req.Body = &stream.Body{In: in, Left: req.ContentLength}
	}
	return nil
}

func readHead(req *gateway.Request) error {
	os.Unsetenv("HTTP_PROXY")
	if err := ConsumeEnv(os.Environ(), &req.Params); err != nil {
		return err
	}
	if err := stream.Receive(req); err != nil {
		return fmt.Errorf("cgi: %w", err)
	}
	return nil
}

// stdio is this process's input and output as a connection. It is never closed: the web server sees the end of the
// answer when the process exits, and the program may still have something to say on standard error.
type stdio struct{}

func (stdio) Read(p []byte) (int, error)         { return os.Stdin.Read(p) }
func (stdio) Write(p []byte) (int, error)        { return os.Stdout.Write(p) }
func (stdio) Close() error                       { return nil }
func (stdio) LocalAddr() net.Addr                { return nil }
func (stdio) RemoteAddr() net.Addr               { return nil }
func (stdio) SetDeadline(t time.Time) error      { return nil }
func (stdio) SetReadDeadline(t time.Time) error  { return os.Stdin.SetReadDeadline(t) }
func (stdio) SetWriteDeadline(t time.Time) error { return os.Stdout.SetWriteDeadline(t) }

var _ io.ReadWriteCloser = stdio{}
