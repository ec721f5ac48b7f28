package cgi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/server"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Server responds to the one request that this process was started for: the environment is its
// params, standard input its body, and the response goes to standard output. What the handler
// writes to Stderr goes to standard error.
type Server struct {
	// Handler responds to requests. Nil means that requests are refused with the status 501.
	Handler gateway.Handler

	// Observe, if not nil, is called once for each request, after its response has ended or was
	// cut, including requests that the server refused itself. ctx is the context of the connection,
	// or the one of Request.SetContext. r and x must not be used after Observe returns. A slow
	// Observe delays the next request of the connection. If Observe is nil, nothing is measured.
	Observe func(ctx context.Context, r *gateway.Request, x *gateway.ServerExchange)

	// Logger receives log records. Nil means standard error.
	Logger *slog.Logger
}

// ErrNotStarted means that the environment is not that of a CGI program.
var ErrNotStarted = errors.New("cgi: GATEWAY_INTERFACE is not set: this process was not started as a CGI program")

// ExitStatus is the error of Serve if the response was sent and the handler set an AppStatus other
// than 0. The program should exit with it. It is at most 255.
type ExitStatus uint32

func (s ExitStatus) Error() string { return fmt.Sprintf("cgi: exit status %d", uint32(s)) }

// Started reports whether this process was started as a CGI program: GATEWAY_INTERFACE is CGI/1.1.
func Started() bool { return os.Getenv("GATEWAY_INTERFACE") == "CGI/1.1" }

