//go:build unix

package cgi_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/conformance"
)

func TestEnvironment(t *testing.T) {
	t.Run("the environment is built from nothing [215 F39]", func(t *testing.T) {
		t.Setenv("GATEHOUSE_SECRET", "host")
		t.Setenv("GATEHOUSE_WANTED", "inherited")
		c := shell(t, printEnv)
		c.InheritEnv = []string{"GATEHOUSE_WANTED", "GATEHOUSE_MISSING"}
		c.Env = []string{"OWN=1", "SERVER_NAME=configured"}
		env := environment(t, c, get("/a?b"))
		for name := range env {
			switch name {
			case "GATEWAY_INTERFACE", "SERVER_SOFTWARE", "SERVER_PROTOCOL", "SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR", "REQUEST_METHOD", "REQUEST_URI",
				"SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "CONTENT_LENGTH", "PATH", "GATEHOUSE_WANTED", "OWN", "REDIRECT_STATUS", "SCRIPT_FILENAME", "PWD", "SHLVL", "_", "OLDPWD":
			default:
				t.Errorf("%s=%s", name, env[name])
			}
		}
		if env["GATEHOUSE_WANTED"] != "inherited" || env["OWN"] != "1" || env["SERVER_NAME"] != "configured" || env["PATH"] != os.Getenv("PATH") || env["QUERY_STRING"] != "b" || env["PATH_INFO"] != "/a" {
			t.Errorf("%v", env)
		}
	})
	t.Run("names that influence a loader, a shell or an interpreter [216 217 F1 F11]", func(t *testing.T) {
		r := get("/")
		names := []string{"LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "IFS", "HOME", "BASH_ENV", "BASH_FUNC_x", "ENV", "GIT_DIR", "GIT_PROJECT_ROOT",
			"PYTHONPATH", "PERL5OPT", "PERL5LIB", "NODE_OPTIONS", "HTTP_PROXY", "lower", "HTTP_X.Y", "A-B", "1A", "SHELLOPTS", "RUBYOPT", "DYLD_INSERT_LIBRARIES"}
		for _, name := range names {
			r.Params.Set(name, "request")
		}
		r.Params.Set("SSL_CLIENT_S_DN", "passed")
		c := shell(t, printEnv)
		c.Env = []string{"GIT_PROJECT_ROOT=configured", "HOME=configured"}
		env := environment(t, c, r)
		for _, name := range names {
			if env[name] == "request" {
				t.Errorf("%s reaches the program", name)
			}
		}
		if env["SSL_CLIENT_S_DN"] != "passed" || env["GIT_PROJECT_ROOT"] != "configured" || env["HOME"] != "configured" {
			t.Errorf("%v", env)
		}
		r = get("/")
		r.Params.Set("HTTP_X", "\x00")
		if o := conformance.Ask(t, c, r); !errors.Is(o.Err, gateway.ErrParam) {
			t.Errorf("216 NUL: %v", o.Err)
		}
	})
}

// Variables that influence the loader, the shell or an interpreter come from Env only.
func TestReservedNames(t *testing.T) {
	r := request("/")
	bad := []string{"GLIBC_TUNABLES", "HOSTALIASES", "RES_OPTIONS", "TZDIR", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "DOTNET_STARTUP_HOOKS",
		"OPENSSL_CONF", "OPENSSL_MODULES", "ZDOTDIR", "FPATH", "PROMPT_COMMAND", "TMP", "TEMP", "PAGER", "EDITOR", "SSH_ASKPASS",
		"HTTPS_PROXY", "ALL_PROXY", "R_PROFILE", "TCLLIBPATH", "GOMAXPROCS", "ERL_FLAGS", "GETCONF_DIR", "SSL_CERT_FILE", "NOTIFY_SOCKET",
		"LIBMYSQL_PLUGIN_DIR", "GIO_EXTRA_MODULES", "GTK_MODULES", "MAGICK_CONFIGURE_PATH", "QT_PLUGIN_PATH", "TAR_OPTIONS", "PGSERVICEFILE",
		"HGRCPATH", "RSYNC_RSH", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "CONTENTS", "ANYTHING"}
	for _, name := range bad {
		r.Params.Add(name, "theirs")
	}
	r.Params.Add("SSL_CLIENT_CERT", "passes")
	c := program(t, "params")
	c.Env = append(c.Env, "TZDIR=ours")
	o := conformance.Ask(t, c, r)
	if o.Err != nil || strings.Contains(o.Body, "theirs") || !strings.Contains(o.Body, "SSL_CLIENT_CERT=\"passes\"") || !strings.Contains(o.Body, "TZDIR=\"ours\"") {
		t.Errorf("215 217: %s, %v", o.Body, o.Err)
	}
}

