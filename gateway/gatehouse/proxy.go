package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
)

const proxyUsage = `gatehouse proxy puts HTTP in front of an application.

  gatehouse proxy --to fastcgi://unix:/run/php/php-fpm.sock --root /srv/www
  gatehouse proxy --to fastcgi://127.0.0.1:9000
  gatehouse proxy

With --root, paths that name a script (see --split) go to it, as PHP wants: SCRIPT_FILENAME is the root and the path.
Scripts that are not there are a 404; what lies outside the root is not there. Without --root all of the path is
PATH_INFO, as other applications want. Without --to an application of gatehouse's own is started on a private Unix socket.
`

type proxyFlags struct {
	listen, to, root, files, index, split string
	followLinks                           bool
	keep, maxConns                        int
	env                                   list
}

func runProxy(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o proxyFlags
	f := newFlags("proxy", proxyUsage, stdout)
	f.StringVar(&o.listen, "listen", "http://127.0.0.1:8080", "where to listen: http://host:port or http://unix:/path")
	f.StringVar(&o.to, "to", "", "the application: fastcgi://host:port or fastcgi://unix:/path")
	f.StringVar(&o.root, "root", "", "the document root as the application sees it")
	f.StringVar(&o.files, "files", "", `where to look for scripts before the application is asked; "none" for not at all (default: the root)`)
	f.BoolVar(&o.followLinks, "follow-links", false, "follow links that lead out of the root")
	f.StringVar(&o.index, "index", "index.php", "the script of a path that ends in /, with --root")
	f.StringVar(&o.split, "split", ".php", "what a script's name ends with, several separated by commas, with --root; \"\" takes every path for a script")
	f.IntVar(&o.keep, "keep", 0, "connections to keep; each holds a worker of php-fpm")
	f.IntVar(&o.maxConns, "max-conns", 0, "connections at once; 0 for no bound")
	f.Var(&o.env, "env", "NAME=VALUE to send with every request, PHP_VALUE for one; may stand several times")
	rest, status := parse(f, args)
	if status >= 0 {
		return status
	}
	if len(rest) > 0 {
		fmt.Fprintf(stderr, "gatehouse proxy: %q is no flag; see gatehouse proxy --help\n", rest[0])
		return exitUsage
	}
	if err := o.serve(ctx, stdout); err != nil {
		fmt.Fprintf(stderr, "gatehouse proxy: %v\n", err)
		return exitFailed
	}
	return exitOK
}

func (o *proxyFlags) serve(ctx context.Context, stdout io.Writer) error {
	if err := o.findRoot(); err != nil {
		return err
	}
	addr, ok := strings.CutPrefix(o.listen, "http://")
	if !ok {
		return fmt.Errorf("--listen %q: want http://host:port or http://unix:/path", o.listen)
	}
	client, stop, err := o.backend(ctx)
	if err != nil {
		return err
	}
	defer stop()
	l, err := fastcgi.Listen(strings.TrimSuffix(addr, "/"), 0)
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "fastcgi: "))
	}
	o.announce(stdout, l.Addr())
	proxy := &gatewayhttp.Proxy{Mapping: o.mapping(), Backend: client}
	srv := &http.Server{Handler: proxy, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return srv.Shutdown(limit)
}

// findRoot makes the folders absolute and makes sure that the one that is looked into is there.
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

// backend is the client for --to, or for an application of our own.
func (o *proxyFlags) backend(ctx context.Context) (c *fastcgi.Client, stop func(), err error) {
	for _, e := range o.env {
		if _, _, err := nameValue("env", e); err != nil {
			return nil, nil, err
		}
	}
	c = &fastcgi.Client{Env: o.env, MaxIdle: o.keep, MaxConns: o.maxConns}
	if o.to == "" {
		c.Addr, stop, err = startDemo(ctx)
		c.MaxIdle = max(c.MaxIdle, 4)
		return c, stop, err
	}
	c.Addr, err = backendAddr(o.to)
	return c, func() { c.Close() }, err
}

func (o *proxyFlags) mapping() *gatewayhttp.Mapping {
	m := &gatewayhttp.Mapping{Root: o.root, Index: o.index, Split: []string{}}
	if o.split != "" {
		m.Split = strings.Split(o.split, ",")
	}
	switch {
	case o.files == "" || o.files == "none":
	case o.followLinks:
		m.Files = os.DirFS(o.files)
	default:
		m.Files = confined(o.files)
	}
	return m
}

// confined is a folder out of which no link leads. It is opened for each look, so that a link to the current release
// that is switched is followed.
type confined string

func (dir confined) Open(name string) (fs.File, error) {
	root, err := os.OpenRoot(string(dir))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.Open(name)
}

// Stat looks without opening the file.
func (dir confined) Stat(name string) (fs.FileInfo, error) {
	root, err := os.OpenRoot(string(dir))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.Stat(filepath.FromSlash(name))
}

func (o *proxyFlags) announce(w io.Writer, addr net.Addr) {
	if addr.Network() == "unix" {
		fmt.Fprintf(w, "listening on http://unix:%s\ntry: curl --unix-socket %s http://localhost/\n", addr, addr)
		return
	}
	fmt.Fprintf(w, "listening on http://%s\ntry: curl http://%s/\n", addr, addr)
	if o.to == "" {
		fmt.Fprintf(w, "     curl --data-binary @FILE http://%s/echo | sha256sum\n     curl -N http://%s/stream\n", addr, addr)
	}
}
