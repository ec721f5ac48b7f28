package fastcgi_test

import (
	"io"
	"testing"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

var codec = conformance.Codec{
	Proto:         "fastcgi",
	AppendParam:   fastcgi.AppendParam[string, string],
	ConsumeParam:  fastcgi.ConsumeParam,
	AppendParams:  fastcgi.AppendParams,
	ConsumeParams: fastcgi.ConsumeParams,
	AppendRequest: func(dst []byte, r *gateway.Request) ([]byte, error) { return fastcgi.AppendRequest(dst, 1, true, r) },
	ConsumeRequest: func(b []byte, p *gateway.Params) error {
		_, _, _, err := fastcgi.ConsumeRequest(b, p)
		return err
	},
	Reader: func(src io.Reader) conformance.Reader { return fastcgi.NewReader(src) },
	Writer: func(dst io.Writer) conformance.Writer { return fastcgi.NewWriter(dst) },
}

func BenchmarkCodec(b *testing.B)   { conformance.BenchCodec(b, codec) }
func BenchmarkStreams(b *testing.B) { conformance.BenchStreams(b, codec) }

func BenchmarkNext(b *testing.B) {
	wire := []byte(rec(fastcgi.TypeStdout, 1, string(make([]byte, 8184))))
	r := fastcgi.NewReader(&loop{b: wire})
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}
