package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/internal/sockets"
)

const requestUsage = `gatehouse request sends one request to an application and prints the body of the response.

  gatehouse request fastcgi://unix:/run/php/php-fpm.sock '/index.php?q=1' --root /srv/www
  gatehouse request fastcgi://127.0.0.1:9000 /status --param SCRIPT_NAME=/status --param SCRIPT_FILENAME=/status
  gatehouse request fastcgi://127.0.0.1:9000 /form -d 'a=1&b=2' -v
  gatehouse request uwsgi://127.0.0.1:3031 /
  gatehouse request scgi://unix:/run/rtorrent.sock / -d @call.xml
  gatehouse request cgi:/usr/lib/git-core/git-http-backend /repo.git/info/refs --env GIT_PROJECT_ROOT=/srv/git

The application's STDERR is printed on standard error, line by line, after "stderr: ".

Exit status: 0 if the status of the response is below 400, 4 if it is 400 or above, 3 if there is no connection, 5 if
the application refused the request, 6 if the response is truncated, 1 for any other failure, 2 for a usage error.
`

type requestFlags struct {
	method, data, root string
	headers, params    list
	env                list
	verbose, include   bool
	timeout            time.Duration
	to                 address
	target             string
}

func runRequest(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var o requestFlags
	f := newCommand("request", requestUsage, stdout, stderr)
	f.StringVar(&o.method, "X", "", "the method (default GET, or POST with -d)")
	f.StringVar(&o.data, "d", "", "the body; @FILE for a file's content, @- for standard input")
	f.Var(&o.headers, "H", `a header field, "Name: value"; may be repeated`)
	f.Var(&o.env, "env", "NAME=VALUE, configures the application, such as GIT_PROJECT_ROOT or PHP_VALUE; may be repeated")
	f.Var(&o.params, "param", "NAME=VALUE, sets a param; may be repeated")
	f.StringVar(&o.root, "root", "", "the document root as the application sees it; the path then names a .php script")
	f.BoolVar(&o.verbose, "v", false, "show the head of the response, and every FastCGI record, on standard error")
	f.BoolVar(&o.include, "i", false, "print the head of the response too")
	f.DurationVar(&o.timeout, "timeout", defaultTimeout, "the time limit of the whole request")
	rest, status := f.parse(args)
	if status >= 0 {
		return status
	}
	if len(rest) != 2 {
		return f.wrong(errors.New("want an address and a target, fastcgi://127.0.0.1:9000 /path"))
	}
	var err error
	if o.to, err = parseAddress(rest[0]); err != nil {
		return f.wrong(err)
	}
	o.target = rest[1]
	r, err := o.request(stdin)
	if err != nil {
		return f.wrong(err)
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	return o.ask(ctx, f, r)
}

// request returns the request that the flags describe.
func (o *requestFlags) request(stdin io.Reader) (*gateway.Request, error) {
	body, err := o.body(stdin)
	if err != nil {
		return nil, err
	}
	method := cmp.Or(o.method, "GET")
	if o.method == "" && o.data != "" {
		method = "POST"
	}
	if !strings.HasPrefix(o.target, "/") {
		return nil, fmt.Errorf("target %q: want /path?query", o.target)
	}
	hr, err := http.NewRequest(method, "http://localhost"+o.target, nil)
	if err != nil {
		return nil, err
	}
	hr.RemoteAddr = "127.0.0.1:0"
	if o.data != "" {
		hr.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if err := o.addHeaders(hr); err != nil {
		return nil, err
	}
	r := new(gateway.Request)
	if err := (&gatewayhttp.Mapping{Root: o.root}).AddParams(&r.Params, hr); err != nil {
		return nil, err
	}
	for _, e := range o.env {
		if _, _, err := nameValue("env", e); err != nil {
			return nil, err
		}
	}
	for _, p := range o.params {
		name, value, err := nameValue("param", p)
		if err != nil {
			return nil, err
		}
		r.Params.Set(name, value)
	}
	r.SetBody(body)
	return r, nil
}

// addHeaders adds the fields of -H.
func (o *requestFlags) addHeaders(hr *http.Request) error {
	for _, h := range o.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return fmt.Errorf("-H %q: want \"Name: value\"", h)
		}
		switch value = strings.TrimSpace(value); {
		case strings.EqualFold(name, "Host"):
			hr.Host = value
		case strings.EqualFold(name, "Content-Type"):
			hr.Header.Set(name, value)
		default:
			hr.Header.Add(name, value)
		}
	}
	return nil
}

