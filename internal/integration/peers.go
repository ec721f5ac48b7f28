// Package integration starts real web servers and applications for tests: in the foreground, on
// loopback or Unix sockets in a folder of their own, with their own configuration, an empty
// environment and a limit on the size of a file, as an unprivileged user if the tests run as root.
// It stops them by their process group.
//
// A test of a peer that is not installed is skipped and names the Debian package. With
// GATEHOUSE_PEERS=require it fails, and with GATEHOUSE_PEERS=skip the tests of all peers are
// skipped.
package integration

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// fileSizeLimit is in units of 512 bytes: 256 MiB. A peer once filled a disk with its log.
const fileSizeLimit = 512 << 10

// Need returns the path of a program, or skips the test. pkg is the Debian package that has it.
func Need(t testing.TB, program, pkg string) string {
	t.Helper()
	notSkipped(t)
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin") {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	missing(t, program, pkg)
	return ""
}

// NeedFile is Need for a file that is not a program.
func NeedFile(t testing.TB, path, pkg string) {
	t.Helper()
	notSkipped(t)
	if _, err := os.Stat(path); err != nil {
		missing(t, path, pkg)
	}
}

// notSkipped skips the test if GATEHOUSE_PEERS=skip says that no peer is to be started.
func notSkipped(t testing.TB) {
	t.Helper()
	if os.Getenv("GATEHOUSE_PEERS") == "skip" {
		t.Skip("GATEHOUSE_PEERS=skip: no real peers")
	}
}

func missing(t testing.TB, what, pkg string) {
	t.Helper()
	if os.Getenv("GATEHOUSE_PEERS") == "require" {
		t.Fatalf("%s is missing: install the package %s", what, pkg)
	}
	t.Skipf("%s is missing: install the package %s", what, pkg)
}

// Dir returns a folder that any user may enter and write to. Its path is short, since the path of a
// socket must fit 108 bytes.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gh")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Write writes text to a file in dir, with dir in place of ${DIR}, and returns its path.
func Write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	text = strings.ReplaceAll(text, "${DIR}", dir)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// Port returns a TCP port of 127.0.0.1 that was free. It is below the ports that the system
// assigns, so that no connection of another test takes it before the peer does.
func Port(t testing.TB) int {
	t.Helper()
	var err error
	for range 100 {
		var l net.Listener
		port := 10000 + mathrand.IntN(20000)
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal(err)
	return 0
}

// Certificate writes a certificate of 127.0.0.1 and localhost that no authority has signed,
// cert.pem, and its key, key.pem.
func Certificate(t testing.TB, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spec := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, certErr := x509.CreateCertificate(rand.Reader, spec, spec, &key.PublicKey, key)
	secret, keyErr := x509.MarshalPKCS8PrivateKey(key)
	if certErr != nil || keyErr != nil {
		t.Fatal(certErr, keyErr)
	}
	Write(t, dir, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	Write(t, dir, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
}

// StartFPM starts a php-fpm that listens on a socket's path or "host:port". Its configuration, log
// and pid file have that name in dir. pool is its pool's configuration.
func StartFPM(t testing.TB, dir, name, listen, pool string) {
	t.Helper()
	fpm := Need(t, "php-fpm8.2", "php8.2-fpm")
	path := filepath.Join(dir, name)
	conf := Write(t, dir, name+".conf", fmt.Sprintf(`[global]
error_log = %s.log
pid = %[1]s.pid
daemonize = no
[www]
listen = %s
listen.mode = 0666
%s`, path, listen, pool))
	Start(t, dir, listen, fpm, "--nodaemonize", "--fpm-config", conf)
}

// Host returns 127.0.0.n, or skips the test on a system that has 127.0.0.1 alone.
func Host(t testing.TB, n int) string {
	t.Helper()
	host := fmt.Sprintf("127.0.0.%d", n)
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Skip(err)
	}
	l.Close()
	return host
}

// Start runs a peer until the test ends, and waits until it listens on addr ("host:port" or a
// socket's path). Its output is logged if the test fails.
func Start(t testing.TB, dir, addr string, argv ...string) {
	t.Helper()
	script := fmt.Sprintf(`ulimit -f %d; exec "$@"`, fileSizeLimit)
	cmd := exec.Command("/bin/sh", append([]string{"-c", script, "sh"}, argv...)...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + dir, "TMPDIR=" + dir}
	var out buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	isolate(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", argv[0], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		stop(cmd, ended)
		if t.Failed() {
			t.Logf("%s:\n%s", argv[0], out.String())
		}
	})
	waitFor(t, addr, argv[0], ended)
}

func waitFor(t testing.TB, addr, name string, ended <-chan error) {
	t.Helper()
	network := "tcp"
	if filepath.IsAbs(addr) {
		network = "unix"
	}
	for range 1000 {
		c, err := net.DialTimeout(network, addr, time.Second)
		if err == nil {
			c.Close()
			return
		}
		select {
		case err := <-ended:
			t.Fatalf("%s ended before it listened: %v", name, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatalf("%s does not listen on %s", name, addr)
}

// A buffer holds the beginning of a peer's output.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.b.Len() < 1<<20 {
		b.b.Write(p)
	}
	return len(p), nil
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