// TestPassedParams checks which params reach a program.
func TestPassedParams(t *testing.T) {
	t.Run("an allow-list [217 F56]", func(t *testing.T) {
		r := get("/")
		good := []string{"AUTH_TYPE", "REMOTE_USER", "REMOTE_HOST", "SCRIPT_URI", "DOCUMENT_ROOT", "CONTENT_TYPE", "HTTPS", "SSL_PROTOCOL", "REDIRECT_URL", "HTTP_X", "REQUEST_SCHEME", "UNIQUE_ID"}
		bad := []string{"LIBMYSQL_PLUGIN_DIR", "TAR_OPTIONS", "FOO", "UWSGI_SCHEME"}
		for _, name := range append(bad, good...) {
			r.Params.Set(name, "theirs")
		}
		c := shell(t, printEnv)
		c.PassParams = []string{"UNIQUE_ID"}
		env := environment(t, c, r)
		for _, name := range good {
			if env[name] != "theirs" {
				t.Errorf("%s does not reach the program", name)
			}
		}
		for _, name := range bad {
			if v, ok := env[name]; ok {
				t.Errorf("%s=%s", name, v)
			}
		}
	})
	t.Run("HTTP_AUTHORIZATION [477 F57]", func(t *testing.T) {
		r := get("/")
		secret := []string{"HTTP_AUTHORIZATION", "HTTP_PROXY_AUTHORIZATION", "REDIRECT_HTTP_AUTHORIZATION", "REDIRECT_REDIRECT_HTTP_AUTHORIZATION"}
		for _, name := range append([]string{"REMOTE_USER", "AUTH_TYPE"}, secret...) {
			r.Params.Set(name, "Basic dTpw")
		}
		for _, pass := range []bool{false, true} {
			c := shell(t, printEnv)
			c.PassAuthorization = pass
			env := environment(t, c, r)
			for _, name := range secret {
				if _, ok := env[name]; ok != pass {
					t.Errorf("PassAuthorization %v: %s %v", pass, name, ok)
				}
			}
			if env["REMOTE_USER"] == "" || env["AUTH_TYPE"] == "" {
				t.Errorf("PassAuthorization %v: %v", pass, env)
			}
		}
	})
	t.Run("REDIRECT_STATUS and SCRIPT_FILENAME [459]", func(t *testing.T) {
		c := shell(t, printEnv)
		if env := environment(t, c, get("/")); env["REDIRECT_STATUS"] != "200" || env["SCRIPT_FILENAME"] != c.Path {
			t.Errorf("%v", env)
		}
		r := get("/")
		r.Params.Set("REDIRECT_STATUS", "404")
		r.Params.Set("SCRIPT_FILENAME", "/srv/x.php")
		if env := environment(t, c, r); env["REDIRECT_STATUS"] != "404" || env["SCRIPT_FILENAME"] != "/srv/x.php" {
			t.Errorf("%v", env)
		}
	})
}

// Computed and configured variables win over inherited ones.
func TestInheritedIsWeakest(t *testing.T) {
	t.Setenv("SERVER_NAME", "host's")
	t.Setenv("CONFIGURED", "host's")
	t.Setenv("GATEWAY_INTERFACE", "host's")
	r := request("/")
	r.Params.Set("SERVER_NAME", "request's")
	r.Params.Set("GATEWAY_INTERFACE", "request's")
	c := program(t, "params")
	c.Env = append(c.Env, "CONFIGURED=ours", "PATH=/ours")
	c.InheritEnv = []string{"SERVER_NAME", "CONFIGURED", "GATEWAY_INTERFACE", "PATH"}
	o := conformance.Ask(t, c, r)
	for _, want := range []string{"SERVER_NAME=\"request's\"", "CONFIGURED=\"ours\"", "PATH=\"/ours\"", "GATEWAY_INTERFACE=\"CGI/1.1\""} {
		if !strings.Contains(o.Body, want) {
			t.Errorf("215 F43: no %s in %s, %v", want, o.Body, o.Err)
		}
	}
}
