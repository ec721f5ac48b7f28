package fastcgi

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/client"
	"github.com/gatehouse-go/gatehouse/internal/sockets"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// A clientConn is a connection of a Client. It carries one exchange at a time, from RoundTrip to
// the end of the Body. Between two exchanges the Pool owns it.
//
// Within an exchange, one goroutine reads and owns every field except out: the one in RoundTrip,
// and then the one in a method of the Body, which holds rmu. While a sender (sendBody) runs, it
// owns out; otherwise the same goroutine does. cancel and interrupt close the connection from any
// goroutine.
//
// Lock order: rmu, and then one of bmu, the Upload's lock and the Pool's lock.
type clientConn struct {
	client       *Client
	c            net.Conn
	peeker       *sockets.Peeker
	born         time.Time
	id           uint16 // of the last request; ids count up, so that a late response is an error
	reused, keep bool
	dead         atomic.Bool // it was closed under a Read, whatever that returned

	rec      recordReader
	response responseReader
	out      output

	// The fields below belong to the current exchange.
	up       client.Upload
	rmu      sync.Mutex // held while the Body is read or closed
	ctx      context.Context
	stop     func() bool // stops watching ctx; nil if ctx is not watched
	stderr   io.Writer
	lines    stream.Lines
	bodyless bool       // the response is to HEAD, or a 204 or 304
	bmu      sync.Mutex // guards body
	body     *clientBody
	x        gateway.Exchange
	started  time.Time
	asked    time.Time
	about    about

	cancel    func() // closes the connection; a field, so that watching a context allocates less
	takeError func(p []byte)
}

func newClientConn(c *Client, conn net.Conn) *clientConn {
	cc := &clientConn{client: c, c: conn, peeker: sockets.NewPeeker(conn), born: time.Now(), keep: c.MaxIdleConns > 0}
	cc.out.Timeout = stream.Timeout(c.SendTimeout, client.DefaultSendTimeout)
	cc.out.Reset(conn)
	cc.up.SetTimeouts(c.HeadTimeout, c.BodyTimeout)
	cc.up.Reset(conn, &cc.out.Output)
	cc.rec.reset(&cc.up)
	cc.cancel = func() {
		cc.dead.Store(true)
		conn.Close()
	}
	cc.takeError = cc.stderrBytes
	return cc
}

// Close closes the connection.
func (cc *clientConn) Close() error { return cc.c.Close() }

// interrupt closes the connection under a Read of b. The connection may have moved on to another
// exchange.
func (cc *clientConn) interrupt(b *clientBody) {
	cc.bmu.Lock()
	defer cc.bmu.Unlock()
	if cc.body == b {
		cc.cancel()
	}
}

// usable reports whether a kept connection can take another request.
func (cc *clientConn) usable() bool {
	return cc.young() && !cc.peeker.Stale()
}

func (cc *clientConn) young() bool {
	age := cc.client.MaxLifetime
	return cc.id < 1<<16-1 && (age <= 0 || time.Since(cc.born) < age)
}

// stderrBytes receives the application's STDERR.
func (cc *clientConn) stderrBytes(p []byte) {
	if cc.stderr != nil {
		cc.stderr.Write(p)
		return
	}
	cc.lines.Write(p, cc.stderrLine)
}

func (cc *clientConn) stderrLine(line []byte) {
	if cc.client.Stderr != nil {
		cc.client.Stderr(cc.ctx, line)
		return
	}
	attrs := append([]slog.Attr{slog.String("addr", cc.client.Addr), slog.String("stderr", string(line))}, cc.about.attrs()...)
	cmp.Or(cc.client.Logger, slog.Default()).LogAttrs(cc.ctx, slog.LevelWarn, "application", attrs...)
}

// An about names the request of an exchange for log records: the beginnings of its method, path,
// script and client, copied, since the request is the caller's when RoundTrip has returned.
type about struct {
	size [4]int
	part [4][128]byte
}

var aboutNames = [4]string{"method", "path", "script", "remote"}

func (a *about) set(r *gateway.Request) {
	a.size = [4]int{}
	for i, name := range [...]string{"REQUEST_METHOD", "SCRIPT_NAME", "SCRIPT_FILENAME", "REMOTE_ADDR"} {
		a.add(i, r, name)
	}
	a.add(1, r, "PATH_INFO")
	for _, name := range [...]string{"DOCUMENT_URI", "REQUEST_URI"} { // as in Request.Path
		if a.size[1] == 0 {
			a.add(1, r, name)
		}
	}
}

// add adds the value of a param to a part, without a query.
func (a *about) add(part int, r *gateway.Request, name string) {
	value, _ := r.Params.Lookup(name)
	if i := bytes.IndexByte(value, '?'); i >= 0 && name == "REQUEST_URI" {
		value = value[:i]
	}
	a.size[part] += copy(a.part[part][a.size[part]:], value)
}

func (a *about) attrs() (attrs []slog.Attr) {
	for i, name := range aboutNames {
		if n := a.size[i]; n > 0 {
			attrs = append(attrs, slog.String(name, strings.ToValidUTF8(string(a.part[i][:n]), "")))
		}
	}
	return attrs
}
