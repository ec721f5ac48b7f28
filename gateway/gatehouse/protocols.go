package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/server"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// In this file the four protocols meet. Everything else in the command knows a client or a server.

// An address is "fastcgi://unix:/run/php.sock", "uwsgi://127.0.0.1:3031" or "cgi:/usr/lib/cgi-bin",
// split.
type address struct{ protocol, addr string }

const wantAddress = "want fastcgi://, scgi:// or uwsgi:// and host:port or unix:/path, or cgi:/path"

func parseAddress(s string) (a address, err error) {
	if path, ok := strings.CutPrefix(s, "cgi:"); ok {
		if path = strings.TrimPrefix(path, "//"); path == "" {
			return a, fmt.Errorf("%q: no path after the colon", s)
		}
		return address{"cgi", path}, nil
	}
	protocol, addr, ok := strings.Cut(s, "://")
	switch {
	case !ok:
		return a, fmt.Errorf("%q: %s", s, wantAddress)
	case protocol != "fastcgi" && protocol != "scgi" && protocol != "uwsgi":
		return a, fmt.Errorf("%q: gatehouse does not speak %s://; %s", s, protocol, wantAddress)
	case addr == "":
		return a, fmt.Errorf("%q: no address after %s://", s, protocol)
	}
	addr = strings.TrimSuffix(addr, "/")
	if _, _, err := net.SplitHostPort(addr); err != nil && !hasAny(addr, "unix:", "fd:", "systemd:") {
		return a, fmt.Errorf("%q: %s", s, wantAddress)
	}
	return address{protocol, addr}, nil
}

// hasAny reports whether s begins with any of prefixes.
func hasAny(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// clientOptions configure a client. Each protocol uses those that it has.
type clientOptions struct {
	env            []string
	keep, maxConns int
	followLinks    bool
	stderr         func(ctx context.Context, line []byte)
	dial           func(ctx context.Context) (net.Conn, error)
}

// A client is a client of any protocol.
type client interface {
	gateway.RoundTripper
	Stats() gateway.Stats
	Close() error
}

// quit closes a client whose requests have been cancelled: handlers need a moment to notice, and
// programs to end.
func quit(c client) {
	for end := time.Now().Add(time.Second); c.Stats().InFlight > 0 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
	}
	c.Close()
}

// client returns the client of a.
func (a address) client(o clientOptions) (client, error) {
	switch a.protocol {
	case "fastcgi":
		return &fastcgi.Client{Addr: a.addr, Env: o.env, MaxIdleConns: o.keep, MaxConns: o.maxConns, Stderr: o.stderr, Dial: o.dial}, nil
	case "scgi":
		return &scgi.Client{Addr: a.addr, Env: o.env, MaxConns: o.maxConns, Dial: o.dial}, nil
	case "uwsgi":
		return &uwsgi.Client{Addr: a.addr, Env: o.env, MaxConns: o.maxConns, Dial: o.dial}, nil
	}
	c := &cgi.Client{Env: o.env, MaxProcs: o.maxConns, FollowLinks: o.followLinks, Stderr: o.stderr}
	info, err := os.Stat(a.addr)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		c.Root = a.addr
	default:
		c.Path = a.addr
	}
	return c, nil
}

// server returns a server that calls h.
func (a address) server(h gateway.Handler) (server.Stoppable, error) {
	switch a.protocol {
	case "fastcgi":
		return &fastcgi.Server{Handler: h}, nil
	case "scgi":
		return &scgi.Server{Handler: h}, nil
	case "uwsgi":
		return &uwsgi.Server{Handler: h, Ping: true}, nil
	}
	return nil, errors.New("a CGI program is started by its web server; nothing listens for it")
}

// isDemo tells the program that it was started as the CGI script of the demo.
const isDemo = "GATEHOUSE_DEMO"

const pingUsage = `gatehouse ping checks whether a uwsgi server is alive, and prints its warning if it has one.

  gatehouse ping uwsgi://127.0.0.1:3031

uWSGI responds to pings if its ping plugin is loaded.

Exit status: 0 if the server is alive, 3 if there is no connection, 1 if there is no response or another one, 2 for a
usage error.
`

func runPing(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCommand("ping", pingUsage, stdout, stderr)
	timeout := c.Duration("timeout", defaultTimeout, "the time limit of the whole ping")
	rest, status := c.parse(args)
	if status >= 0 {
		return status
	}
	if len(rest) != 1 {
		return c.wrong(errors.New("want one address, uwsgi://127.0.0.1:3031"))
	}
	a, err := parseAddress(rest[0])
	if err == nil && a.protocol != "uwsgi" {
		err = fmt.Errorf("%q: only uwsgi has pings", rest[0])
	}
	if err != nil {
		return c.wrong(err)
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	warning, err := (&uwsgi.Client{Addr: a.addr, HeadTimeout: *timeout}).Ping(ctx)
	if err != nil {
		return c.failed(err, exitOf(err))
	}
	if warning != "" {
		fmt.Fprintf(stdout, "alive, with a warning: %s\n", warning)
		return exitOK
	}
	fmt.Fprintln(stdout, "alive")
	return exitOK
}
