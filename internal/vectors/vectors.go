// Package vectors holds messages as real peers send them, as the specifications print them, and as
// they must not be sent. Each is a file: a header of text, an empty line, and the bytes.
//
//	source: where it comes from
//	side:   request or response
//	expect: ok, or the first error: malformed, param, too large, truncated, refused
//	read:   a line for each message that is read before that; see the protocol's test
//
// Tests read them, and fuzz targets begin with them.
package vectors

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

//go:embed cgi fastcgi scgi uwsgi
var files embed.FS

// A Vector is one file.
type Vector struct {
	Name, Source, Side, Expect string
	Read                       []string
	Bytes                      []byte
}

// All returns the vectors of a protocol in the order of their names.
func All(protocol string) ([]Vector, error) {
	names, err := fs.Glob(files, path.Join(protocol, "*.txt"))
	if err != nil {
		return nil, err
	}
	all := make([]Vector, 0, len(names))
	for _, name := range names {
		b, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		v, err := parse(strings.TrimSuffix(path.Base(name), ".txt"), b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, v)
	}
	return all, nil
}

func parse(name string, b []byte) (Vector, error) {
	head, body, found := bytes.Cut(b, []byte("\n\n"))
	if !found {
		return Vector{}, fmt.Errorf("no empty line")
	}
	v := Vector{Name: name, Bytes: body}
	for line := range strings.SplitSeq(string(head), "\n") {
		key, value, _ := strings.Cut(line, ": ")
		switch key {
		case "source":
			v.Source = value
		case "side":
			v.Side = value
		case "expect":
			v.Expect = value
		case "read":
			v.Read = append(v.Read, value)
		default:
			return Vector{}, fmt.Errorf("unknown word %q", key)
		}
	}
	return v, nil
}
