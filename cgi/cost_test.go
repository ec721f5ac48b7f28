package cgi_test

import (
	"testing"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

var codec = conformance.Codec{
	Proto:         "cgi",
	AppendParam:   cgi.AppendParam[string, string],
	ConsumeParam:  cgi.ConsumeParam,
	AppendParams:  cgi.AppendParams,
	ConsumeParams: cgi.ConsumeParams,
}

func TestAllocations(t *testing.T) { conformance.Allocations(t, codec) }

func BenchmarkCodec(b *testing.B) { conformance.BenchCodec(b, codec) }
