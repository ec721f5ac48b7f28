package integration_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/fuzz"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/integration"
)

// mirrorProgram responds with the environment of a request as libfcgi gives it, each pair ended by
// a NUL, and another NUL.
const mirrorProgram = `
#include <fcgiapp.h>
#include <string.h>
int main(void) {
	FCGX_Request r;
	FCGX_Init();
	FCGX_InitRequest(&r, 0, 0);
	while (FCGX_Accept_r(&r) == 0) {
		FCGX_PutS("Content-Type: application/octet-stream\r\n\r\n", r.out);
		for (char **e = r.envp; *e; e++)
			FCGX_PutStr(*e, strlen(*e) + 1, r.out);
		FCGX_PutChar(0, r.out);
		FCGX_Finish_r(&r);
	}
	return 0;
}
`

// TestDecoderAgreement holds our reading of requests against that of libfcgi, which is in C and
// older than most of what uses it: what we take as a request it takes, with the same params in the
// same order, on messages of real peers and on such that have a byte changed or are cut. The other
// way round is not asked for: it takes heads that are cut, records of another version or of an
// unknown type among the params, and params that say more than is there.
func TestDecoderAgreement(t *testing.T) {
	cc := integration.Need(t, "gcc", "gcc libc6-dev")
	spawn := integration.Need(t, "spawn-fcgi", "spawn-fcgi")
	integration.NeedFile(t, "/usr/include/fcgiapp.h", "libfcgi-dev")
	dir := integration.Dir(t)
	app := filepath.Join(dir, "mirror")
	if out, err := exec.Command(cc, "-o", app, integration.Write(t, dir, "mirror.c", mirrorProgram), "-lfcgi").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	socket := filepath.Join(dir, "mirror.sock")
	integration.Start(t, dir, socket, spawn, "-n", "-s", socket, "--", app)
	rng := rand.New(rand.NewPCG(1, 2))
	compared := 0
	for name, b := range fuzz.Seeds(fuzz.FastCGI) {
		if !strings.HasPrefix(name, "request/") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			for range 6 {
				var p gateway.Params
				padded := len(b) > 6 && b[6] > 0 // libfcgi takes the padding of BEGIN_REQUEST for the next record
				if _, _, n, err := fastcgi.ConsumeRequest(b, &p); n > 0 && err == nil && !padded {
					compared++
					if diff := cmp.Diff(environ(&p), libfcgi(t, socket, b)); diff != "" {
						t.Errorf("ours, and libfcgi's: %s\n%q", diff, b[:n])
					}
				}
				b = mutate(rng, b)
			}
		})
	}
	if compared < 500 {
		t.Errorf("only %d requests were compared", compared)
	}
}

// role is a param that libfcgi sets.
const role = "FCGI_ROLE="

// environ is how C knows params: a NUL ends one.
func environ(p *gateway.Params) (env []string) {
	for name, value := range p.All() {
		pair, _, _ := strings.Cut(string(name)+"="+string(value), "\x00")
		if !strings.HasPrefix(pair, role) {
			env = append(env, pair)
		}
	}
	return env
}

// mutate changes a byte of the params, or cuts them.
func mutate(rng *rand.Rand, b []byte) []byte {
	const head = 24 // BEGIN_REQUEST, and the header of the first PARAMS
	if len(b) <= head+1 {
		return b
	}
	b = bytes.Clone(b)
	at := head + rng.IntN(min(len(b)-head, 400))
	if rng.IntN(50) == 0 {
		return b[:at]
	}
	b[at] ^= 1 << rng.IntN(8)
	return b
}

// libfcgi returns the request that the mirror makes of b, or nil if it does not respond.
func libfcgi(t *testing.T, socket string, b []byte) (env []string) {
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	go func() {
		c.Write(b)
		c.(*net.UnixConn).CloseWrite()
	}()
	var res gateway.Response
	if fastcgi.NewReader(c).ReadResponse(&res) != nil {
		return nil
	}
	body, _ := io.ReadAll(res.Body)
	block, _, _ := strings.Cut(string(body), "\x00\x00")
	for pair := range strings.SplitSeq(block, "\x00") {
		if !strings.HasPrefix(pair, role) {
			env = append(env, pair)
		}
	}
	return env
}
