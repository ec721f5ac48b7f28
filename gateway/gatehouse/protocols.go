package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// This file is where the four protocols meet: everything else in the tool knows a client or a server.

// address is "fastcgi://unix:/run/php.sock", "uwsgi://127.0.0.1:3031" or "cgi:/usr/lib/cgi-bin", taken apart.
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
	return address{protocol, strings.TrimSuffix(addr, "/")}, nil
}

// clientOptions are what a client may be told; each protocol takes what it knows.
type clientOptions struct {
	env            []string
	keep, maxConns int
	followLinks    bool
	stderr         func(ctx context.Context, line []byte)
	dial           func(ctx context.Context) (net.Conn, error)
}

// client is that of a.
func (a address) client(o clientOptions) (gateway.RoundTripper, error) {
	switch a.protocol {
	case "fastcgi":
		return &fastcgi.Client{Addr: a.addr, Env: o.env, MaxIdle: o.keep, MaxConns: o.maxConns, Stderr: o.stderr, Dial: o.dial}, nil
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

// server is one of any protocol.
type server interface {
	Run(ctx context.Context, addr string) error
	Serve(l net.Listener) error
	Shutdown(ctx context.Context) error
}

// server answers with h.
func (a address) server(h gateway.Handler) (server, error) {
	switch a.protocol {
	case "fastcgi":
		return &fastcgi.Server{Handler: h, SocketMode: 0o600}, nil
	case "scgi":
		return &scgi.Server{Handler: h, SocketMode: 0o600}, nil
	case "uwsgi":
		return &uwsgi.Server{Handler: h, SocketMode: 0o600, Ping: true}, nil
	}
	return nil, errors.New("a CGI program is started by its web server; nothing listens for it")
}

// isDemo tells the program that it was started as the CGI script of the demo.
const isDemo = "GATEHOUSE_DEMO"

const pingUsage = `gatehouse ping asks a uwsgi server whether it lives, and prints its warning if it has one.

  gatehouse ping uwsgi://127.0.0.1:3031

uWSGI answers where its ping plugin is loaded.

Exit status: 0 it lives, 3 no connection, 1 no answer or another one; 2 the command's words are off.
`

func runPing(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f := newFlags("ping", pingUsage, stdout)
	timeout := f.Duration("timeout", defaultTimeout, "of the whole ping")
	rest, status := parse(f, args)
	if status >= 0 {
		return status
	}
	if len(rest) != 1 {
		fmt.Fprintln(stderr, "gatehouse ping: want one address, uwsgi://127.0.0.1:3031; see --help")
		return exitUsage
	}
	a, err := parseAddress(rest[0])
	if err == nil && a.protocol != "uwsgi" {
		err = fmt.Errorf("%q: only uwsgi has pings", rest[0])
	}
	if err != nil {
		fmt.Fprintf(stderr, "gatehouse ping: %v\n", err)
		return exitUsage
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	warning, err := (&uwsgi.Client{Addr: a.addr}).Ping(ctx)
	if err != nil {
		fmt.Fprintf(stderr, "gatehouse ping: %v\n", err)
		return exitOf(err)
	}
	if warning != "" {
		fmt.Fprintf(stdout, "alive, with a warning: %s\n", warning)
		return exitOK
	}
	fmt.Fprintln(stdout, "alive")
	return exitOK
}
