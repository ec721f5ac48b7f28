package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/vectors"
)

// Verdict returns the word that vectors use for an error.
func Verdict(err error) string {
	switch {
	case err == nil || err == io.EOF:
		return "ok"
	case errors.Is(err, gateway.ErrParam):
		return "param"
	case errors.Is(err, gateway.ErrTooLarge):
		return "too large"
	case errors.Is(err, gateway.ErrMalformed):
		return "malformed"
	case errors.Is(err, gateway.ErrAborted):
		return "aborted"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "truncated"
	case errors.Is(err, gateway.ErrRefused):
		return "refused"
	}
	return err.Error()
}

// Read describes every message of one side in src.
func (c Codec) Read(side string, src io.Reader) (read []string, err error) {
	r := c.Reader(src)
	if side == "request" {
		return readRequests(r)
	}
	return readResponses(r)
}

func readRequests(r Reader) (read []string, err error) {
	var req gateway.Request
	for {
		if err := r.ReadRequest(&req); err != nil {
			return read, err
		}
		line := fmt.Sprintf("%s %q, %d params, length %d", req.Method(), req.URI(), req.Params.Len(), req.ContentLength)
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

func readResponses(r Reader) (read []string, err error) {
	var res gateway.Response
	for {
		if err := r.ReadResponse(&res); err != nil {
			return read, err
		}
		body, err := io.ReadAll(res.Body)
		read = append(read, fmt.Sprintf("status %d, %d fields, length %d, body %d", res.Status, res.Header.Len(), res.ContentLength, len(body)))
		if err != nil {
			return read, err
		}
	}
}

// Vectors reads every vector of the protocol, whole and byte by byte.
func Vectors(t *testing.T, c Codec) {
	all, err := vectors.All(c.Proto)
	if err != nil || len(all) < 20 {
		t.Fatalf("%d vectors, %v", len(all), err)
	}
	for _, v := range all {
		t.Run(v.Name, func(t *testing.T) {
			for name, src := range map[string]io.Reader{"whole": bytes.NewReader(v.Bytes), "byte": iotest.OneByteReader(bytes.NewReader(v.Bytes))} {
				read, err := c.Read(v.Side, src)
				if got := Verdict(err); got != v.Expect {
					t.Errorf("%s: %s (%v), want %s", name, got, err, v.Expect)
				}
				if diff := cmp.Diff(v.Read, read); diff != "" {
					t.Errorf("%s: %s", name, diff)
				}
			}
		})
	}
}

// FuzzReader reads messages of one side whole and in pieces, which must agree.
func FuzzReader(f *testing.F, c Codec, side string) {
	seed(f, c.Proto, side)
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, err := c.Read(side, bytes.NewReader(b))
		for name, src := range map[string]io.Reader{"byte": iotest.OneByteReader(bytes.NewReader(b)), "half": iotest.HalfReader(bytes.NewReader(b))} {
			pieces, perr := c.Read(side, src)
			if Verdict(err) != Verdict(perr) || !cmp.Equal(whole, pieces) {
				t.Fatalf("%s: %v, %v; whole: %v, %v", name, pieces, perr, whole, err)
			}
		}
	})
}

// FuzzConsumeRequest reads one head by the rules of the wire, writes it and reads it again.
func FuzzConsumeRequest(f *testing.F, c Codec) {
	seed(f, c.Proto, "request")
	f.Fuzz(func(t *testing.T, b []byte) {
		var req gateway.Request
		err := c.ConsumeRequest(b, &req.Params)
		if err != nil && req.Params.Len() > 0 {
			t.Fatalf("%d params of no request", req.Params.Len())
		}
		if err != nil || c.Reader(bytes.NewReader(b)).ReadRequest(&req) != nil {
			return
		}
		req.Body, req.ContentLength = nil, 0
		out, err := c.AppendRequest(nil, &req)
		if err != nil {
			return // a rule for heads that are sent
		}
		var again gateway.Request
		if err := c.Reader(bytes.NewReader(out)).ReadRequest(&again); err != nil {
			t.Fatalf("%q cannot be read: %v", out, err)
		}
		for name, value := range req.Params.All() {
			switch got, ok := again.Params.Lookup(string(name)); {
			case string(name) == "CONTENT_LENGTH" || string(name) == "SCGI" || string(name) == "HTTP_TRANSFER_ENCODING":
			case !ok || !bytes.Equal(got, value):
				t.Fatalf("%s: %q became %q", name, value, got)
			}
		}
	})
}

// FuzzParams reads pairs, writes them and reads them again.
func FuzzParams(f *testing.F, c Codec) {
	content, err := c.AppendParams(nil, &Typical(nil).Params)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Add(content[:50])
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var p, again gateway.Params
		n, err := c.ConsumeParams(b, &p)
		if err != nil {
			if p.Len() != 0 || n != -1 {
				t.Fatalf("%d params after %v", p.Len(), err)
			}
			return
		}
		if n > len(b) {
			t.Fatalf("used %d of %d", n, len(b))
		}
		out, err := c.AppendParams(nil, &p)
		if err != nil {
			return // a NUL, or an "="
		}
		if m, err := c.ConsumeParams(out, &again); m != len(out) || err != nil || again.Len() != p.Len() || !bytes.Equal(out, b[:n]) {
			t.Fatalf("%q became %q, %v", b[:n], out, err)
		}
	})
}
