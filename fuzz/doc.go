// Package fuzz gives other implementations the seeds and rules of this module. Seeds are seeds for
// fuzz targets, Decoder compares a decoder with the one of this module, Server plays bytes to a
// server, and Client to a client. The tested code need not know this module.
//
//	func FuzzServer(f *testing.F) {
//		for name, b := range fuzz.Seeds(fuzz.FastCGI) {
//			if strings.HasPrefix(name, "request/") {
//				f.Add(b)
//			}
//		}
//		s := &fuzz.Server{Protocol: fuzz.FastCGI, Dial: dial} // dial connects to your server
//		f.Fuzz(func(t *testing.T, b []byte) { s.Play(t, b) })
//	}
//
// Here a CGI message is bytes as well: a request is each "NAME=value" of the environment followed
// by a NUL, one more NUL, and standard input; a response is standard output.
//
// README.md, beside this file, has a workflow for GitHub Actions and lists what the harness finds
// in net/http/fcgi.
package fuzz

import (
	"bytes"
	"iter"

	"github.com/gatehouse-go/gatehouse/internal/vectors"
)

// Protocol is "cgi", "fastcgi", "scgi" or "uwsgi".
type Protocol string

const (
	CGI     Protocol = "cgi"
	FastCGI Protocol = "fastcgi"
	SCGI    Protocol = "scgi"
	UWSGI   Protocol = "uwsgi"
)

// Seeds returns messages by their names: from the specifications, from captures of real peers, and
// from findings of this module. A name begins with "request/" or "response/", and ends with ".bad"
// if a receiver must refuse the message. The caller may change the bytes. An unknown protocol has
// no seeds.
func Seeds(p Protocol) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		all, err := vectors.All(string(p))
		if err != nil {
			panic(err) // the files are embedded, and a test reads all of them
		}
		for _, v := range all {
			if !yield(seedName(v), bytes.Clone(v.Bytes)) {
				return
			}
		}
	}
}

func seedName(v vectors.Vector) string {
	name := v.Side + "/" + v.Name
	switch v.Expect {
	case "malformed", "param", "too large":
		name += ".bad"
	}
	return name
}
