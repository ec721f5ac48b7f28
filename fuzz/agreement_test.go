package fuzz_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/fuzz"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/scgi"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// carry sends r by a protocol and returns it as the other end reads it. What it returns is valid
// until the next call.
func carry(t *testing.T, p fuzz.Protocol, r *gateway.Request) (*gateway.Request, error) {
	var wire bytes.Buffer
	var rd interface {
		ReadRequest(*gateway.Request) error
	}
	var err error
	switch p {
	case fuzz.CGI:
		return carryEnv(t, r)
	case fuzz.FastCGI:
		err = fastcgi.NewWriter(&wire).WriteRequest(r)
		rd = fastcgi.NewReader(&wire)
	case fuzz.SCGI:
		err = scgi.NewWriter(&wire).WriteRequest(r)
		rd = scgi.NewReader(&wire)
	case fuzz.UWSGI:
		err = uwsgi.NewWriter(&wire).WriteRequest(r)
		rd = uwsgi.NewReader(&wire)
	}
	if err != nil {
		return nil, err
	}
	got := new(gateway.Request)
	if err := rd.ReadRequest(got); err != nil {
		t.Fatalf("%s: what was written cannot be read: %v", p, err)
	}
	return got, nil
}

// carryEnv has cgi.Client make a process's environment of r, and takes this process for that one.
func carryEnv(t *testing.T, r *gateway.Request) (*gateway.Request, error) {
	var env []string
	c := &cgi.Client{Path: "/bin/true", Prepare: func(_ context.Context, cmd *exec.Cmd, _ *gateway.Request) error {
		env = cmd.Env
		return errOther
	}}
	body := r.Body
	err := c.RoundTrip(t.Context(), r, new(gateway.Response))
	if !errors.Is(err, errOther) {
		return nil, err
	}
	host, stdin := os.Environ(), os.Stdin
	defer func() {
		setEnv(host)
		os.Stdin = stdin
	}()
	in, err := os.CreateTemp(t.TempDir(), "stdin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	if body != nil {
		io.Copy(in, body)
		in.Seek(0, io.SeekStart)
	}
	os.Stdin = in
	setEnv(env)
	got := new(gateway.Request)
	if err := cgi.ReadRequest(got); err != nil {
		t.Fatalf("cgi: what was made cannot be read: %v", err)
	}
	return got, nil
}

func setEnv(env []string) {
	os.Clearenv()
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		os.Setenv(name, value)
	}
}

// meaning is all that a handler sees of a request, in the waist and in net/http.
type meaning struct {
	Params                                          []string
	Length                                          int64
	Body                                            string
	Method, URI, Script, Info, Query, Host, RawPath string
	TLS                                             bool
	HTTP                                            string
}

// mean returns the meaning of r, without params that a protocol adds or cannot carry.
func mean(t *testing.T, p fuzz.Protocol, r *gateway.Request, skip map[string]bool) meaning {
	m := meaning{
		Length: r.ContentLength, Method: r.Method(), URI: r.URI(), Script: r.ScriptName(), Info: r.PathInfo(), Query: r.Query(),
		Host: r.Host(), TLS: r.TLS(),
	}
	for name, value := range r.Params.All() {
		if n := string(name); n != "SCGI" && n != "CONTENT_LENGTH" && !skip[n] {
			m.Params = append(m.Params, n+"="+string(value))
		}
	}
	hr, err := gatewayhttp.NewRequest(t.Context(), r)
	if err != nil {
		m.HTTP = err.Error()
	} else {
		m.HTTP = fmt.Sprintf("%s %s %s %s %q %d %s %v %q", hr.Method, hr.RequestURI, hr.URL, hr.Host, headerWithout(hr.Header, skip), hr.ContentLength, hr.Proto, hr.TLS != nil, hr.RemoteAddr)
	}
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatalf("%s: body: %v", p, err)
		}
		m.Body = string(b)
	}
	return m
}

func headerWithout(h http.Header, skip map[string]bool) http.Header {
	for name := range skip {
		h.Del(strings.ReplaceAll(strings.TrimPrefix(name, "HTTP_"), "_", "-"))
	}
	return h
}

// FuzzAgreement sends a request over all four protocols: it arrives unchanged over each, or none of
// them sends it.
func FuzzAgreement(f *testing.F) {
	f.Add("REQUEST_METHOD=GET\nSCRIPT_NAME=/s\nPATH_INFO=/in fo\nREQUEST_URI=/s/in%20fo?a=1\nQUERY_STRING=a=1\nHTTP_HOST=x:80\nHTTP_COOKIE=a\nHTTP_COOKIE=b", []byte("body"))
	f.Add("REQUEST_METHOD=POST\nHTTPS=on\nHTTP_X=caf\xc3\xa9\nHTTP_PROXY=evil\nCONTENT_TYPE=\nSERVER_PROTOCOL=HTTP/1.1\nREMOTE_ADDR=::1\nREMOTE_PORT=9", []byte{})
	f.Add("X=1\nX=2", []byte(nil))
	f.Add("X=1\nX=1\nlower=1\nLD_PRELOAD=x\nA.B=2\nSCGI=1\nUWSGI_FILE=x\nSERVER_PROTOCOL=HTTP/2", []byte("\x00"))
	f.Fuzz(func(t *testing.T, text string, body []byte) {
		var r gateway.Request
		for line := range strings.SplitSeq(text, "\n") {
			name, value, _ := strings.Cut(line, "=")
			r.Params.Add(name, value)
		}
		if len(text) > 60<<10 || r.Params.Len() > 900 || len(r.Params.Get("SCGI")) > 0 {
			return // limits that are not the same, and a name that is SCGI's own
		}
		agree(t, &r, body)
	})
}

// agree carries r by every protocol.
func agree(t *testing.T, r *gateway.Request, body []byte) {
	t.Helper()
	send := func(p fuzz.Protocol) (*gateway.Request, error) {
		r.SetBody(body)
		return carry(t, p, r)
	}
	want, wantErr := send(fuzz.FastCGI)
	// Params that cgi.Client drops are not compared.
	skip := make(map[string]bool)
	env, envErr := send(fuzz.CGI)
	if wantErr == nil && envErr == nil {
		for name := range want.Params.All() {
			if _, ok := env.Params.Lookup(string(name)); !ok {
				skip[string(name)] = true
			}
		}
		for _, name := range []string{"PATH", "GATEWAY_INTERFACE", "REDIRECT_STATUS", "SCRIPT_FILENAME"} {
			skip[name] = true // made by it
		}
	}
	var first meaning
	for i, p := range []fuzz.Protocol{fuzz.FastCGI, fuzz.CGI, fuzz.SCGI, fuzz.UWSGI} {
		got, err := send(p)
		if (err == nil) != (wantErr == nil) || err != nil && !errors.Is(err, gateway.ErrParam) {
			t.Fatalf("%s: %v; FastCGI: %v", p, err, wantErr)
		}
		if err != nil {
			continue
		}
		m := mean(t, p, got, skip)
		if i == 0 {
			first = m
		} else if diff := cmp.Diff(first, m); diff != "" {
			t.Fatalf("%s is not FastCGI: %s", p, diff)
		}
	}
}
