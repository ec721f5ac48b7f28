package gateway_test

import (
	"errors"
	"io"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
)

func TestMountAt(t *testing.T) {
	for _, c := range []struct {
		prefix, path, name, info string
		err                      error
	}{
		{"/app", "/app/x", "/app", "/x", nil},
		{"/app", "/app", "/app", "", nil},
		{"/app", "/app/", "/app", "/", nil},
		{"/app", "/application", "", "/application", nil},
		{"/app//", "/app/x", "/app", "/x", nil},
		{"", "/a//b/../c", "", "/a//b/../c", nil},
		{"/", "/x", "", "/x", nil},
		{"", "*", "", "*", nil},
		{"/app", "", "", "", gateway.ErrParam},
		{"/app", "x", "", "", gateway.ErrParam},
		{"/app", "/x\x00", "", "", gateway.ErrParam},
		{"/app", "/x\r", "", "", gateway.ErrParam},
		{"/app", "/x\n", "", "", gateway.ErrParam},
	} {
		t.Run(c.prefix+" "+c.path+" [461]", func(t *testing.T) {
			var r gateway.Request
			r.Params.Set("SCRIPT_NAME", c.path)
			for _, name := range []string{"REQUEST_URI", "QUERY_STRING", "SCRIPT_FILENAME", "PATH_TRANSLATED"} {
				r.Params.Set(name, "as it was")
			}
			if err := gateway.MountAt(c.prefix)(&r); !errors.Is(err, c.err) {
				t.Fatalf("got %v", err)
			} else if err != nil {
				return
			}
			if r.ScriptName() != c.name || r.PathInfo() != c.info || r.Params.Get("REQUEST_URI") != "as it was" || r.Query() != "as it was" {
				t.Errorf("%q %q", r.ScriptName(), r.PathInfo())
			}
			for _, name := range []string{"SCRIPT_FILENAME", "PATH_TRANSLATED"} {
				if v, ok := r.Params.Lookup(name); ok {
					t.Errorf("%s=%q", name, v)
				}
			}
		})
	}
}

// TestMountAtBehindWebServers checks that the params of each web server lead to the same place.
func TestMountAtBehindWebServers(t *testing.T) {
	for name, params := range map[string][]string{
		"nginx's fastcgi_params":      {"SCRIPT_NAME", "/app/x", "REQUEST_URI", "/app/x?q", "DOCUMENT_URI", "/app/x"},
		"nginx's uwsgi_params":        {"PATH_INFO", "/app/x", "REQUEST_URI", "/app/x?q"},
		"nginx's scgi_params":         {"DOCUMENT_URI", "/app/x", "REQUEST_URI", "/app/x?q"},
		"Apache's mod_proxy_fcgi":     {"SCRIPT_NAME", "/app/x", "PATH_INFO", "", "REQUEST_URI", "/app/x?q"},
		"Apache's mod_proxy_scgi":     {"SCRIPT_NAME", "/app", "PATH_INFO", "/x", "REQUEST_URI", "/app/x?q"},
		"Apache's mod_proxy_uwsgi":    {"SCRIPT_NAME", "", "PATH_INFO", "/app/x", "REQUEST_URI", "/app/x?q"},
		"a server that sends the URI": {"REQUEST_URI", "/app/x?q"},
	} {
		t.Run(name+" [462]", func(t *testing.T) {
			var r gateway.Request
			for i := 0; i < len(params); i += 2 {
				r.Params.Set(params[i], params[i+1])
			}
			if err := gateway.MountAt("/app")(&r); err != nil || r.ScriptName() != "/app" || r.PathInfo() != "/x" {
				t.Errorf("%q %q, %v", r.ScriptName(), r.PathInfo(), err)
			}
		})
	}
}

func TestPathAgreesWithCleanedPaths(t *testing.T) {
	for _, c := range []struct {
		uri, script, info string
		want              bool
	}{
		{"/a//b/./c/../x.php/p/", "/a/b/x.php", "/p/", true},
		{"/%2e%2e/x.php", "/x.php", "", false},
		{"/y.php", "/x.php", "", false},
		{"/x.php/", "/x.php", "", false},
	} {
		t.Run(c.uri+" [476]", func(t *testing.T) {
			var r gateway.Request
			r.Params.Set("REQUEST_URI", c.uri)
			r.Params.Set("SCRIPT_NAME", c.script)
			r.Params.Set("PATH_INFO", c.info)
			if got := r.PathAgrees(); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// TestErrorsOfThisMachine checks that a fault of this machine is not taken for the client's or the
// backend's.
func TestErrorsOfThisMachine(t *testing.T) {
	t.Run("a missing folder for temporary files is a 500", func(t *testing.T) {
		s := &gateway.Spool{Dir: t.TempDir() + "/missing", MaxMemory: 1}
		r := &gateway.Request{Body: io.LimitReader(zeros{}, 100), ContentLength: -1}
		if err := s.RoundTrip(t.Context(), r, new(gateway.Response)); gateway.ErrorStatus(err) != 500 {
			t.Errorf("%d, %v", gateway.ErrorStatus(err), err)
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
