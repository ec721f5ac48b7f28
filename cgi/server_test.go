//go:build unix

package cgi_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/cgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

func TestServer(t *testing.T) {
	t.Run("a process that is not a CGI script [233]", func(t *testing.T) {
		out, _, err := run(t, "echo", "", "REQUEST_METHOD=GET")
		if out != "" || err == nil {
			t.Errorf("%q, %v", out, err)
		}
		if err := (&cgi.Server{}).Serve(t.Context()); !errors.Is(err, cgi.ErrNotStarted) || cgi.Started() {
			t.Errorf("got %v", err)
		}
		if err := cgi.ReadRequest(new(gateway.Request)); !errors.Is(err, cgi.ErrNotStarted) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("HTTP_PROXY is removed [234 F1]", func(t *testing.T) {
		t.Setenv("GATEWAY_INTERFACE", "CGI/1.1")
		t.Setenv("HTTP_PROXY", "http://evil")
		t.Setenv("HTTP_X", "1")
		t.Setenv("CONTENT_LENGTH", "")
		var r gateway.Request
		if err := cgi.ReadRequest(&r); err != nil || r.Params.Get("HTTP_X") != "1" || r.Body != gateway.NoBody || r.ContentLength != 0 || !cgi.Started() {
			t.Errorf("%v", err)
		}
		if _, ok := r.Params.Lookup("HTTP_PROXY"); ok || os.Getenv("HTTP_PROXY") != "" {
			t.Error("HTTP_PROXY is there")
		}
	})
	t.Run("standard input stays open after the body [235]", func(t *testing.T) {
		pr, pw, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer pw.Close()
		pw.WriteString("hello, and more")
		for length, want := range map[string]string{"": "", "5": "hello"} {
			path, _ := os.Executable()
			cmd := exec.Command(path)
			cmd.Env = append(conformance.Environ(t), "GATEWAY_INTERFACE=CGI/1.1", "CONTENT_LENGTH="+length, "GATEHOUSE_TEST_HANDLER=echo")
			cmd.Stdin = pr
			out, err := cmd.Output()
			if err != nil || !strings.HasSuffix(string(out), "\r\n\r\n"+want) {
				t.Errorf("%q: %q, %v", length, out, err)
			}
		}
	})
	t.Run("the bytes of a response [236 263 265]", func(t *testing.T) {
		out, errs, err := run(t, "echo", "hello", "GATEWAY_INTERFACE=CGI/1.1", "CONTENT_LENGTH=5")
		if want := "Status: 200 OK\r\nContent-Type: application/octet-stream\r\nX-Length: 5\r\n\r\nhello"; out != want || errs != "" || err != nil {
			t.Errorf("%q, %q, %v", out, errs, err)
		}
	})
	t.Run("exit statuses [237]", func(t *testing.T) {
		for path, want := range map[string]int{"/404": 0, "/error": 0, "/stderr": 7, "/late": 1} {
			_, _, err := run(t, "responses", "", "GATEWAY_INTERFACE=CGI/1.1", "PATH_INFO="+path)
			code := 0
			if e, ok := errors.AsType[*exec.ExitError](err); ok {
				code = e.ExitCode()
			}
			if code != want {
				t.Errorf("%s: exit status %d", path, code)
			}
		}
	})
}

// A refused request has a response, so that the script has succeeded.
func TestServerExit(t *testing.T) {
	for name, c := range map[string]struct {
		env  []string
		want string
	}{
		"a length that is none": {[]string{"CONTENT_LENGTH=abc"}, "Status: 400 "},
		"a line in a field":     {[]string{"HTTP_X=a\nb"}, "Status: 400 "},
		"a handler's error":     {[]string{"PATH_INFO=/param"}, "Status: 400 "},
		"fine":                  {[]string{"PATH_INFO=/404"}, "Status: 404 "},
	} {
		out, _, err := run(t, "responses", "", append(c.env, "GATEWAY_INTERFACE=CGI/1.1", "REQUEST_METHOD=GET")...)
		if !strings.HasPrefix(out, c.want) || err != nil {
			t.Errorf("237 %s: %q, %v", name, out, err)
		}
	}
	out, _, err := run(t, "responses", "", "GATEWAY_INTERFACE=CGI/1.1", "REQUEST_METHOD=GET", "PATH_INFO=/status256")
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 255 || !strings.Contains(out, "said") {
		t.Errorf("237: %q, %v", out, err)
	}
}

// HTTP_PROXY is removed before the handler of Serve runs, and a response without a type stays
// without one.
func TestServerScrubs(t *testing.T) {
	out, _, err := run(t, "environ", "", "GATEWAY_INTERFACE=CGI/1.1", "REQUEST_METHOD=GET", "HTTP_PROXY=http://evil", "HTTP_X=kept")
	if err != nil || strings.Contains(out, "evil") || !strings.Contains(out, "HTTP_X=kept") {
		t.Errorf("234 F1: %q, %v", out, err)
	}
}
