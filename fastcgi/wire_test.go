package fastcgi_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/fastcgi"
	"github.com/gatehouse-go/gatehouse/gateway"
)

func TestPairLengths(t *testing.T) {
	t.Run("lengths of names and values from 0 to 2^31-1 [063]", func(t *testing.T) {
		for _, n := range []int{1, 127, 128, 8 << 10} {
			for _, v := range []int{0, 1, 127, 128, 65000} {
				name, value := strings.Repeat("N", n), strings.Repeat("v", v)
				b, err := fastcgi.AppendParam(nil, name, value)
				if err != nil {
					t.Fatal(err)
				}
				lengths := 2
				for _, l := range []int{n, v} {
					if l > 127 {
						lengths += 3
					}
				}
				gotName, gotValue, used := fastcgi.ConsumeParam(b)
				if len(b) != lengths+n+v || used != len(b) || string(gotName) != name || string(gotValue) != value {
					t.Errorf("%d and %d: %d bytes, used %d", n, v, len(b), used)
				}
			}
		}
		b := binary.BigEndian.AppendUint32([]byte{1}, math.MaxUint32) // a value of 2^31-1 bytes
		if _, _, n := fastcgi.ConsumeParam(append(b, 'N')); n != 0 {
			t.Errorf("used %d", n)
		}
	})
	t.Run("a short length in four bytes [064]", func(t *testing.T) {
		name, value, n := fastcgi.ConsumeParam([]byte("\x80\x00\x00\x01\x80\x00\x00\x02NVV"))
		if n != 11 || string(name) != "N" || string(value) != "VV" {
			t.Errorf("%q %q %d", name, value, n)
		}
	})
	t.Run("lengths of 0x7fffffff [065 F5]", func(t *testing.T) {
		bad := strings.Repeat("\xff", 8) + "0123456789"
		if _, _, n := fastcgi.ConsumeParam([]byte(bad)); n != 0 {
			t.Errorf("used %d", n)
		}
		in := begin(1, gateway.RoleResponder, false) + rec(fastcgi.TypeParams, 1, bad) + rec(fastcgi.TypeParams, 1, "")
		allocated := testing.AllocsPerRun(1, func() {
			_, err := fromBytes(in)
			want(t, err, gateway.ErrMalformed)
		})
		if allocated > 30 {
			t.Errorf("%v allocations", allocated)
		}
		s := serve(t, &fastcgi.Server{Handler: echo})
		s.send(in)
		s.closed()
	})
	t.Run("a length one byte too long [066]", func(t *testing.T) {
		for _, content := range []string{"\x01\x03NVV", "\x03\x00NN", "\x01\x80\x00\x00\x03NVV"} {
			in := begin(1, gateway.RoleResponder, false) + rec(fastcgi.TypeParams, 1, pairs("A", "1")+content) + rec(fastcgi.TypeParams, 1, "")
			_, err := fromBytes(in)
			want(t, err, gateway.ErrMalformed)
		}
	})
	t.Run("a pair truncated at every byte [067]", func(t *testing.T) {
		content := pairs("A", "1", "LONG", strings.Repeat("v", 200), "REQUEST_METHOD", "GET", "E", "")
		expect := fmt.Sprintf("A=1;LONG=%s;REQUEST_METHOD=GET;E=;", strings.Repeat("v", 200))
		try := func(pieces ...string) {
			t.Helper()
			var in strings.Builder
			in.WriteString(begin(1, gateway.RoleResponder, false))
			for _, p := range pieces {
				if p != "" {
					in.WriteString(rec(fastcgi.TypeParams, 1, p))
				}
			}
			in.WriteString(rec(fastcgi.TypeParams, 1, ""))
			req, err := fromBytes(in.String())
			if got := list(&req.Params); err != nil || got != expect {
				t.Fatalf("got %q, %v", got, err)
			}
			var p gateway.Params
			if _, _, n, err := fastcgi.ConsumeRequest([]byte(in.String()), &p); err != nil || n != len(in.String()) || list(&p) != expect {
				t.Fatalf("ConsumeRequest: %d, %v", n, err)
			}
		}
		for i := range len(content) {
			try(content[:i], content[i:])
			try(content[:i/2], content[i/2:i], content[i:])
		}
		try(strings.Split(content, "")...)
	})
	t.Run("truncated inside the lengths [068]", func(t *testing.T) {
		for _, content := range []string{"\x01", "\x80", "\x80\x00\x00", "\x01\x80\x00"} {
			in := begin(1, gateway.RoleResponder, false) + rec(fastcgi.TypeParams, 1, content) + rec(fastcgi.TypeParams, 1, "")
			_, err := fromBytes(in)
			want(t, err, gateway.ErrMalformed)
		}
	})
	t.Run("an empty name [001 069]", func(t *testing.T) {
		if _, _, n := fastcgi.ConsumeParam([]byte("\x00\x00")); n >= 0 {
			t.Errorf("used %d", n)
		}
		_, err := fromBytes(begin(1, 1, false) + rec(fastcgi.TypeParams, 1, "\x00\x01v") + rec(fastcgi.TypeParams, 1, ""))
		want(t, err, gateway.ErrMalformed)
		_, err = fastcgi.AppendParam(nil, "", "v")
		want(t, err, gateway.ErrParam)
	})
	t.Run("nothing is allocated from a length [070]", func(t *testing.T) {
		// 250 PARAMS records each announce 2 GiB; memory is only allocated for the bytes that
		// arrived.
		bad := strings.Repeat(rec(fastcgi.TypeParams, 1, "\xff\xff\xff\xff\xff\xff\xff\xff"), 250)
		in := begin(1, 1, false) + bad + rec(fastcgi.TypeParams, 1, "")
		result := testing.Benchmark(func(b *testing.B) {
			for b.Loop() {
				fromBytes(in)
			}
		})
		if got := result.AllocedBytesPerOp(); got > 100<<10 {
			t.Errorf("%d bytes allocated", got)
		}
	})
	t.Run("a pair larger than a record [071 075 F47]", func(t *testing.T) {
		r := request(t, "GET", "")
		r.Params.Add("A", strings.Repeat("v", 65528))
		_, err := fastcgi.AppendRequest([]byte("as it was"), 1, false, r)
		want(t, err, gateway.ErrTooLarge)
		c := &fastcgi.Client{Addr: "127.0.0.1:1"}
		want(t, ask(t, c, r).err, gateway.ErrTooLarge)
		if s := c.Stats(); s.Dialed > 0 {
			t.Errorf("dialed: %+v", s)
		}
	})
}

