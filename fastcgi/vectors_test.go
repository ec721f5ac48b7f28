package fastcgi_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
	"github.com/gatehouse-go/gatehouse/internal/vectors"
)

// verdict is the word that vectors have for an error.
var verdict = conformance.Verdict

// readRequests describes every request in src.
func readRequests(src io.Reader) (read []string, err error) {
	r := fastcgi.NewReader(src)
	var req gateway.Request
	for {
		if err := r.ReadRequest(&req); err != nil {
			return read, err
		}
		id, begin := r.Begin()
		line := fmt.Sprintf("id %d, %v, keep %v, %d params, length %d", id, begin.Role, begin.KeepConn, req.Params.Len(), req.ContentLength)
		if req.Body == gateway.NoBody {
			read = append(read, line)
			continue
		}
		body, err := io.ReadAll(req.Body)
		read = append(read, fmt.Sprintf("%s, body %d", line, len(body)))
		if err != nil {
			return read, err
		}
	}
}

// readResponses describes every response in src.
func readResponses(src io.Reader) (read []string, err error) {
	r := fastcgi.NewReader(src)
	var res gateway.Response
	for {
		if err := r.ReadResponse(&res); err != nil {
			return read, err
		}
		body, err := io.ReadAll(res.Body)
		read = append(read, fmt.Sprintf("status %d, %d fields, length %d, body %d, appStatus %d", res.Status, res.Header.Len(), res.ContentLength, len(body), res.AppStatus))
		if err != nil {
			return read, err
		}
	}
}

func readVector(side string, src io.Reader) ([]string, error) {
	if side == "request" {
		return readRequests(src)
	}
	return readResponses(src)
}

func TestVectors(t *testing.T) {
	all, err := vectors.All("fastcgi")
	if err != nil || len(all) < 100 {
		t.Fatalf("%d vectors, %v", len(all), err)
	}
	for _, v := range all {
		t.Run(v.Name, func(t *testing.T) {
			for name, src := range map[string]io.Reader{
				"whole": bytes.NewReader(v.Bytes),
				"byte":  iotest.OneByteReader(bytes.NewReader(v.Bytes)),
			} {
				read, err := readVector(v.Side, src)
				if got := verdict(err); got != v.Expect {
					t.Errorf("%s: %s (%v), want %s", name, got, err, v.Expect)
				}
				if diff := cmp.Diff(v.Read, read); diff != "" {
					t.Errorf("%s: %s", name, diff)
				}
			}
		})
	}
}

// seed gives a fuzz target the vectors of one side.
func seed(f *testing.F, side string) {
	all, err := vectors.All("fastcgi")
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range all {
		if v.Side == side {
			f.Add(v.Bytes)
		}
	}
}
