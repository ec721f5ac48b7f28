package gatewayhttp_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
)

func TestMappingRequest(t *testing.T) {
	m := &gatewayhttp.Mapping{Root: "/srv/www", Files: fstest.MapFS{"index.php": {}}}
	req, err := m.Request(httptest.NewRequest("POST", "/index.php/x?q=1", strings.NewReader("body")))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(req.Body)
	if string(body) != "body" || err != nil || req.ContentLength != 4 || req.ScriptFilename() != "/srv/www/index.php" || req.PathInfo() != "/x" {
		t.Errorf("%q, %v, length %d, script %q, info %q", body, err, req.ContentLength, req.ScriptFilename(), req.PathInfo())
	}
	if _, err := m.Request(httptest.NewRequest("GET", "/missing.php", nil)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing script: %v", err)
	}
	m.Body = gatewayhttp.RefuseUnknownBody
	unknown := httptest.NewRequest("POST", "/index.php", struct{ io.Reader }{strings.NewReader("body")})
	if _, err := m.Request(unknown); !errors.Is(err, gateway.ErrLengthRequired) {
		t.Errorf("a body of unknown length: %v", err)
	}
}

// SpoolBody reads a body to its end before the backend is called, even if its length is known.
func TestSpoolBody(t *testing.T) {
	called := make(chan string, 1)
	backend := gateway.RoundTripperFunc(func(_ context.Context, r *gateway.Request, res *gateway.Response) error {
		b, err := io.ReadAll(r.Body)
		called <- string(b)
		res.Reset()
		res.Status, res.Body = 204, http.NoBody
		return err
	})
	p := &gatewayhttp.Proxy{Backend: backend, Mapping: &gatewayhttp.Mapping{Body: gatewayhttp.SpoolBody}}
	body, client := io.Pipe()
	r := httptest.NewRequest("POST", "/", body)
	r.ContentLength = 10
	done := make(chan struct{})
	w := httptest.NewRecorder()
	go func() {
		defer close(done)
		p.ServeHTTP(w, r)
	}()
	io.WriteString(client, "hello")
	select {
	case <-called:
		t.Fatal("the backend was called before the body was complete")
	default:
	}
	io.WriteString(client, "world")
	client.Close()
	<-done
	if got := <-called; got != "helloworld" || w.Code != 204 {
		t.Errorf("the backend got %q; status %d", got, w.Code)
	}
}
