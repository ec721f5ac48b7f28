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

// Client is a gateway.RoundTripper that runs a program for each request. Set its fields before the first use and leave
// them; its methods may be called by several goroutines at once.
//
// The program is given an environment that is built for it: the request's params, Env, and of this process's
// environment PATH and what InheritEnv names. Of the params those go that have names of A to Z, 0 to 9 and "_" and mean
// nothing to a loader, a shell or an interpreter: PATH, HOME, LD_*, GIT_*, PERL*, PYTHON* and their like are for Env alone.
// No shell is involved.
//
// Its working directory is that of the program, section 7.2. It runs in a process group of its own. When its exchange ends
// before it does, or before its output has ended, the group is sent SIGTERM, and after Grace SIGKILL.
//
// On systems that are not Unix the program is killed at once, what it has started goes on, and pipes know no time-outs:
// Timeout and ctx bound a run, HeadTimeout, IdleTimeout and Grace do not.
type Client struct {
	Path         string                                                             // the program for every request, relative to the working directory and never looked for in PATH; "" takes a script below Root
	Root         string                                                             // SCRIPT_FILENAME if the request has one, else the first file that PATH_INFO names; confined with os.Root
	Args         []string                                                           // after the program's name
	Dir          string                                                             // "" stands for the program's own
	Env          []string                                                           // "NAME=value", sent with every request; beats its params; the only way for GIT_*, PERL* and the like
	InheritEnv   []string                                                           // names taken from this process; PATH is always
	MaxProcs     int                                                                // at once, those included that are being ended; 0 stands for 64; more wait under their context
	Timeout      time.Duration                                                      // of the whole run; 0 stands for none
	SendTimeout  time.Duration                                                      // in which no byte of the body can be written; 0 means 60 s, a negative value no limit
	HeadTimeout  time.Duration                                                      // from the start to the answer's head whole; 0 stands for none
	IdleTimeout  time.Duration                                                      // between two reads of the output; 0 stands for none
	NPH          bool                                                               // a script whose name begins with "nph-" writes an HTTP response, section 5; it is read and checked as one
	QueryArgs    bool                                                               // words of a query without "=" become arguments, section 4.4, unless one is empty, begins with "-" or a space, or holds a byte that is no printable ASCII
	FollowLinks  bool                                                               // links may lead out of Root
	Grace        time.Duration                                                      // from SIGTERM to SIGKILL, and for output that goes on after the program has ended; 0 stands for 5 s
	Prepare      func(ctx context.Context, cmd *exec.Cmd, r *gateway.Request) error // last word, but for the process group: SysProcAttr, rlimits, cgroup; its error ends the request
	MaxHeadBytes int                                                                // of an answer; 0 stands for 64 KiB
	Stderr       func(ctx context.Context, line []byte)                             // a line of at most 4 KiB, controls escaped, valid until it returns; 64 KiB of a run at the most; nil stands for Logger
	Observe      func(ctx context.Context, x *gateway.Exchange)                     // once per RoundTrip; x valid until it returns; Dial is the time to start the program
	Logger       *slog.Logger                                                       // nil stands for slog.Default

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

// RoundTrip runs the program, sends r and reads the head of its answer into res; see gateway.RoundTripper. Errors are
// *gateway.Error. Before anything is run (PhaseRequest): gateway.ErrParam, gateway.ErrLengthRequired (ContentLength -1
// with a body: give it one with gateway.Spool), fs.ErrNotExist for a script that is not there, fs.ErrPermission for one
// that may not be run. Then: gateway.ErrNoResponse, a program that ends without a byte of output, gateway.ErrTruncated,
// one that was killed or ends inside the head, gateway.ErrMalformed and gateway.ErrTooLarge, as of
// gateway.ConsumeResponse.
//
// A program that does not read its input, or exits with a status other than 0, has answered all the same; the status is
// res.AppStatus when Body has given io.EOF, which it does when the program has ended. One that closes its output and goes
// on is ended after Grace. When ctx is done the program is ended. Close of the Body ends it too.
//
// r.Stderr, if it is set, gets the first 64 KiB of what the program writes to standard error, as they are, from another
// goroutine, up to the end of Body.
func (c *Client) RoundTrip(ctx context.Context, r *gateway.Request, res *gateway.Response) error {
	return c.client().RoundTrip(ctx, r, res)
}

// Stats returns the counters since the first use, and the gauges of now; Dialed counts the programs that were started.
func (c *Client) Stats() gateway.Stats { return c.client().Stats() }

// Close waits for the programs whose exchange is over and that have not ended: until Grace, after which they are killed.
// A program should do that before it exits. Exchanges that go on are left alone. The Client can be used again.
func (c *Client) Close() error {
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
				c.SendTimeout, c.HeadTimeout, c.IdleTimeout, c.Observe,
			},
			c.prepare, fault,
		)
	})
	return c.core
}

func (c *Client) grace() time.Duration { return cmp.Or(c.Grace, defaultGrace) }

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

// statusLine says how the response of the program begins: that of an NPH script with an HTTP status line.
func (c *Client) statusLine(name string) stream.StatusLine {
	if c.NPH && strings.HasPrefix(name[strings.LastIndexByte(name, '/')+1:], "nph-") {
		return stream.LineRequired
	}
	return stream.LineRefused
}
