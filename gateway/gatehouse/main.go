// Command gatehouse puts HTTP, or one gateway protocol, in front of an application that uses
// another, and sends requests to such applications from the command line.
//
//	gatehouse proxy --to fastcgi://unix:/run/php/php-fpm.sock --root /srv/www
//	gatehouse proxy --listen scgi://127.0.0.1:4000 --to uwsgi://127.0.0.1:3031
//	gatehouse request fastcgi://127.0.0.1:9000 '/index.php?q=1' --root /srv/www
//	gatehouse ping uwsgi://127.0.0.1:3031
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const usage = `gatehouse is a tool for CGI, FastCGI, SCGI and uwsgi.

  gatehouse proxy    puts HTTP, or one of the protocols, in front of an application
  gatehouse request  sends one request to an application, as curl does for HTTP
  gatehouse ping     checks whether a uwsgi server is alive

Each command has --help. Without arguments, "gatehouse proxy" starts a demo application.
`

// Exit statuses.
const (
	exitOK = iota
	exitFailed
	exitUsage
	exitDial
	exitStatus
	exitRefused
	exitTruncated
)

const defaultTimeout = 30 * time.Second

func main() {
	if os.Getenv(isDemo) != "" {
		os.Exit(runScript())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	switch args[0] {
	case "proxy":
		return runProxy(ctx, args[1:], stdout, stderr)
	case "request":
		return runRequest(ctx, args[1:], stdin, stdout, stderr)
	case "ping":
		return runPing(ctx, args[1:], stdout, stderr)
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	fmt.Fprintf(stderr, "gatehouse: unknown command %q; the commands are proxy, request and ping\n", args[0])
	return exitUsage
}

// A command is one of gatehouse's commands: its flags, its help, and its output.
type command struct {
	*flag.FlagSet
	help           string
	stdout, stderr io.Writer
}

func newCommand(name, help string, stdout, stderr io.Writer) *command {
	f := flag.NewFlagSet("gatehouse "+name, flag.ContinueOnError)
	f.SetOutput(io.Discard) // errors are printed by wrong, and help only on request
	f.Usage = func() {}
	return &command{f, help, stdout, stderr}
}

// wrong reports a usage error.
func (c *command) wrong(err error) (status int) {
	fmt.Fprintf(c.stderr, "%s: %v; see %s --help\n", c.Name(), err, c.Name())
	return exitUsage
}

// failed reports why the command failed.
func (c *command) failed(err error, status int) int {
	fmt.Fprintf(c.stderr, "%s: %v\n", c.Name(), err)
	return status
}

// parse accepts flags before, between and after the other arguments. A negative status means that
// the command goes on.
func (c *command) parse(args []string) (rest []string, status int) {
	f := c.FlagSet
	for {
		err := f.Parse(args)
		switch {
		case errors.Is(err, flag.ErrHelp):
			f.SetOutput(c.stdout)
			fmt.Fprint(c.stdout, c.help)
			fmt.Fprintln(c.stdout, "\nFlags:")
			f.PrintDefaults()
			return nil, exitOK
		case err != nil:
			return nil, c.wrong(err)
		}
		if f.NArg() == 0 {
			return rest, -1
		}
		rest = append(rest, f.Arg(0))
		args = f.Args()[1:]
	}
}

// A list is a flag that may be repeated.
type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(v string) error { *l = append(*l, v); return nil }

// nameValue checks NAME=VALUE.
func nameValue(flag, s string) (name, value string, err error) {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return "", "", fmt.Errorf("--%s %q: want NAME=VALUE", flag, s)
	}
	return name, value, nil
}
