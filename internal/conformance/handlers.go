package conformance

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// Handlers are the applications of the suite by name. That of CGI runs in another process, and is
// told its name.
var Handlers = map[string]gateway.Handler{
	"echo":      gateway.HandlerFunc(echo),
	"params":    gateway.HandlerFunc(params),
	"responses": gateway.HandlerFunc(responses),
	"environ":   gateway.HandlerFunc(environ),
	"callbacks": gateway.HandlerFunc(callbacks),
}

// echo responds with the body, once it has read all of it.
func echo(w gateway.ResponseWriter, r *gateway.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Length", fmt.Sprint(r.ContentLength))
	_, err = w.Write(body)
	return err
}

// params responds with every param, a line each: the name, "=", and the quoted value.
func params(w gateway.ResponseWriter, r *gateway.Request) error {
	for name, value := range r.Params.All() {
		if _, err := fmt.Fprintf(w, "%s=%q\n", name, value); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "length %d, method %q, path %q\n", r.ContentLength, r.Method(), r.PathInfo())
	return err
}

// environ responds with the environment of its process.
func environ(w gateway.ResponseWriter, _ *gateway.Request) error {
	_, err := io.WriteString(w, strings.Join(os.Environ(), "\n"))
	return err
}

// responses responds as the path says: with a head that is whole.
func responses(w gateway.ResponseWriter, r *gateway.Request) error {
	h := w.Header()
	switch r.PathInfo() {
	case "/fields":
		h.Add("Set-Cookie", "a=1")
		h.Add("X-First", "1")
		h.Add("Set-Cookie", "b=2")
		h.Add("X-Bytes", "caf\xc3\xa9 \xff")
		h.Add("X-Empty", "")
		w.WriteHeader(207)
	case "/large":
		for i := range 90 {
			h.Add(fmt.Sprintf("X-Field-%02d", i), strings.Repeat("v", 95))
		}
		io.WriteString(w, "large")
	case "/404":
		w.WriteHeader(404)
		io.WriteString(w, "not here")
	case "/twice":
		w.WriteHeader(201)
		w.WriteHeader(404)
	case "/own-status":
		h.Set("Status", "404 Not Found")
		io.WriteString(w, "own")
	case "/stderr":
		io.WriteString(w.Stderr(), "a word\n")
		w.SetAppStatus(7)
		io.WriteString(w, "said")
	case "/status256":
		w.SetAppStatus(256)
		io.WriteString(w, "said")
	case "/204":
		w.WriteHeader(204)
	case "/304":
		h.Set("Content-Length", "10")
		w.WriteHeader(304)
	case "/head":
		h.Set("Content-Length", "10")
	default:
		return faulty(w, r)
	}
	return nil
}

// faulty responds as the path says, with a fault of the handler.
func faulty(w gateway.ResponseWriter, r *gateway.Request) error {
	h := w.Header()
	switch r.PathInfo() {
	case "/error":
		return errors.New("an error of the handler")
	case "/param":
		return gateway.ErrParam
	case "/panic":
		panic("on purpose")
	case "/late":
		h.Set("Content-Length", "100")
		io.WriteString(w, "part")
		w.Flush()
		return errors.New("too late")
	case "/bad-name":
		h.Set("Bad Name", "v")
	case "/bad-value":
		h.Set("X", "a\r\nInjected: 1")
	case "/bad-status":
		w.WriteHeader(99)
	case "/interim-status":
		w.WriteHeader(103)
	case "/bad-length":
		h.Set("Content-Length", "+5")
		io.WriteString(w, "hello")
	case "/long":
		h.Set("Content-Length", "3")
		if _, err := io.WriteString(w, "abcd"); err == nil {
			return nil
		}
		_, err := io.WriteString(w, "abc")
		return err
	case "/short":
		h.Set("Content-Length", "10")
		w.Flush()
		io.WriteString(w, "short")
	default:
		return timed(w, r)
	}
	return nil
}

// timed responds as the path says: in pieces, late, or not until something has happened.
func timed(w gateway.ResponseWriter, r *gateway.Request) error {
	switch r.PathInfo() {
	case "/flush":
		w.WriteHeader(202)
		return w.Flush()
	case "/pieces":
		for i := range 3 {
			fmt.Fprintf(w, "piece %d\n", i)
			w.Flush()
			time.Sleep(30 * time.Millisecond)
		}
	case "/large-write":
		_, err := w.Write(make([]byte, 1<<20))
		return err
	case "/unread":
		io.WriteString(w, "not read")
	case "/wait":
		io.WriteString(w, "begun")
		w.Flush()
		select {
		case <-r.Context().Done():
		case <-time.After(10 * time.Second):
		}
	case "/finish": // runs on after its head, until a file appears, and then leaves one
		w.Flush()
		if !appears(r.Query()+".go", r.Context().Done()) {
			return errors.New("the response is no longer wanted")
		}
		return os.WriteFile(r.Query()+".done", nil, 0o600)
	case "/interim":
		if err := w.WriteInterim(103, nil); !errors.Is(err, errors.ErrUnsupported) {
			return fmt.Errorf("an interim response that was not allowed: %v", err)
		}
		io.WriteString(w, "none")
	case "/hijack":
		if _, err := w.Hijack(); !errors.Is(err, errors.ErrUnsupported) {
			return fmt.Errorf("a connection that was not asked for: %v", err)
		}
		io.WriteString(w, "none")
	default:
		return gateway.ErrParam
	}
	return nil
}

// appears waits until a file exists. It returns false if stop is closed first.
func appears(path string, stop <-chan struct{}) bool {
	for range 3000 {
		if _, err := os.Stat(path); err == nil {
			return true
		}
		select {
		case <-stop:
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
	return false
}
