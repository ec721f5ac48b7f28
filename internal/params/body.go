package params

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// NoBody is the type of gateway.NoBody.
type NoBody struct{}

func (NoBody) Read([]byte) (int, error)         { return 0, io.EOF }
func (NoBody) WriteTo(io.Writer) (int64, error) { return 0, nil }

// Body returns the body of a request to be sent, nil if there is none, and its length, -1 if that
// is unknown. A length of 0 is that of a body in memory, and unknown for any other.
func Body(body io.Reader, length int64) (io.Reader, int64) {
	if body == nil || body == (NoBody{}) {
		return nil, length
	}
	if length != 0 {
		return body, length
	}
	switch b := body.(type) {
	case *bytes.Reader:
		length = int64(b.Len())
	case *bytes.Buffer:
		length = int64(b.Len())
	case *strings.Reader:
		length = int64(b.Len())
	default:
		return body, -1
	}
	if length == 0 {
		return nil, 0
	}
	return body, length
}

// Errors of a body whose length was promised.
var (
	ErrShortBody = fmt.Errorf("gateway: body shorter than its length: %w", io.ErrUnexpectedEOF)
	ErrLongBody  = errors.New("gateway: body longer than its length")
)

// CheckLength compares the length of a body with its promised length, -1 if none was promised.
func CheckLength(have, length int64) error {
	switch {
	case length >= 0 && have < length:
		return ErrShortBody
	case length >= 0 && have > length:
		return ErrLongBody
	}
	return nil
}
