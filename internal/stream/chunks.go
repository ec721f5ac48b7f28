package stream

import (
	"bytes"
	"fmt"
	"io"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/grammar"
)

// maxChunkLine limits the line that begins a chunk, in bytes, with its extensions.
const maxChunkLine = 4 << 10

// unchunk removes the field Transfer-Encoding from the head of n bytes that is buffered, if the
// body has chunks, RFC 9112 section 7.1. It returns the length of the head without it. A response
// has chunks if its status line is that of HTTP/1.1 and final, the field is its only
// Transfer-Encoding and says just "chunked", and there is no Content-Length. In any other the field
// stays, and is an error.
func (a *Response) unchunk(n int) int {
	head := a.in.Buffered()[:n]
	line, rest, _ := bytes.Cut(head, []byte("\n"))
	if version, status, _ := bytes.Cut(line, []byte(" ")); string(version) != "HTTP/1.1" || bytes.HasPrefix(status, []byte("1")) {
		return n
	}
	from, to := 0, 0
	for at := n - len(rest); at < n; {
		line, rest, _ = bytes.Cut(head[at:], []byte("\n"))
		next := n - len(rest)
		name, value, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\r")), []byte(":"))
		switch {
		case grammar.EqualFold(name, "Content-Length"): // rule F59
			return n
		case !grammar.EqualFold(name, "Transfer-Encoding"):
		case to > 0 || !grammar.EqualFold(bytes.Trim(value, " \t"), "chunked"):
			return n
		default:
			from, to = at, next
		}
		at = next
	}
	if to == 0 {
		return n
	}
	a.chunked = true
	copy(head[to-from:to], head[:from])
	a.in.Discard(to - from)
	return n - (to - from)
}

// nextChunk reads the line that begins the next chunk, if the body has chunks and the last one is
// used up. It sets left, or err at the end of the body.
func (a *Response) nextChunk() {
	for a.chunked && a.left <= 0 && a.err == nil {
		size, n, err := chunkLine(a.in.Buffered(), a.left < 0)
		switch {
		case err != nil:
			a.err = err
		case n == 0:
			a.fillChunk()
		case size > 0:
			a.in.Discard(n)
			a.left = size
		default:
			a.in.Discard(n)
			a.endChunks()
		}
	}
}

// fillChunk reads on. The end of the input is a truncation, unless the response has no body.
func (a *Response) fillChunk() {
	err := a.in.Fill(a.in.Len() + 1)
	switch {
	case err == io.EOF && a.Bare && a.left < 0 && a.in.Len() == 0:
		a.err = io.EOF
	case err != nil:
		a.err = broken(err)
	}
}

// endChunks discards the fields behind the last chunk, at most as many bytes as a head may have.
func (a *Response) endChunks() {
	for start := a.in.Offset(); a.err == nil; {
		line, _, found := bytes.Cut(a.in.Buffered(), []byte("\n"))
		switch {
		case a.in.Offset()-start+int64(len(line)) > DefaultResponseHead:
			a.err = fmt.Errorf("fields behind the last chunk: %w", gateway.ErrTooLarge)
		case !found:
			a.fillChunk()
		case string(line) == "\r":
			a.in.Discard(len(line) + 1)
			a.err = io.EOF
		case !trailer(line):
			a.err = fmt.Errorf("field behind the last chunk: %w", gateway.ErrMalformed)
		default:
			a.in.Discard(len(line) + 1)
		}
	}
}

// trailer reports whether line is a field and CR.
func trailer(line []byte) bool {
	field, ended := bytes.CutSuffix(line, []byte("\r"))
	name, value, found := bytes.Cut(field, []byte(":"))
	return ended && found && grammar.IsToken(name) && grammar.IsFieldValue(value)
}

// chunkReady reports whether the next chunk, or the end of the body, has arrived.
func (a *Response) chunkReady() bool {
	b := a.in.Buffered()
	size, n, err := chunkLine(b, a.left < 0)
	if err != nil || n == 0 {
		return err != nil
	}
	if b = b[n:]; size > 0 {
		return len(b) > 0
	}
	return bytes.HasPrefix(b, []byte("\r\n")) || bytes.Contains(b, []byte("\r\n\r\n"))
}

// chunkLine reads the line that begins a chunk, behind the end of the one before it unless it is
// the first. n is 0 if b does not hold the whole line.
func chunkLine(b []byte, first bool) (size int64, n int, err error) {
	line := b
	if !first {
		if len(b) < 2 {
			return 0, 0, nil
		}
		line = bytes.TrimPrefix(b, []byte("\r\n"))
	}
	i := bytes.IndexByte(line, '\n')
	if i < 0 && len(line) <= maxChunkLine {
		return 0, 0, nil
	}
	size, ok := chunkSize(bytes.TrimSuffix(line[:max(i, 0)], []byte("\r")))
	if !ok || i > maxChunkLine || line[i-1] != '\r' || !first && len(line) == len(b) {
		return 0, 0, fmt.Errorf("chunk: %w", gateway.ErrMalformed)
	}
	return size, len(b) - len(line) + i + 1, nil
}

// chunkSize reads hexadecimal digits, up to an extension.
func chunkSize(line []byte) (size int64, ok bool) {
	digits, extension, _ := bytes.Cut(bytes.TrimRight(line, " \t"), []byte(";"))
	if len(digits) == 0 || len(digits) > 16 || !grammar.IsFieldValue(extension) {
		return 0, false
	}
	for _, c := range digits {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = (c | 0x20) - 'a' + 10
		default:
			return 0, false
		}
		size = size<<4 | int64(c)
	}
	return size, size >= 0
}
