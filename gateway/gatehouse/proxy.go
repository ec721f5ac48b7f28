package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/internal/paths"
	"github.com/gatehouse-go/gatehouse/internal/server"
	"github.com/gatehouse-go/gatehouse/internal/sockets"
)

const proxyUsage = `gatehouse proxy puts HTTP, or one gateway protocol, in front of an application that speaks another.

  gatehouse proxy --to fastcgi://unix:/run/php/php-fpm.sock --root /srv/www
  gatehouse proxy --to uwsgi://127.0.0.1:3031
  gatehouse proxy --to cgi:/usr/lib/cgi-bin
  gatehouse proxy --listen scgi://127.0.0.1:4000 --to fastcgi://127.0.0.1:9000
  gatehouse proxy

With --root a path names a script (see --split), as PHP expects: SCRIPT_FILENAME is the root and the path. A script that
does not exist, or is outside the root, is a 404. Without --root the whole path is PATH_INFO, as other applications
expect. cgi: takes a program, or a folder of programs. If --listen is not HTTP, the web server in front sets these
params, and --root and the flags that go with it cannot be used.

Without --to a demo application is started four times, once for each protocol, on private Unix sockets.
`

type proxyFlags struct {
	listen, to, root, files, index, split string
	followLinks                           bool
	keep, maxConns                        int
	env                                   list
}

func runProxy(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o proxyFlags
	f := newCommand("proxy", proxyUsage, stdout, stderr)
	f.StringVar(&o.listen, "listen", "http://127.0.0.1:8080", "where to listen: http://, fastcgi://, scgi:// or uwsgi:// and host:port or unix:/path")
	f.StringVar(&o.to, "to", "", "the application: fastcgi://, scgi:// or uwsgi:// and host:port or unix:/path, or cgi:/path")
	f.StringVar(&o.root, "root", "", "the document root as the application sees it")
	f.StringVar(&o.files, "files", "", `where to look for scripts before a request is sent; "none" means nowhere (default: the root)`)
	f.BoolVar(&o.followLinks, "follow-links", false, "follow links that lead out of the root")
	f.StringVar(&o.index, "index", "index.php", "the script of a path that ends in /, with --root")
	f.StringVar(&o.split, "split", ".php", "the extensions of scripts, separated by commas, with --root; \"\" means that every path is a script")
	f.IntVar(&o.keep, "keep", 0, "the FastCGI connections to keep; each occupies a worker of php-fpm")
	f.IntVar(&o.maxConns, "max-conns", 0, "the connections or programs at once; 0 means no limit (64 programs)")
	f.Var(&o.env, "env", "NAME=VALUE to send with every request, such as PHP_VALUE; may be repeated")
	rest, status := f.parse(args)
	if status >= 0 {
		return status
	}
	if len(rest) > 0 {
		return f.wrong(fmt.Errorf("unexpected argument %q", rest[0]))
	}
	if err := o.check(); err != nil {
		return f.wrong(err)
	}
	if err := o.serve(ctx, stdout); err != nil {
		return f.failed(err, exitFailed)
	}
	return exitOK
}

// check checks the flags before anything is opened.
func (o *proxyFlags) check() error {
	if err := o.findRoot(); err != nil {
		return err
	}
	for _, e := range o.env {
		if _, _, err := nameValue("env", e); err != nil {
			return err
		}
	}
	if o.to != "" {
		if _, err := parseAddress(o.to); err != nil {
			return fmt.Errorf("--to %w", err)
		}
	}
	if strings.HasPrefix(o.listen, "http://") {
		return nil
	}
	front, err := parseAddress(o.listen)
	switch {
	case err != nil:
		return fmt.Errorf("--listen %w, or http://", err)
	case o.to == "":
		return fmt.Errorf("--listen %s needs --to", o.listen)
	}
	if _, err = front.server(nil); err != nil {
		return fmt.Errorf("--listen %s: %w", o.listen, err)
	}
	return nil
}

func (o *proxyFlags) serve(ctx context.Context, stdout io.Writer) error {
	if addr, ok := strings.CutPrefix(o.listen, "http://"); ok {
		return o.serveHTTP(ctx, strings.TrimSuffix(addr, "/"), stdout)
	}
	return o.serveGateway(ctx, stdout)
}

