// Package sockets has what servers and clients need of sockets: addresses, listening, which peers
// may connect, and whether a kept connection is still good.
package sockets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// DefaultMode is the mode of a Unix socket: the owner and the group may connect.
const DefaultMode fs.FileMode = 0o660

// Network splits an address that can be dialed, "host:port" or "unix:/path", into the network and
// address of package net. A path that begins with "@" is abstract.
func Network(addr string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		if path == "" {
			return "", "", fmt.Errorf("address %q has no path", addr)
		}
		return "unix", path, nil
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return "", "", fmt.Errorf("address %q: want host:port or unix:/path", addr)
	}
	return "tcp", addr, nil
}

// Listen opens a listener on "host:port", "unix:/path", "fd:N" or "systemd:NAME".
func Listen(addr string, mode fs.FileMode) (net.Listener, error) {
	if n, ok := strings.CutPrefix(addr, "fd:"); ok {
		fd, err := strconv.ParseUint(n, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("address %q: want fd:N", addr)
		}
		return inherited(int(fd), addr)
	}
	if name, ok := strings.CutPrefix(addr, "systemd:"); ok {
		return systemd(name)
	}
	network, address, err := Network(addr)
	if err != nil {
		return nil, err
	}
	if network == "unix" && !strings.HasPrefix(address, "@") {
		return listenUnix(address, mode)
	}
	return net.Listen(network, address)
}

// listenUnix creates a socket at path. A stale socket, on which no server listens, is removed.
func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	mode = cmp.Or(mode, DefaultMode)
	l, err := bind(path, mode)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, err
	}
	info, err := os.Lstat(path)
	if unix, ok := l.(*net.UnixListener); ok && err == nil {
		unix.SetUnlinkOnClose(false)
		return &socketFile{UnixListener: unix, path: path, info: info}, nil
	}
	return l, nil
}

// A socketFile is a listener that removes its socket when it is closed, and not that of another
// server that has replaced it.
type socketFile struct {
	*net.UnixListener
	path string
	info fs.FileInfo
	keep atomic.Bool
}

// SetUnlinkOnClose says whether Close removes the socket, as the method of net.UnixListener does.
func (l *socketFile) SetUnlinkOnClose(unlink bool) { l.keep.Store(!unlink) }

func (l *socketFile) Close() error {
	if now, err := os.Lstat(l.path); err == nil && !l.keep.Load() && os.SameFile(now, l.info) {
		os.Remove(l.path)
	}
	return l.UnixListener.Close()
}

// bind creates a socket. On Linux no peer that mode excludes can connect at any moment; on other
// systems the socket has the mode of umask until Chmod.
func bind(path string, mode fs.FileMode) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { restrict(fd, mode) })
	}}
	return lc.Listen(context.Background(), "unix", path)
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("listen unix %s: the file there is not a socket; it was left alone", path)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return fmt.Errorf("listen unix %s: another server listens there", path)
	}
	return os.Remove(path)
}

// inherited returns the listener that the process was started with on descriptor fd.
func inherited(fd int, name string) (net.Listener, error) {
	f := os.NewFile(uintptr(fd), name)
	if f == nil {
		return nil, fmt.Errorf("%s: no such descriptor", name)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("%s: not a listening socket: %w", name, err)
	}
	return l, nil
}

// systemd returns the socket that a service manager passed under name, or the first if name is
// empty: LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES of sd_listen_fds(3).
func systemd(name string) (net.Listener, error) {
	const first = 3
	if pid := os.Getenv("LISTEN_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return nil, fmt.Errorf("systemd:%s: LISTEN_PID is of another process", name)
	}
	count, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || count < 1 {
		return nil, fmt.Errorf("systemd:%s: no sockets were passed (LISTEN_FDS)", name)
	}
	i := 0
	if name != "" {
		i = slices.Index(strings.Split(os.Getenv("LISTEN_FDNAMES"), ":"), name)
	}
	if i < 0 || i >= count {
		return nil, fmt.Errorf("systemd:%s: no socket of that name (LISTEN_FDNAMES)", name)
	}
	return inherited(first+i, "systemd:"+name)
}

// Allowed reports whether addr is in one of the prefixes; an empty list means all. Unix sockets are
// restricted by their mode. IPv4 in IPv6 is compared as IPv4, and addresses are compared whole.
func Allowed(peers []netip.Prefix, addr net.Addr) bool {
	_, unix := addr.(*net.UnixAddr)
	return unix || AllowedIP(peers, AddrPort(addr).Addr())
}

// AllowedIP is Allowed for an IP address.
func AllowedIP(peers []netip.Prefix, ip netip.Addr) bool {
	return len(peers) == 0 || slices.ContainsFunc(peers, func(p netip.Prefix) bool {
		return unmap(p).Contains(ip) // rule F14
	})
}

// unmap converts a prefix of IPv4 in IPv6 to one of IPv4.
func unmap(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 { // rule F15
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

// AddrPort returns the address of a TCP connection, or the zero value.
func AddrPort(addr net.Addr) netip.AddrPort {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