// Serve responds to the request. It returns nil if the response was sent, whatever its status; the
// program should then exit with status 0. It returns ErrNotStarted, and writes nothing, if there is
// no request, and an ExitStatus if the response was sent and the handler called SetAppStatus with a
// status other than 0. Any other error means that the response is incomplete. Serve removes
// HTTP_PROXY from the environment of this process, since programs use it as their proxy.
func (s *Server) Serve(ctx context.Context) error {
	if _, ok := os.LookupEnv("GATEWAY_INTERFACE"); !ok {
		return ErrNotStarted
	}
	p := newProgram(s.logger)
	p.observer.Observe = s.Observe
	p.ctx = ctx
	p.record = p.observer.Start(false)
	p.response.Out.Timed = p.record != nil
	err := readHead(&p.req)
	p.record.HeadDone()
	if err == nil && s.Handler == nil {
		err = server.ErrNoHandler
	}
	if err == nil {
		err = p.run(ctx, s.Handler)
	} else {
		err = p.refuse(err)
	}
	if err != nil {
		return fmt.Errorf("cgi: %w", err)
	}
	if status := p.response.AppStatus; status != 0 {
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

// ReadRequest reads the request that this process was started for, without serving it: the
// environment into req.Params, by the rules of package gateway. req.Body is standard input, of
// CONTENT_LENGTH bytes and no more; an absent or empty CONTENT_LENGTH means 0, section 4.1.2.
// HTTP_PROXY is removed from req and from this process. Errors are ErrNotStarted, gateway.ErrParam
// and gateway.ErrTooLarge.
func ReadRequest(req *gateway.Request) error {
	req.Reset()
	if _, ok := os.LookupEnv("GATEWAY_INTERFACE"); !ok {
		return ErrNotStarted
	}
	if err := readHead(req); err != nil {
		req.Reset()
		return err
	}
	req.Body = gateway.NoBody
	if req.ContentLength > 0 {
		req.Body = newInput(req.ContentLength)
	}
	return nil
}

func readHead(req *gateway.Request) error {
	os.Unsetenv("HTTP_PROXY")
	if err := ConsumeEnv(os.Environ(), &req.Params); err != nil {
		return err
	}
	return stream.Receive("cgi", req)
}

// newInput returns a reader of the first length bytes of standard input.
func newInput(length int64) *stream.Body {
	in := new(stream.Input)
	in.Reset(os.Stdin)
	return &stream.Body{In: in, Left: length}
}

// A program is this process and the request that it was started for. It is the server.Owner and the
// server.Framer of the response. Standard output is never closed: the web server sees the end of
// the response when the process exits, and the program may still write to standard error.
type program struct {
	server.Unframed

	req      gateway.Request
	response server.Response
	common   server.Common
	writer   responseWriter
	over     atomic.Bool // the handler has returned
	observer server.Observer
	record   *server.Record
	ctx, own context.Context // of Serve, and that of the request, below it
	body     *requestBody    // nil if there is none
}

func newProgram(logger func() *slog.Logger) *program {
	p := &program{common: server.Common{Logger: logger, AppendHead: gateway.AppendResponse}}
	p.observer.Logger = logger
	p.writer.p, p.writer.Owner = p, p
	p.response.Out.Reset(os.Stdout)
	p.response.Reset(&p.writer.Head, p, &p.common)
	return p
}

// run runs the handler and ends the response.
func (p *program) run(ctx context.Context, h gateway.Handler) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.own = ctx
	p.req.SetContext(ctx)
	p.req.Body = gateway.NoBody
	if p.req.ContentLength > 0 {
		p.body = &requestBody{p: p, r: newInput(p.req.ContentLength)}
		p.req.Body = p.body
	}
	err = server.ErrGoexit
	defer func() { err = p.finish(err) }()
	err = server.CallHandler(h, &p.writer, &p.req, p.common.Logger)
	return err
}

func (p *program) finish(err error) error {
	p.response.Lock()
	defer p.response.Unlock()
	p.over.Store(true)
	cut := p.response.Complete(&p.req, err)
	out := p.response.Outcome()
	p.record.Keep(&p.req)
	if cut {
		err = fmt.Errorf("response cut: %w", cmp.Or(err, out.Err))
	} else if _, err = p.Send(nil); err != nil {
		out.Err = cmp.Or(out.Err, err)
	}
	out.First = p.response.Out.First
	if p.body != nil {
		out.Received = p.body.taken()
	}
	p.observer.End(p.record, p.observed(), out)
	return err
}

// observed returns the context for Observe: that of SetContext, or that of Serve.
func (p *program) observed() context.Context {
	if ctx := p.req.Context(); ctx != p.own {
		return ctx
	}
	return p.ctx
}

// refuse responds to a request that breaks a rule. It returns nil if the response was sent.
func (p *program) refuse(err error) error {
	status := server.Refusal(err)
	if status == 0 {
		return err
	}
	server.LogRequest(p.common.Logger(), server.LevelOf(status), "request refused", &p.req, slog.Int("status", status), slog.Any("error", err))
	b, _ := gateway.AppendResponse(nil, &gateway.Response{Status: status})
	p.observer.Request()
	_, werr := os.Stdout.Write(b)
	p.record.Keep(&p.req)
	p.observer.End(p.record, p.ctx, server.Outcome{Status: status, First: time.Now(), Err: err, Refused: true})
	if werr != nil {
		return err
	}
	return nil
}

// Acquire locks the response.
func (p *program) Acquire() (*server.Response, error) {
	p.response.Lock()
	if p.over.Load() {
		p.response.Unlock()
		return nil, server.ErrOver
	}
	return &p.response, nil
}

// Send writes what was gathered, and b behind it.
func (p *program) Send(b []byte) (int, error) { return p.response.Out.Write(b) }

// A responseWriter is the gateway.ResponseWriter of a program.
type responseWriter struct {
	server.ResponseWriter
	p *program
}

var _ gateway.ResponseWriter = (*responseWriter)(nil)

// Stderr returns a writer to standard error.
func (w *responseWriter) Stderr() io.Writer { return standardError{w.p} }

type standardError struct{ p *program }

func (e standardError) Write(b []byte) (int, error) {
	r, err := e.p.Acquire()
	if err != nil {
		return 0, err
	}
	defer r.Unlock()
	return os.Stderr.Write(b)
}

// SetReadDeadline sets the deadline of standard input, where the system allows that.
func (w *responseWriter) SetReadDeadline(t time.Time) error { return w.setDeadline(os.Stdin, t) }

// SetWriteDeadline sets the deadline of standard output, where the system allows that.
func (w *responseWriter) SetWriteDeadline(t time.Time) error { return w.setDeadline(os.Stdout, t) }

func (w *responseWriter) setDeadline(f *os.File, t time.Time) error {
	if w.p.over.Load() {
		return server.ErrOver
	}
	if f == os.Stdin {
		return f.SetReadDeadline(t)
	}
	return f.SetWriteDeadline(t)
}

// A requestBody is the Body of a program's request.
type requestBody struct {
	p  *program
	mu sync.Mutex // held while r is read
	r  *stream.Body
}

// taken returns the number of bytes that the handler has read. A Read that it left behind is not
// waited for.
func (b *requestBody) taken() int64 {
	if !b.mu.TryLock() {
		return 0
	}
	defer b.mu.Unlock()
	return b.p.req.ContentLength - b.r.Left
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.p.over.Load() {
		return 0, server.ErrOver
	}
	return b.r.Read(p)
}
