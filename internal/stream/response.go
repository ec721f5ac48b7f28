// Package stream has the streams that the protocols share: buffers for input and output, raw
// bodies, responses, and the lines of STDERR.
package stream

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/grammar"
)

const (
	// DefaultResponseHead limits the head of a response in bytes, if no limit is set.
	DefaultResponseHead = 64 << 10

	maxInterim = 16 // 1xx responses before the final one
)

// ErrClosed is returned by the Body of a response after Close.
var ErrClosed = errors.New("gateway: read after Close")

// A Response is a response that is being read: a head, and a body up to the length that the head
// promises, or to the end of the input. It must be Reset before its first use.
type Response struct {
	Interim func(status int, h *gateway.Header) error // receives 1xx responses; nil means that they are dropped
	Upgrade string                                    // the token of the request; "" makes a 101 an error
	Line    StatusLine                                // whether the head may, must or must not begin with a status line
	Bare    bool                                      // the body may be shorter than its length, as to HEAD
	Chunks  bool                                      // the body of a response of HTTP/1.1 may have chunks

	in      *Input
	bad     error // why what is buffered is no head, or only a part of one; nil if it is not that
	seen    bool  // a head, possibly an interim one, has arrived
	chunked bool  // the body has chunks
	left    int64 // of the body, or of the chunk; -1 means to the end of the input, or that no chunk was read
	err     error // what Read returns from now on
}

// StatusLine says how a head begins.
type StatusLine uint8

const (
	LineOptional StatusLine = iota
	LineRequired            // as of an NPH script
	LineRefused             // as of any other script
)

// Reset makes a ready for a response from in.
func (a *Response) Reset(in *Input) { *a = Response{in: in} }

