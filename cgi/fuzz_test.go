package cgi_test

import (
	"testing"

	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

func FuzzConsumeParams(f *testing.F) { conformance.FuzzParams(f, codec) }