func TestParams(t *testing.T) {
	t.Run("NUL in a name or a value [002]", func(t *testing.T) {
		for _, nv := range [][2]string{{"A\x00B", "v"}, {"A", "v\x00w"}} {
			b, err := fastcgi.AppendParam([]byte("dst"), nv[0], nv[1])
			if want(t, err, gateway.ErrParam); string(b) != "dst" {
				t.Errorf("%q", b)
			}
		}
	})
	t.Run("more params than the limit [043 F35]", func(t *testing.T) {
		b := []byte(strings.Repeat(pairs("A", "v"), 1000))
		var p gateway.Params
		if n, err := fastcgi.ConsumeParams(b, &p); n != len(b) || err != nil || p.Len() != 1000 {
			t.Errorf("%d, %v", n, err)
		}
		n, err := fastcgi.ConsumeParams([]byte(pairs("A", "v")), &p)
		if want(t, err, gateway.ErrTooLarge); n != -1 || p.Len() != 1000 {
			t.Errorf("%d, %d params", n, p.Len())
		}
	})
	t.Run("an error leaves dst unchanged [071]", func(t *testing.T) {
		r := request(t, "GET", "")
		r.Params.Add("HTTP_X", strings.Repeat("v", 60000))
		r.Params.Add("HTTP_Y", strings.Repeat("v", 65530))
		b, err := fastcgi.AppendRequest([]byte("dst"), 1, false, r)
		if want(t, err, gateway.ErrTooLarge); string(b) != "dst" {
			t.Errorf("%.20q", b)
		}
	})
	t.Run("Env replaces a param [012 013 F43]", func(t *testing.T) {
		c := &fastcgi.Client{Env: []string{"SERVER_NAME=one", "PHP_VALUE=a=1", "PHP_VALUE=b=2"}}
		r := request(t, "GET", "")
		r.Params.Set("SERVER_NAME", "two")
		got := sent(t, c, r)
		if strings.Count(got, "SERVER_NAME") != 1 || !strings.Contains(got, "SERVER_NAMEone") ||
			strings.Count(got, "PHP_VALUE") != 1 || !strings.Contains(got, "PHP_VALUEb=2") {
			t.Errorf("sent %q", got)
		}
		for _, env := range []string{"PHP_VALUE", "CONTENT_LENGTH=7", "HTTP_X=a\nb"} {
			c = &fastcgi.Client{Addr: "127.0.0.1:1", Env: []string{env}}
			want(t, ask(t, c, request(t, "GET", "")).err, gateway.ErrParam)
		}
	})
}

