package sockets

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestAllowed(t *testing.T) {
	tcp := func(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	for _, c := range []struct {
		peers string
		addr  net.Addr
		want  bool
	}{
		{"", tcp("192.0.2.1:1"), true},
		{"127.0.0.0/8", tcp("127.0.0.1:1"), true},
		{"127.0.0.0/8", tcp("[::ffff:127.0.0.1]:1"), true},
		{"127.0.0.0/8", tcp("128.0.0.1:1"), false},
		{"2001:db8::1/128", tcp("[2001:db8::1]:1"), true},
		{"2001:db8::1/128", tcp("[2001:db8::2]:1"), false},
		{"fe80::1/128", &net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 1, Zone: "eth0"}, true},
		{"127.0.0.0/8", &net.UnixAddr{Name: "/run/x.sock", Net: "unix"}, true},
		{"127.0.0.0/8", &net.UDPAddr{}, false},
	} {
		var peers []netip.Prefix
		if c.peers != "" {
			peers = []netip.Prefix{netip.MustParsePrefix(c.peers)}
		}
		if got := Allowed(peers, c.addr); got != c.want {
			t.Errorf("%s of %s: %v", c.addr, c.peers, got)
		}
	}
}

func TestSystemd(t *testing.T) {
	t.Setenv("LISTEN_FDS", "1")
	t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()+1))
	if _, err := Listen("systemd:", 0); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("got %v", err)
	}
	t.Setenv("LISTEN_PID", "")
	t.Setenv("LISTEN_FDNAMES", "a:b")
	if _, err := Listen("systemd:c", 0); err == nil || !strings.Contains(err.Error(), "no socket of that name") {
		t.Errorf("got %v", err)
	}
}

// TestSocketOfAnotherServer checks that a listener leaves the socket alone that has replaced its
// own.
func TestSocketOfAnotherServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	first, err := Listen("unix:"+path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	second, err := Listen("unix:"+path, 0)
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the second server has lost its socket: %v", err)
	}
	c.Close()
	second.Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its own socket is left: %v", err)
	}
}
