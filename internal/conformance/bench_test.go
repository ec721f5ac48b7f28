//go:build unix

package conformance_test

import (
	"fmt"
	"io"
	"testing"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

// BenchmarkRoundTrip is an exchange with the typical request, a client and a server in one process (CGI: and the script
// in another): FastCGI on a kept connection, the others on one of their own. What it allocates is both ends'.
func BenchmarkRoundTrip(b *testing.B) {
	for _, protocol := range protocols {
		for _, size := range []int{0, 64 << 10} {
			b.Run(fmt.Sprintf("proto=%s/size=%d", protocol, size), func(b *testing.B) {
				addr := "echo"
				if protocol != "cgi" {
					addr = gatewaytest.Start(b, server(protocol, gateway.HandlerFunc(back)))
				}
				c := client(protocol, addr)
				if f, ok := c.(*fastcgi.Client); ok {
					f.MaxIdle = 1
					defer f.Close()
				}
				body := make([]byte, size)
				req := conformance.Typical(body)
				var res gateway.Response
				scrap := make([]byte, 64<<10)
				b.ReportAllocs()
				b.SetBytes(int64(2 * size))
				for b.Loop() {
					req.SetBody(body)
					if err := c.RoundTrip(b.Context(), req, &res); err != nil {
						b.Fatal(err)
					}
					got := 0
					for {
						n, err := res.Body.Read(scrap)
						got += n
						if err == io.EOF {
							break
						}
						if err != nil {
							b.Fatal(err)
						}
					}
					res.Body.Close()
					if got < size {
						b.Fatalf("%d bytes", got)
					}
				}
			})
		}
	}
}

// back answers with the body, or with a line.
func back(w gateway.ResponseWriter, r *gateway.Request) error {
	w.Header().Set("Content-Type", "text/plain")
	if r.Body != nil {
		_, err := io.Copy(w, r.Body)
		return err
	}
	_, err := io.WriteString(w, "hello, world\n")
	return err
}
