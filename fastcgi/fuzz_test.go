package fastcgi_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

func FuzzConsumeParams(f *testing.F) {
	f.Add([]byte("\x01\x02NVV"))
	f.Add([]byte("\x80\x00\x00\x01\xff\xff\xff\xffN"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p gateway.Params
		n, err := fastcgi.ConsumeParams(b, &p)
		if err != nil {
			if p.Len() != 0 || n != -1 {
				t.Fatalf("%d params after %v", p.Len(), err)
			}
			return
		}
		// What was read, written and read again is the same.
		out, err := fastcgi.AppendParams(nil, &p)
		if err != nil {
			return // a NUL
		}
		var again gateway.Params
		if m, err := fastcgi.ConsumeParams(out, &again); m != len(out) || err != nil || list(&again) != list(&p) {
			t.Fatalf("%q became %q, %v", list(&p), list(&again), err)
		}
		if n > len(b) {
			t.Fatalf("used %d of %d", n, len(b))
		}
	})
}

func FuzzConsumeRecord(f *testing.F) {
	seed(f, "request")
	seed(f, "response")
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, n := fastcgi.ConsumeRecord(b)
		if n <= 0 {
			return
		}
		if n > len(b) || len(rec.Content) != int(rec.Length) {
			t.Fatalf("%d of %d, %d bytes of content", n, len(b), len(rec.Content))
		}
		next, err := fastcgi.NewReader(bytes.NewReader(b)).Next()
		if err != nil || next.RecordHeader != rec.RecordHeader || !bytes.Equal(next.Content, rec.Content) {
			t.Fatalf("Next disagrees: %+v, %v", next.RecordHeader, err)
		}
		fastcgi.ConsumeBegin(rec.Content)
		fastcgi.ConsumeEnd(rec.Content)
	})
}

func FuzzConsumeRequest(f *testing.F) {
	seed(f, "request")
	f.Fuzz(func(t *testing.T, b []byte) {
		var p gateway.Params
		id, _, n, err := fastcgi.ConsumeRequest(b, &p)
		switch {
		case err != nil && n != -1, err == nil && n < 0, n > len(b), n > 0 && id == 0:
			t.Fatalf("id %d, n %d, %v", id, n, err)
		case n <= 0 && p.Len() > 0:
			t.Fatalf("%d params of no request", p.Len())
		}
	})
}

// agree reads b whole and in pieces.
func agree(t *testing.T, side string, b []byte) []string {
	t.Helper()
	whole, err := readVector(side, bytes.NewReader(b))
	for name, src := range map[string]io.Reader{
		"byte": iotest.OneByteReader(bytes.NewReader(b)),
		"half": iotest.HalfReader(bytes.NewReader(b)),
		"data": iotest.DataErrReader(bytes.NewReader(b)),
	} {
		pieces, perr := readVector(side, src)
		if diff := cmp.Diff(whole, pieces); diff != "" || verdict(err) != verdict(perr) {
			t.Fatalf("%s: %v or %v: %s", name, err, perr, diff)
		}
	}
	return whole
}

func FuzzReadRequest(f *testing.F) {
	seed(f, "request")
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		agree(t, "request", b)
		// What was read can be written, and is then the same.
		var req, again gateway.Request
		r := fastcgi.NewReader(bytes.NewReader(b))
		if r.ReadRequest(&req) != nil {
			return
		}
		req.Body, req.ContentLength = nil, 0
		out, err := fastcgi.AppendRequest(nil, 1, false, &req)
		if err != nil {
			return // what is received is held to less than what is sent
		}
		if err := fastcgi.NewReader(bytes.NewReader(out)).ReadRequest(&again); err != nil {
			t.Fatal(err)
		}
		req.Params.Set("CONTENT_LENGTH", "0")
		for name, value := range again.Params.All() {
			if req.Params.Get(string(name)) != string(value) {
				t.Fatalf("%s became %q", name, value)
			}
		}
	})
}

func FuzzReadResponse(f *testing.F) {
	seed(f, "response")
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) <= 1<<16 {
			agree(t, "response", b)
		}
	})
}

// scripted is a connection that gives bytes and takes others.
type scripted struct {
	in  io.Reader
	out bytes.Buffer
}

func (c *scripted) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *scripted) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *scripted) Close() error                     { return nil }
func (c *scripted) LocalAddr() net.Addr              { return nil }
func (c *scripted) RemoteAddr() net.Addr             { return nil }
func (c *scripted) SetDeadline(time.Time) error      { return nil }
func (c *scripted) SetReadDeadline(time.Time) error  { return nil }
func (c *scripted) SetWriteDeadline(time.Time) error { return nil }

// FuzzServer plays bytes to a server: it must come to an end, and end no request that was not
// begun, or twice.
func FuzzServer(f *testing.F) {
	seed(f, "request")
	f.Fuzz(func(t *testing.T, b []byte) {
		begun := make(map[uint16]int)
		for rest := b; ; {
			h, n := fastcgi.ConsumeHeader(rest)
			if n <= 0 {
				break
			}
			if h.Type == fastcgi.TypeBegin {
				begun[h.ID]++ // whether or not all of it came
			}
			rest = rest[min(len(rest), n+int(h.Length)+int(h.Padding)):]
		}
		h := gateway.HandlerFunc(func(w gateway.ResponseWriter, r *gateway.Request) error {
			fmt.Fprintf(w, "%d", r.Params.Len())
			if r.Body != nil {
				io.Copy(w, r.Body)
			}
			if r.Data != nil {
				io.Copy(w, r.Data)
			}
			return nil
		})
		s := &fastcgi.Server{Handler: h, Authorizer: h, Filter: h, Logger: quiet}
		c := &scripted{in: bytes.NewReader(b)}
		s.ServeConn(t.Context(), c)
		for out := c.out.Bytes(); len(out) > 0; {
			rec, n := fastcgi.ConsumeRecord(out)
			if n <= 0 {
				t.Fatalf("not a record: %q", out)
			}
			out = out[n:]
			if rec.Type == fastcgi.TypeEnd {
				if begun[rec.ID]--; begun[rec.ID] < 0 {
					t.Fatalf("END_REQUEST of %d once too often", rec.ID)
				}
			}
		}
	})
}

// FuzzClient responses a client with bytes: it must come to an end, and keep no connection that
// anything was wrong with.
func FuzzClient(f *testing.F) {
	seed(f, "response")
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &fastcgi.Client{MaxIdleConns: 1, Logger: quiet, Dial: func(context.Context) (net.Conn, error) {
			return &scripted{in: bytes.NewReader(b)}, nil
		}}
		defer c.Close()
		var res gateway.Response
		r := new(gateway.Request)
		r.Params.Add("REQUEST_METHOD", "GET")
		err := c.RoundTrip(t.Context(), r, &res)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		if st := c.Stats(); st.InFlight != 0 || err != nil && st.Idle > 0 {
			t.Fatalf("%v, %+v", err, st)
		}
	})
}
