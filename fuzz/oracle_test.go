package fuzz_test

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"net/http/cgi"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// oracle is a request as net/http/cgi makes it of params, or "" and its error.
func oracle(params map[string]string) (seen, error) {
	r, err := cgi.RequestFromMap(params)
	if err != nil {
		return seen{}, err
	}
	return see(r), nil
}

// ours returns the http.Request of a request that arrives over uwsgi.
func ours(params map[string]string) (seen, error) {
	var block []byte
	for name, value := range params {
		var err error
		if block, err = uwsgi.AppendParam(block, name, value); err != nil {
			return seen{}, err
		}
	}
	wire := append(uwsgi.AppendHeader(nil, uwsgi.PacketHeader{Size: uint16(len(block))}), block...)
	var r gateway.Request
	if err := uwsgi.NewReader(bytes.NewReader(wire)).ReadRequest(&r); err != nil {
		return seen{}, err
	}
	hr, err := gatewayhttp.NewRequest(context.Background(), &r)
	if err != nil {
		return seen{}, err
	}
	return see(hr), nil
}

// seen is what both make of params. Left out is what differs always: the URL of the standard
// library has the host and the scheme, as a client's; ours is a server's, and has RequestURI. Its
// Close is true, since CGI responses once; ours is false.
type seen struct {
	Method, Proto, Path, RawPath, RawQuery, Host, RemoteAddr string
	Header                                                   http.Header
	Length                                                   int64
	TLS                                                      bool
}

func see(r *http.Request) seen {
	return seen{
		Method: r.Method, Proto: r.Proto, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery, Host: r.Host,
		RemoteAddr: r.RemoteAddr, Header: r.Header, Length: r.ContentLength, TLS: r.TLS != nil,
	}
}

var (
	plainHost = regexp.MustCompile(`^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[0-9]{1,5})?$`)
	plainPath = regexp.MustCompile(`^/[A-Za-z0-9/._~-]*$`)
	protocol  = regexp.MustCompile(`^HTTP/(1\.0|1\.1|2\.0|3\.0)$`)
	length    = regexp.MustCompile(`^[0-9]{0,18}$`)
	number    = regexp.MustCompile(`^(0|[1-9][0-9]{0,8})?$`)
	fieldName = regexp.MustCompile(`^HTTP_[A-Z0-9_]+$`)
	oneLine   = regexp.MustCompile(`^(HTTP_.*|CONTENT_.*|REQUEST_METHOD|REQUEST_URI|QUERY_STRING|SERVER_PROTOCOL)$`)
)

// differences are the intended differences from net/http/cgi. If none applies, both must be equal.
var differences = []struct {
	what    string
	applies func(p map[string]string) bool
	example string // what is other than in a plain request
}{
	{"no SERVER_PROTOCOL is HTTP/1.0 (item 23), HTTP/2 is HTTP/2.0, and INCLUDED is not shown; theirs is an error, an error, and INCLUDED", func(p map[string]string) bool {
		return !protocol.MatchString(p["SERVER_PROTOCOL"])
	}, "SERVER_PROTOCOL=HTTP/2"},
	{"without HTTP_HOST it is SERVER_NAME and SERVER_PORT; theirs has none", func(p map[string]string) bool {
		_, ok := p["HTTP_HOST"]
		return !ok
	}, "HTTP_HOST\nSERVER_NAME=x"},
	{"a host that is not an authority is refused (item 25, F44); in net/http/cgi it becomes a part of the URL", func(p map[string]string) bool {
		return p["HTTP_HOST"] != "" && !plainHost.MatchString(p["HTTP_HOST"])
	}, "HTTP_HOST=a/b?c"},
	{"without REQUEST_URI the path is encoded (item 27); theirs is decoded a second time", func(p map[string]string) bool {
		path := p["SCRIPT_NAME"] + p["PATH_INFO"]
		return p["REQUEST_URI"] == "" && (!plainPath.MatchString(path) || strings.ContainsAny(p["QUERY_STRING"], "?# \x7f") || !printable(p["QUERY_STRING"]))
	}, "REQUEST_URI=\nPATH_INFO=/100%25"},
	{"REQUEST_URI in absolute, asterisk and authority form is parsed (item 26); theirs follows the host", func(p map[string]string) bool {
		return p["REQUEST_URI"] != "" && !strings.HasPrefix(p["REQUEST_URI"], "/")
	}, "REQUEST_URI=http://other/x"},
	{"a number sign in REQUEST_URI is a part of it; theirs ends there", func(p map[string]string) bool { return strings.Contains(p["REQUEST_URI"], "#") },
		"REQUEST_URI=/a#b"},
	{"HTTP_PROXY is no field (F1), nor are HTTP_CONTENT_LENGTH, HTTP_CONTENT_TYPE (item 15) and HTTP_TRANSFER_ENCODING (item 17)", func(p map[string]string) bool {
		for _, name := range []string{"HTTP_PROXY", "HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_TRANSFER_ENCODING"} {
			if _, ok := p[name]; ok {
				return true
			}
		}
		return false
	}, "HTTP_PROXY=http://evil"},
	{"a name in other bytes than A-Z, 0-9 and _ is no field (item 45, F10)", func(p map[string]string) bool {
		for name := range p {
			if strings.HasPrefix(name, "HTTP_") && !fieldName.MatchString(name) {
				return true
			}
		}
		return false
	}, "HTTP_x=1"},
	{"CONTENT_LENGTH is digits (item 18); theirs may have a sign", func(p map[string]string) bool { return !length.MatchString(p["CONTENT_LENGTH"]) },
		"CONTENT_LENGTH=+5"},
	{"a NUL is refused (item 2), and so are CR and LF where one line is meant (item 3)", func(p map[string]string) bool {
		for name, value := range p {
			if strings.Contains(name+value, "\x00") || name == "" || oneLine.MatchString(name) && strings.ContainsAny(value, "\r\n") || strings.ContainsAny(name, "\r\n") {
				return true
			}
		}
		return false
	}, "HTTP_X=a\rb"},
	{"HTTPS may be any of on, ON, 1 and true, and REQUEST_SCHEME and UWSGI_SCHEME speak too (item 39)", func(p map[string]string) bool {
		return p["HTTPS"] != "" && p["HTTPS"] != "on" && p["HTTPS"] != "1" || p["REQUEST_SCHEME"] != "" || p["UWSGI_SCHEME"] != ""
	}, "HTTPS=\nREQUEST_SCHEME=https"},
	{"without REMOTE_ADDR there is no RemoteAddr; theirs is :0", func(p map[string]string) bool { return p["REMOTE_ADDR"] == "" },
		"REMOTE_ADDR="},
	{"REMOTE_PORT is taken as it is; theirs is 0 if it is not a number", func(p map[string]string) bool { return !number.MatchString(p["REMOTE_PORT"]) },
		"REMOTE_PORT=http"},
	{"of params there are limits (item 43)", func(p map[string]string) bool {
		size := 0
		for name, value := range p {
			size += len(name) + len(value) + 4
		}
		return size > 60<<10 || len(p) > gateway.MaxPairs || longest(p) > 8<<10
	}, strings.Repeat("A", 9<<10) + "="},
}

