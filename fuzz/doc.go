// Package fuzz lets another implementation borrow our seeds and rules: Seeds begin your fuzz targets, Decoder holds your
// decoder against ours, Server plays bytes to your server and Client to your client. None needs your code to know ours.
//
//	func FuzzServer(f *testing.F) {
//		for name, b := range fuzz.Seeds(fuzz.FastCGI) {
//			if strings.HasPrefix(name, "request/") {
//				f.Add(b)
//			}
//		}
//		s := &fuzz.Server{Protocol: fuzz.FastCGI, Dial: dial} // dial: a connection to your server
//		f.Fuzz(func(t *testing.T, b []byte) { s.Play(t, b) })
//	}
//
// A message of CGI is bytes as well, here: of a request, each "NAME=value" of the environment ended by a NUL, one more
// NUL, and then standard input; of an answer, standard output.
//
// README.md, beside this file, has a workflow for GitHub Actions and what the harness finds in net/http/fcgi.
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

// Seeds are named messages: from the specifications, from captures of real peers, and our own findings. A name begins
// with "request/" or "response/", and ends in ".bad" if a receiver must refuse the message. The bytes are yours. A
// protocol that is none of the constants has no seeds.
func Seeds(p Protocol) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		all, err := vectors.All(string(p))
		if err != nil {
			panic(err) // the files are part of the program, and a test reads them all
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
