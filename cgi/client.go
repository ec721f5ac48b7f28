package cgi

import (
	"cmp"
	"context"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/client"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
	"github.com/gatehouse-go/gatehouse/internal/params"
	"github.com/gatehouse-go/gatehouse/internal/proc"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Client is a gateway.RoundTripper that runs a program for each request. Set its fields before the
// first use and do not change them afterwards. Its methods may be called by several goroutines at
// once.
//
// The environment of the program is built for it: the request's params, Env, and of this process's
// environment PATH and the variables that InheritEnv names. The params that are passed are those of
// RFC 3875, HTTPS, and those whose names begin with CONTENT_, DOCUMENT_, HTTP_, REDIRECT_, REMOTE_,
// REQUEST_, SCRIPT_, SERVER_ or SSL_; PassParams names others. REDIRECT_STATUS is 200, and
// SCRIPT_FILENAME the program, unless the request has its own. No shell is involved.
//
// The working directory is that of the program, section 7.2. The program runs in its own process
// group. When the exchange ends before the program does, or before its output has ended, the group
// is sent SIGTERM, and SIGKILL after Grace.
//
// On systems that are not Unix the program is killed at once, processes that it started go on, and
// pipes have no deadlines: Timeout and ctx limit a run; SendTimeout, HeadTimeout, BodyTimeout and
// Grace do not.
type Client struct {
	// Path is the program that every request runs. A relative Path is resolved against the working
	// directory of this process at the first request, and is not searched for in PATH. If Path is
	// empty, Root is used.
	Path string

	// Root is the folder of scripts, if Path is empty. The script is SCRIPT_FILENAME, if the
	// request has one, or else the first file that PATH_INFO names. It is confined to Root with
	// os.Root, and on Linux it is the file that was checked that is run: a program by its
	// descriptor, and a script, if Dir is empty, as ./NAME in the folder that was opened. A user
	// who may write into the folder of a script can replace it at any moment.
	Root string

	// Args are the arguments after the program's name.
	Args []string

	// Dir is the working directory of the program. Empty means the folder that holds the program.
	Dir string

	// Env lists variables, as "NAME=value", that are set for every request. They win over the
	// request's params. If an entry is malformed, or is CONTENT_LENGTH, every request fails with
	// gateway.ErrParam.
	Env []string

	// PassParams names params of requests that are passed to the program besides those that always
	// are.
	PassParams []string

	// PassAuthorization passes HTTP_AUTHORIZATION and HTTP_PROXY_AUTHORIZATION, also with REDIRECT_
	// in front, to the program, which then learns the user's password. RFC 3875 section 4.1.18
	// advises against it. Set it for programs that check passwords themselves.
	PassAuthorization bool

	// InheritEnv names variables that are taken from this process. PATH always is.
	InheritEnv []string

	// MaxProcs limits the number of programs at once, including those that are being ended. Further
	// requests wait, until their context is done. Zero or a negative value means 64.
	MaxProcs int

	// Timeout limits the run of the program. After it the program is ended, and the error is
	// os.ErrDeadlineExceeded. Zero or a negative value means no limit.
	Timeout time.Duration

	// SendTimeout limits the time in which no byte of the request's body can be written. Zero means
	// 60 seconds; a negative value means no limit.
	SendTimeout time.Duration

	// HeadTimeout limits the time to the end of the response's head, from the start of the program
	// or the last byte of the body that it took, whichever is later. Zero means 60 seconds; a
	// negative value means no limit.
	HeadTimeout time.Duration

	// BodyTimeout limits the time that one read of the output waits. Zero means 60 seconds; a
	// negative value means no limit.
	BodyTimeout time.Duration

	// NPH makes the output of programs whose names begin with "nph-" an HTTP response with a status
	// line (section 5), which is parsed and checked. Without NPH such a program must respond like
	// any other.
	NPH bool

	// QueryArgs makes arguments of the words of a query without "=", section 4.4, unless a word is
	// empty, begins with "-" or a space, or has a byte that is not printable ASCII.
	QueryArgs bool

	// FollowLinks allows symbolic links that lead out of Root.
	FollowLinks bool

	// Grace is the time between SIGTERM and SIGKILL. It is also how long output of other processes
	// is read after the program has ended. Zero or a negative value means 5 seconds.
	Grace time.Duration

	// Prepare, if not nil, may change the command before it is started, such as SysProcAttr. It
	// must not change Stdin, Stdout and Stderr. The process group is set after it. If it returns an
	// error, the request fails with it.
	Prepare func(ctx context.Context, cmd *exec.Cmd, r *gateway.Request) error

	// MaxHeadBytes limits the head of a response, in bytes. Zero or a negative value means 64 KiB.
	MaxHeadBytes int

	// Stderr, if not nil, is called for each line of standard error: at most 4 KiB, with control
	// bytes escaped, valid until it returns; at most 64 KiB of a run, and none after the Body was
	// closed. Nil means that lines go to Logger.
	Stderr func(ctx context.Context, line []byte)

	// Observe, if not nil, is called once for each RoundTrip: when it fails, or when the Body of
	// its response has ended or is closed. Several goroutines may call it at once. x is valid until
	// it returns.
	Observe func(ctx context.Context, x *gateway.Exchange)

	// Logger receives log records. Nil means slog.Default.
	Logger *slog.Logger

	once   sync.Once
	env    *pairs.List
	path   string // Path, absolute
	root   string // Root, absolute
	core   *client.Client
	reaper proc.Reaper
}

const (
	defaultProcs = 64
	defaultGrace = 5 * time.Second
)

// RoundTrip runs the program, sends r and reads the head of the response into res; see
// gateway.RoundTripper. Errors are *gateway.Error. Before a program is run (PhaseRequest) their
// causes are gateway.ErrParam, gateway.ErrLengthRequired (a body with a ContentLength of -1; see
// gateway.Spool), fs.ErrNotExist for a script that does not exist, and fs.ErrPermission for one
// that must not be run. After that they are gateway.ErrNoResponse if the program ends without a
// byte of output, gateway.ErrTruncated if it is killed or ends inside the head, and
// gateway.ErrMalformed and gateway.ErrTooLarge as of gateway.ConsumeResponse; such an error has the
// first line that the program printed in place of a head, escaped, 200 bytes at most.
//
// A program that does not read its input, or exits with a status other than 0, has responded all
// the same. The status is res.AppStatus when Body has returned io.EOF, which it does when the
// program has ended. A program that closes its output and goes on is ended after Grace. When ctx is
// done, or when the Body is closed, the program is ended.
//
// r.Stderr, if it is set, receives the first 64 KiB that the program writes to standard error,
// unchanged, from another goroutine, until the end of Body.
func (c *Client) RoundTrip(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
	return c.client().RoundTrip(ctx, r, res)
}

// Stats returns the counters since the first use, and the current gauges. Dialed counts the
// programs that were started.
func (c *Client) Stats() gateway.Stats { return c.client().Stats() }

// Close waits until the programs whose exchanges are over have ended, those included that still
// finish a response without a body. They are killed after Grace, so that Close takes about twice
// Grace at most. Call it before the process exits. It does not
// affect exchanges in progress and returns nil. The Client can be used again.
func (c *Client) Close() error {
	c.client().Close()
	c.reaper.Wait()
	return nil
}

// client returns the core of c, which is made of the fields when it is first asked for.
func (c *Client) client() *client.Client {
	c.once.Do(func() {
		var fault error
		c.env, fault = params.Env(c.Env)
		if fault == nil && c.Root != "" {
			c.root, fault = filepath.Abs(c.Root)
		}
		if fault == nil && c.Path != "" {
			c.path, fault = filepath.Abs(c.Path)
		}
		c.core = client.New(
			client.Settings{
				"cgi", cmp.Or(c.Path, c.Root), stream.Limit(c.MaxProcs, defaultProcs), c.MaxHeadBytes,
				c.SendTimeout, c.HeadTimeout, c.BodyTimeout, c.Observe,
			},
			c.prepare, fault,
		)
	})
	return c.core
}

// prepare finds the script and builds its environment. No part of a head goes over its pipes.
func (c *Client) prepare(dst []byte, r *gateway.Request) (head []byte, open client.Open, err error) {
	s, err := c.script(r)
	if err != nil {
		return dst, nil, err
	}
	env, err := c.environ(r, s)
	if err != nil {
		return dst, nil, err
	}
	j := &job{client: c, script: s, args: c.arguments(r), env: env, r: r}
	return dst, j.start, nil
}

// statusLine says how the response of the program begins: that of an NPH script with an HTTP status
// line.
func (c *Client) statusLine(name string) stream.StatusLine {
	if c.NPH && strings.HasPrefix(name[strings.LastIndexByte(name, '/')+1:], "nph-") {
		return stream.LineRequired
	}
	return stream.LineRefused
}
