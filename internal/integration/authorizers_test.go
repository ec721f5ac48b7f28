package integration_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/gateway/gatewaytest"
	"github.com/gatehouse-go/gatehouse/internal/integration"
)

// gate is an authorizer that accepts the right password, and otherwise asks for one.
var gate = gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
	if r.Role != gateway.RoleAuthorizer || r.Body != gateway.NoBody {
		return fmt.Errorf("role %v, body %v", r.Role, r.Body)
	}
	password, _ := r.Params.Lookup("REMOTE_PASSWD")
	key, _ := r.Params.Lookup("HTTP_X_KEY")
	if string(password) != "sesame" && string(key) != "sesame" {
		w.Header().Set("WWW-Authenticate", `Basic realm="gate"`)
		w.WriteHeader(http.StatusUnauthorized)
		return nil
	}
	w.Header().Set("Variable-GATE", "open")
	w.WriteHeader(http.StatusOK)
	return nil
})

// testGate requests a file behind an authorizer, with and without the password.
func testGate(t *testing.T, url string, open func(*http.Request)) {
	for _, c := range []struct {
		open   bool
		status int
	}{{true, 200}, {false, 401}} {
		req, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.open {
			open(req)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != c.status {
			t.Errorf("open %v: status %d, want %d", c.open, res.StatusCode, c.status)
		}
	}
}

func TestAuthorizerApache(t *testing.T) {
	apache := integration.Need(t, "apache2", "apache2")
	dir := integration.Dir(t)
	integration.Write(t, dir, "file.txt", "behind the gate")
	app := gatewaytest.Start(t, &fastcgi.Server{Authorizer: gate})
	port := integration.Port(t)
	conf := integration.Write(t, dir, "apache.conf", apacheConf+fmt.Sprintf(`
Listen 127.0.0.1:%d
DocumentRoot ${DIR}
AuthnzFcgiDefineProvider authn gate fcgi://%s/
<Directory ${DIR}>
	AuthType Basic
	AuthName gate
	AuthBasicProvider gate
	Require valid-user
</Directory>
`, port, app))
	integration.Start(t, dir, loopback(port), apache, "-X", "-f", conf)
	testGate(t, "http://"+loopback(port)+"/file.txt", func(r *http.Request) { r.SetBasicAuth("ali", "sesame") })
}

// decides is an authorizer that decides as the field X-Decision says.
var decides = gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
	status, err := strconv.Atoi(r.Params.Get("HTTP_X_DECISION"))
	if err != nil {
		return err
	}
	switch status {
	case 200:
		w.Header().Set("Variable-REMOTE_USER", "ada")
	case 302:
		w.Header().Set("Location", "/login")
	case 401:
		w.Header().Set("WWW-Authenticate", "Custom realm=gate")
	}
	w.WriteHeader(status)
	return nil
})

// TestAuthorizersAgree asks one authorizer behind Apache and behind gatewayhttp.Authorizer: what it
// decides, and that it is not there.
func TestAuthorizersAgree(t *testing.T) {
	apache := integration.Need(t, "apache2", "apache2")
	t.Run("the same decisions [440]", func(t *testing.T) {
		dir := integration.Dir(t)
		integration.Write(t, dir, "file.txt", "behind the gate")
		app, ports := gatewaytest.Start(t, &fastcgi.Server{Authorizer: decides, Logger: quiet}), []int{integration.Port(t), integration.Port(t)}
		const gates = `
AuthnzFcgiDefineProvider authn gate%[1]d fcgi://%[2]s/
Listen 127.0.0.1:%[1]d
<VirtualHost 127.0.0.1:%[1]d>
	DocumentRoot ${DIR}
	<Location />
		AuthType None
		AuthName gate
		AuthnzFcgiCheckAuthnProvider gate%[1]d Authoritative On RequireBasicAuth Off UserExpr "%%{reqenv:REMOTE_USER}"
		Require valid-user
	</Location>
</VirtualHost>
`
		absent := loopback(integration.Port(t))
		conf := integration.Write(t, dir, "apache.conf", apacheConf+fmt.Sprintf(gates, ports[0], app)+fmt.Sprintf(gates, ports[1], absent))
		integration.Start(t, dir, loopback(ports[1]), apache, "-X", "-f", conf)
		for i, addr := range []string{app, absent} {
			a := &gatewayhttp.Authorizer{Backend: &fastcgi.Client{Addr: addr, Logger: quiet}, Logger: quiet}
			ours := httptest.NewServer(a.Wrap(http.FileServer(http.Dir(dir))))
			t.Cleanup(ours.Close)
			for _, decision := range []string{"200", "204", "302", "401", "403", "404", "500"} {
				said := func(url string) string {
					req, err := http.NewRequest("GET", url+"/file.txt", nil)
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("X-Decision", decision)
					res, err := http.DefaultTransport.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					defer res.Body.Close()
					b, err := io.ReadAll(res.Body)
					if err != nil {
						t.Fatal(err)
					}
					status := fmt.Sprint(res.StatusCode)
					if addr == absent {
						status = status[:1] // 500 of Apache, 502 of ours
					}
					return fmt.Sprintf("%s %q %q passed %v", status, res.Header["Www-Authenticate"], res.Header["Location"], string(b) == "behind the gate")
				}
				theirs, ours := said("http://"+loopback(ports[i])), said(ours.URL)
				if theirs != ours || strings.HasSuffix(ours, "true") != (decision == "200" && addr == app) {
					t.Errorf("%s: Apache %s, gatewayhttp %s", decision, theirs, ours)
				}
			}
		}
	})
}

func TestAuthorizerLighttpd(t *testing.T) {
	lighttpd := integration.Need(t, "lighttpd", "lighttpd")
	dir := integration.Dir(t)
	integration.Write(t, dir, "file.txt", "behind the gate")
	host, p, _ := strings.Cut(gatewaytest.Start(t, &fastcgi.Server{Authorizer: gate}), ":")
	port := integration.Port(t)
	conf := integration.Write(t, dir, "lighttpd.conf", fmt.Sprintf(`
server.document-root = "${DIR}"
server.bind = "127.0.0.1"
server.port = %d
server.errorlog = "${DIR}/error.log"
server.modules = ( "mod_fastcgi" )
fastcgi.server = ( "/" => (( "host" => "%s", "port" => %s, "mode" => "authorizer", "docroot" => "${DIR}", "check-local" => "disable" )))
`, port, host, p))
	integration.Start(t, dir, loopback(port), lighttpd, "-D", "-f", conf)
	testGate(t, "http://"+loopback(port)+"/file.txt", func(r *http.Request) { r.Header.Set("X-Key", "sesame") })
}