func printable(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' {
			return false
		}
	}
	return true
}

func longest(p map[string]string) (n int) {
	for name := range p {
		n = max(n, len(name))
	}
	return n
}

var plainRequest = map[string]string{
	"REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "www.example.com", "REQUEST_URI": "/a%2Fb?c=d",
	"SCRIPT_NAME": "/a", "PATH_INFO": "/b", "QUERY_STRING": "c=d", "REMOTE_ADDR": "192.0.2.1", "REMOTE_PORT": "1234",
	"CONTENT_TYPE": "text/plain", "CONTENT_LENGTH": "0", "HTTP_X_Y": "z", "HTTPS": "on",
}

// changed is a plain request in which each line sets a param, or, without an equals sign, removes
// it.
func changed(text string) map[string]string {
	p := maps.Clone(plainRequest)
	for line := range strings.SplitSeq(text, "\n") {
		name, value, found := strings.Cut(line, "=")
		p[name] = value
		if !found {
			delete(p, name)
		}
	}
	return p
}

// TestDifferences shows each difference.
func TestDifferences(t *testing.T) {
	for _, d := range differences {
		p := changed(d.example)
		if !d.applies(p) {
			t.Errorf("%s: its example is none", d.what)
		}
		theirs, err := oracle(p)
		mine, myErr := ours(p)
		if (err == nil) == (myErr == nil) && cmp.Equal(theirs, mine) {
			t.Errorf("%s: there is no difference: %+v, %v", d.what, mine, myErr)
		}
		if d.applies(plainRequest) {
			t.Errorf("%s: it excuses everything", d.what)
		}
	}
}

// FuzzOracle holds NewRequest against net/http/cgi, where no difference applies.
func FuzzOracle(f *testing.F) {
	f.Add("")
	for _, d := range differences {
		f.Add(d.example)
	}
	f.Add("REQUEST_URI=//x/y?\nHTTPS=\nCONTENT_TYPE=\nREMOTE_PORT=")
	f.Add("REQUEST_URI=\nHTTP_USER_AGENT=\nHTTP__X=1\nHTTP_X_=\xff\nREMOTE_ADDR=::1")
	f.Fuzz(func(t *testing.T, text string) {
		p := changed(text)
		for _, d := range differences {
			if d.applies(p) {
				return
			}
		}
		theirs, err := oracle(p)
		mine, myErr := ours(p)
		if (err == nil) != (myErr == nil) {
			t.Fatalf("net/http/cgi: %v; ours: %v\n%q", err, myErr, p)
		}
		if diff := cmp.Diff(theirs, mine); diff != "" {
			t.Fatalf("%s\n%q", diff, p)
		}
	})
}
