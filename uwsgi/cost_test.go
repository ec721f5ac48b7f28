package uwsgi_test

import (
	"io"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

var codec = conformance.Codec{
	Proto:         "uwsgi",
	AppendParam:   uwsgi.AppendParam[string, string],
	ConsumeParam:  uwsgi.ConsumeParam,
	AppendParams:  uwsgi.AppendParams,
	ConsumeParams: uwsgi.ConsumeParams,
	AppendRequest: uwsgi.AppendRequest,
	ConsumeRequest: func(b []byte, p *gateway.Params) error {
		_, _, err := uwsgi.ConsumeRequest(b, p)
		return err
	},
	Reader: func(src io.Reader) conformance.Reader { return uwsgi.NewReader(src) },
	Writer: func(dst io.Writer) conformance.Writer { return uwsgi.NewWriter(dst) },
}

func TestAllocations(t *testing.T) { conformance.Allocations(t, codec) }

func BenchmarkCodec(b *testing.B) { conformance.BenchCodec(b, codec) }

func BenchmarkStreams(b *testing.B) { conformance.BenchStreams(b, codec) }
