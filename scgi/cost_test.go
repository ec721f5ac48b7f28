package scgi_test

import (
	"io"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/scgi"
)

var codec = conformance.Codec{
	Proto:         "scgi",
	AppendParam:   scgi.AppendParam[string, string],
	ConsumeParam:  scgi.ConsumeParam,
	AppendParams:  scgi.AppendParams,
	ConsumeParams: scgi.ConsumeParams,
	AppendRequest: scgi.AppendRequest,
	ConsumeRequest: func(b []byte, p *gateway.Params) error {
		_, err := scgi.ConsumeRequest(b, p)
		return err
	},
	Reader: func(src io.Reader) conformance.Reader { return scgi.NewReader(src) },
	Writer: func(dst io.Writer) conformance.Writer { return scgi.NewWriter(dst) },
}

func TestAllocations(t *testing.T) { conformance.Allocations(t, codec) }

func BenchmarkCodec(b *testing.B) { conformance.BenchCodec(b, codec) }

func BenchmarkStreams(b *testing.B) { conformance.BenchStreams(b, codec) }