// ReadHead reads the head of the response into res, and skips interim responses. io.EOF means that
// the input ended before it, gateway.ErrTruncated inside it. gateway.ErrTooLarge means that it has
// more than limit bytes (DefaultResponseHead if that is not set), and gateway.ErrMalformed that it
// is not a head, or a 101 that was not asked for.
func (a *Response) ReadHead(res *gateway.Response, limit int) error {
	limit = Limit(limit, DefaultResponseHead)
	for range maxInterim + 1 {
		if err := a.oneHead(res, limit); err != nil {
			a.bad = cmp.Or(a.bad, err)
			return err
		}
		switch {
		case res.Status == 101:
			return a.switched(res)
		case res.Status >= 200: // rule F30
			a.left = res.ContentLength
			return nil
		case a.Interim != nil:
			if err := a.Interim(res.Status, &res.Header); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("more than %d interim responses: %w", maxInterim, gateway.ErrMalformed)
}

// switched checks that a 101 is the one that was asked for (F31).
func (a *Response) switched(res *gateway.Response) error {
	token, _ := res.Header.Lookup("Upgrade")
	if a.Upgrade == "" || !grammar.EqualFold(token, a.Upgrade) { // rule F31
		return fmt.Errorf("status 101 that was not asked for: %w", gateway.ErrMalformed)
	}
	a.left = -1
	res.ContentLength = -1
	return nil
}

// oneHead reads one head. No byte is looked at twice, however the head arrives.
func (a *Response) oneHead(res *gateway.Response, limit int) error {
	var end grammar.HeadEnd
	for {
		n := end.Find(a.in.Buffered())
		if n > limit || n == 0 && a.in.Len() > limit { // rule F17
			return fmt.Errorf("response head over %d bytes: %w", limit, gateway.ErrTooLarge)
		}
		if n > 0 && !a.beginsWell() {
			return fmt.Errorf("response head begins with a status line, or lacks one that is required: %w", gateway.ErrMalformed)
		}
		if n > 0 {
			a.seen = true
			if a.Chunks {
				n = a.unchunk(n)
			}
			if _, err := gateway.ConsumeResponse(a.in.Buffered()[:n], res); err != nil {
				return err // what arrived stays, for Misprint
			}
			a.in.Discard(n)
			return nil
		}
		if err := a.in.Fill(a.in.Len() + 1); err != nil {
			if err == io.EOF && a.in.Len() == 0 && !a.seen {
				return io.EOF
			}
			a.bad = err
			return broken(err)
		}
	}
}

// Misprint returns the first line that is neither a field nor a status line, where ReadHead found
// no head that it could read, or nil. Of a field whose value is invalid it returns the name. It is
// a view.
func (a *Response) Misprint() []byte {
	if a.bad == nil {
		return nil
	}
	for rest, first := a.in.Buffered(), true; ; first = false {
		line, more, whole := bytes.Cut(rest, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) == 0 || !whole && a.bad != io.EOF {
			return nil // the end of the head, or of what has arrived of it
		}
		name, value, found := bytes.Cut(line, []byte(":"))
		status := first && bytes.HasPrefix(line, []byte("HTTP/"))
		switch {
		case status && !a.beginsWell(), !status && (!found || !grammar.IsToken(name)):
			return line
		case !status && !grammar.IsFieldValue(value):
			return name
		}
		rest = more
	}
}

func (a *Response) beginsWell() bool {
	line := bytes.HasPrefix(a.in.Buffered(), []byte("HTTP/"))
	return a.Line == LineOptional || line == (a.Line == LineRequired)
}

// broken returns the error for err if a response is not complete: the end of the input is a
// truncation, and so is a reset, or the end of TLS inside a record.
func broken(err error) error {
	switch {
	case err == io.EOF:
		return gateway.ErrTruncated
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w (%w)", gateway.ErrTruncated, err)
	}
	return err
}

// Read reads the body. Bytes after a promised length are not read.
func (a *Response) Read(p []byte) (int, error) {
	if len(p) > 0 {
		a.nextChunk()
	}
	switch {
	case a.err != nil:
		return 0, a.err
	case len(p) == 0 && (a.chunked || a.left != 0):
		return 0, nil
	case a.left == 0:
		a.err = io.EOF
		return 0, io.EOF
	case a.left > 0:
		p = p[:min(int64(len(p)), a.left)]
	}
	n, err := a.in.Read(p)
	a.Bare = a.Bare && n == 0
	if a.left > 0 {
		a.left -= int64(n)
	}
	if err != nil {
		a.fail(err)
		err = a.err
	} else if a.left == 0 && !a.chunked {
		a.err, err = io.EOF, io.EOF // with the last bytes, so that the caller can send both together
	}
	return n, err
}

// fail settles what Read returns from now on.
func (a *Response) fail(err error) {
	switch {
	case err == io.EOF && a.chunked:
		a.err = broken(err)
	case err == io.EOF && (a.left < 0 || a.Bare):
		a.err = io.EOF
	case err == io.EOF:
		a.err = fmt.Errorf("body shorter than Content-Length: %w", gateway.ErrTruncated)
	default:
		a.err = broken(err)
	}
}

// Ready reports whether Read can return without waiting.
func (a *Response) Ready() bool {
	switch {
	case a.err != nil:
		return true
	case a.chunked && a.left <= 0:
		return a.chunkReady()
	}
	return a.left == 0 || a.in.Len() > 0
}

// Discard reads to the end of the response.
func (a *Response) Discard() error {
	for a.nextChunk(); a.err == nil; a.nextChunk() {
		n := a.in.Len()
		if a.left >= 0 {
			n = int(min(int64(n), a.left))
			a.left -= int64(n)
		}
		a.in.Discard(n)
		a.Bare = a.Bare && n == 0
		if a.left == 0 {
			if !a.chunked {
				a.err = io.EOF
			}
		} else if err := a.in.Fill(1); err != nil {
			a.fail(err)
		}
	}
	if a.err == io.EOF {
		return nil
	}
	return a.err
}

// Fail makes err what Read returns from now on.
func (a *Response) Fail(err error) { a.err = err }