// shutdownTimeout limits the time for which requests may continue when the proxy is told to stop.
var shutdownTimeout = 10 * time.Second

// serveHTTP has HTTP in front.
func (o *proxyFlags) serveHTTP(ctx context.Context, addr string, stdout io.Writer) error {
	handler, stop, err := o.handler(ctx)
	if err != nil {
		return err
	}
	defer stop()
	l, err := sockets.Listen(addr, sockets.DefaultMode)
	if err != nil {
		return err
	}
	o.announce(stdout, l.Addr())
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	defer srv.Close() // ends the requests that Shutdown did not wait for
	return server.ServeUntil(ctx, srv, l, shutdownTimeout)
}

// serveGateway has another protocol in front.
func (o *proxyFlags) serveGateway(ctx context.Context, stdout io.Writer) error {
	front, err := parseAddress(o.listen)
	if err != nil {
		return err
	}
	client, err := o.client()
	if err != nil {
		return err
	}
	defer quit(client)
	srv, err := front.server(&gateway.Proxy{Backend: &gateway.Spool{Backend: client}})
	if err != nil {
		return err
	}
	l, err := sockets.Listen(front.addr, sockets.DefaultMode)
	if err != nil {
		return err
	}
	where := l.Addr().String()
	if l.Addr().Network() == "unix" {
		where = "unix:" + where
	}
	fmt.Fprintf(stdout, "listening on %s://%s\n", front.protocol, where)
	return server.ServeUntil(ctx, srv, l, shutdownTimeout)
}

// client returns the client of --to.
func (o *proxyFlags) client() (client, error) {
	a, err := parseAddress(o.to)
	if err != nil {
		return nil, err
	}
	return a.client(clientOptions{env: o.env, keep: o.keep, maxConns: o.maxConns, followLinks: o.followLinks})
}

// handler returns the handler of HTTP requests: --to, or the demo.
func (o *proxyFlags) handler(ctx context.Context) (h http.Handler, stop func(), err error) {
	if o.to == "" {
		return startDemo(ctx)
	}
	client, err := o.client()
	if err != nil {
		return nil, nil, err
	}
	proxy := &gatewayhttp.Proxy{Mapping: o.mapping(), Backend: client}
	if strings.HasPrefix(o.to, "cgi:") {
		proxy.LocalRedirect = proxy // RFC 3875 section 6.2.2
	}
	return proxy, func() { quit(client) }, nil
}

// findRoot makes the folders absolute and checks that the one that is looked into exists.
func (o *proxyFlags) findRoot() error {
	if o.root == "" && o.files == "" {
		return nil
	}
	if o.files == "" {
		o.files = o.root
	}
	if o.files == "none" {
		return nil
	}
	same := o.files == o.root
	dir, err := filepath.Abs(o.files)
	if err != nil {
		return err
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fmt.Errorf("%q is not a folder here; if the application sees another file system, say --files none", o.files)
	}
	if o.files = dir; same {
		o.root = dir
	}
	return nil
}

func (o *proxyFlags) mapping() *gatewayhttp.Mapping {
	m := &gatewayhttp.Mapping{Root: o.root, Index: o.index, Split: []string{}}
	if o.split != "" {
		m.Split = strings.Split(o.split, ",")
	}
	switch {
	case o.files == "none":
		m.Files = gatewayhttp.NoFiles
	case o.followLinks && o.files != "":
		m.Files = os.DirFS(o.files)
	case o.files != "":
		m.Files = paths.Folder(o.files)
	}
	return m
}

func (o *proxyFlags) announce(w io.Writer, addr net.Addr) {
	if addr.Network() == "unix" {
		fmt.Fprintf(w, "listening on http://unix:%s\ntry: curl --unix-socket %s http://localhost/\n", addr, addr)
		return
	}
	fmt.Fprintf(w, "listening on http://%s\ntry: curl http://%s/\n", addr, addr)
	if o.to == "" {
		fmt.Fprintf(w, "     curl --data-binary @FILE http://%s/echo | sha256sum\n     curl -N http://%s/stream\n", addr, addr)
		fmt.Fprintln(w, "the same by another protocol: below /fastcgi/, /scgi/, /uwsgi/ and /cgi/")
	}
}