func TestAppendRequest(t *testing.T) {
	t.Run("no body and no length [081]", func(t *testing.T) {
		r := request(t, "GET", "")
		r.Body, r.ContentLength = nil, -1
		b, err := fastcgi.AppendRequest(nil, 1, false, r)
		if err != nil || !bytes.Contains(b, []byte("\x0e\x01CONTENT_LENGTH0")) {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("ConsumeRequest reports the bytes it consumed", func(t *testing.T) {
		var p gateway.Params
		whole := head(3, 1, true, "A", "v")
		id, bg, n, err := fastcgi.ConsumeRequest([]byte(rec(fastcgi.TypeGetValues, 0, "")+whole), &p)
		if id != 3 || !bg.KeepConn || n != len(whole)+8 || err != nil || list(&p) != "A=v;" {
			t.Errorf("%d %v %d %v %s", id, bg, n, err, list(&p))
		}
		for _, b := range []string{
			rec(fastcgi.TypeBegin, 1, "\x00\x01\x00\x00\x00\x00\x00\x00\x00") + rec(fastcgi.TypeParams, 1, ""),
			begin(1, 1, false) + rec(fastcgi.TypeParams, 2, ""),
			begin(1, 1, false) + stdin(1, ""),
			begin(0, 1, false) + rec(fastcgi.TypeParams, 0, ""),
		} {
			if _, _, n, err := fastcgi.ConsumeRequest([]byte(b), &p); n != -1 || !errors.Is(err, gateway.ErrMalformed) {
				t.Errorf("%q: %d, %v", b, n, err)
			}
		}
	})
}

func TestNames(t *testing.T) {
	for _, c := range [][2]string{
		{fastcgi.TypeBegin.String(), "BEGIN_REQUEST"}, {fastcgi.TypeUnknown.String(), "UNKNOWN_TYPE"}, {fastcgi.Type(0).String(), "Type(0)"},
		{fastcgi.Type(99).String(), "Type(99)"}, {fastcgi.StatusOverloaded.String(), "OVERLOADED"}, {fastcgi.ProtocolStatus(9).String(), "ProtocolStatus(9)"},
		{gateway.RoleAuthorizer.String(), "Authorizer"}, {gateway.RoleFilter.String(), "Filter"},
		{(&fastcgi.End{Status: fastcgi.StatusUnknownRole}).Error(), "fastcgi: application ended the request with UNKNOWN_ROLE"},
	} {
		if c[0] != c[1] {
			t.Errorf("%q, want %q", c[0], c[1])
		}
	}
	for _, f := range []func() ([]byte, error){
		func() ([]byte, error) { return fastcgi.AppendHeader([]byte("x"), fastcgi.RecordHeader{Version: 2}) },
		func() ([]byte, error) { return fastcgi.AppendBegin([]byte("x"), 0, fastcgi.Begin{}) },
		func() ([]byte, error) { return fastcgi.AppendEnd([]byte("x"), 0, fastcgi.End{}) },
		func() ([]byte, error) { return fastcgi.AppendRecord([]byte("x"), fastcgi.TypeStdin, 0, nil) },
		func() ([]byte, error) { return fastcgi.AppendRecord([]byte("x"), fastcgi.TypeGetValues, 1, nil) },
		func() ([]byte, error) {
			return fastcgi.AppendRecord([]byte("x"), fastcgi.TypeGetValues, 0, make([]byte, 70000))
		},
		func() ([]byte, error) { return fastcgi.AppendRequest([]byte("x"), 0, false, new(gateway.Request)) },
	} {
		if b, err := f(); err == nil || string(b) != "x" {
			t.Errorf("%q, %v", b, err)
		}
	}
}

// TestPrefixes cuts whole messages after every byte.
func TestPrefixes(t *testing.T) {
	req := head(1, gateway.RoleResponder, true, "REQUEST_METHOD", "POST", "CONTENT_LENGTH", "4") + stdin(1, "body") + stdin(1, "")
	for n := range len(req) {
		r := fastcgi.NewReader(strings.NewReader(req[:n]))
		var q gateway.Request
		err := r.ReadRequest(&q)
		if n == 0 && err != io.EOF {
			t.Fatalf("nothing: %v", err)
		}
		if err == nil {
			_, err = io.ReadAll(q.Body)
			if err == nil {
				err = r.ReadRequest(&q) // the end of STDIN is missing
			}
		}
		if n > 0 && err != io.ErrUnexpectedEOF && !strings.Contains(err.Error(), "unexpected EOF") {
			t.Errorf("%d of %d bytes: %v", n, len(req), err)
		}
	}
	res := rec(fastcgi.TypeStderr, 1, "err") + rec(fastcgi.TypeStdout, 1, okHead) + response(1, "body")
	closed := len(res) - 16 // all but END_REQUEST is a response of applications that close
	for n := range len(res) {
		_, _, err := responseFrom(res[:n])
		switch {
		case n == 0:
			if err != io.EOF {
				t.Errorf("nothing: %v", err)
			}
		case n == closed:
			if err != nil {
				t.Errorf("without END_REQUEST: %v", err)
			}
		default:
			if err == nil {
				t.Errorf("%d of %d bytes look whole", n, len(res))
				continue
			}
			want(t, err, gateway.ErrTruncated)
			want(t, err, io.ErrUnexpectedEOF)
		}
	}
	for n := range len(res) {
		if n == closed {
			continue
		}
		if o := received(t, res[:n]); o.err == nil {
			t.Errorf("client: %d of %d bytes look whole", n, len(res))
		}
	}
}
