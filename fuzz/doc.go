// Package fuzz provides seeds and checks for the tests of other implementations of CGI, FastCGI,
// SCGI and uwsgi. Seeds returns messages for fuzz targets, Decoder compares a decoder with that of
// this module, Server sends bytes to a running server, and Client responds with bytes to a client.
// The implementation under test need not be written in Go.
//
// A CGI message is represented as bytes too. A request is the variables of the environment, each
// "NAME=value" followed by a NUL, one more NUL, and standard input. A response is standard output.
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