func (o *requestFlags) body(stdin io.Reader) ([]byte, error) {
	switch name, file := strings.CutPrefix(o.data, "@"); {
	case !file:
		return []byte(o.data), nil
	case name == "-":
		return io.ReadAll(stdin)
	default:
		return os.ReadFile(name)
	}
}

// ask sends r and prints the response.
func (o *requestFlags) ask(ctx context.Context, f *command, r *gateway.Request) int {
	c, err := o.client(f.stderr)
	if err != nil {
		return f.failed(err, exitDial)
	}
	defer c.Close()
	var res gateway.Response
	err = c.RoundTrip(ctx, r, &res)
	if err == nil {
		err = o.print(&res, f.stdout, f.stderr)
		res.Body.Close()
	}
	if err != nil {
		return f.failed(err, exitOf(err))
	}
	if o.verbose {
		fmt.Fprintf(f.stderr, "* status %d, appStatus %d\n", res.Status, res.AppStatus)
	}
	if res.Status >= 400 {
		return exitStatus
	}
	return exitOK
}

// client returns the client of the address. It prints the application's STDERR.
func (o *requestFlags) client(stderr io.Writer) (client, error) {
	opts := clientOptions{env: o.env, stderr: func(_ context.Context, line []byte) { fmt.Fprintf(stderr, "stderr: %s\n", line) }}
	if o.verbose && o.to.protocol == "fastcgi" {
		opts.dial = func(ctx context.Context) (net.Conn, error) { return dialSniffed(ctx, o.to.addr, stderr) }
	}
	return o.to.client(opts)
}

func (o *requestFlags) print(res *gateway.Response, stdout, stderr io.Writer) error {
	head, err := gateway.AppendHTTPResponse(nil, res)
	if err != nil {
		return err
	}
	if o.include {
		stdout.Write(head)
	} else if o.verbose {
		stderr.Write(head)
	}
	_, err = io.Copy(stdout, res.Body)
	return err
}

func exitOf(err error) int {
	e, _ := errors.AsType[*gateway.Error](err)
	switch {
	case errors.Is(err, gateway.ErrRefused):
		return exitRefused
	case errors.Is(err, gateway.ErrTruncated):
		return exitTruncated
	case e != nil && e.Phase == gateway.PhaseDial:
		return exitDial
	}
	return exitFailed
}

// A sniffed is a connection that prints the records on it.
type sniffed struct {
	net.Conn
	in, out recordPrinter
}

func dialSniffed(ctx context.Context, addr string, w io.Writer) (net.Conn, error) {
	network, address, err := sockets.Network(addr)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &sniffed{Conn: c, in: recordPrinter{w: w, arrow: "<"}, out: recordPrinter{w: w, arrow: ">"}}, nil
}

func (s *sniffed) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.in.add(p[:n])
	return n, err
}

func (s *sniffed) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	s.out.add(p[:n])
	return n, err
}

// A recordPrinter prints a line for each record of one direction.
type recordPrinter struct {
	w     io.Writer
	arrow string
	buf   []byte
}

func (p *recordPrinter) add(b []byte) {
	p.buf = append(p.buf, b...)
	for {
		rec, n := fastcgi.ConsumeRecord(p.buf)
		if n <= 0 {
			return
		}
		var line bytes.Buffer
		fmt.Fprintf(&line, "%s %v id %d, %d bytes", p.arrow, rec.Type, rec.ID, len(rec.Content))
		if rec.Padding > 0 {
			fmt.Fprintf(&line, ", %d of padding", rec.Padding)
		}
		switch rec.Type {
		case fastcgi.TypeBegin:
			if b, n := fastcgi.ConsumeBegin(rec.Content); n > 0 {
				fmt.Fprintf(&line, ": %v, keep %v", b.Role, b.KeepConn)
			}
		case fastcgi.TypeEnd:
			if e, n := fastcgi.ConsumeEnd(rec.Content); n > 0 {
				fmt.Fprintf(&line, ": %v, appStatus %d", e.Status, e.AppStatus)
			}
		}
		fmt.Fprintln(p.w, line.String())
		p.buf = p.buf[n:]
	}
}
