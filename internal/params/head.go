package params

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/gatehouse-go/gatehouse/internal/pairs"
)

// A Head yields the pairs of a head to be sent, each name once: the params of the request in order,
// CONTENT_LENGTH from the length of its body, and the params that the program configured, which
// win.
type Head struct {
	list, env *pairs.List
	length    int64 // for CONTENT_LENGTH; -1 if there is none, or when it has been yielded
	digits    [20]byte
	next      int // in list, and after it in env
}

var noEnv pairs.List

// NewHead checks list by the rules of a head to be sent. The pairs of env, which may be nil,
// replace those of list that have the same name. CONTENT_LENGTH is length, the length of body, and
// is left out if that is -1 and body is not nil.
func NewHead(list, env *pairs.List, body io.Reader, length int64) (Head, error) {
	repeats, err := Send(list)
	if err != nil {
		return Head{}, err
	}
	if repeats {
		normal := new(pairs.List)
		normal.CopyFrom(list)
		if err := Normalize(normal); err != nil {
			return Head{}, err
		}
		list = normal
	}
	if env == nil {
		env = &noEnv
	}
	if body == nil {
		length = max(length, 0)
	}
	h := Head{list: list, env: env, length: length}
	return h, h.Fits(0)
}

// Fits returns ErrTooLarge if the head would have more than MaxPairs pairs with extra ones.
func (h Head) Fits(extra int) error {
	if h.list.Len()+h.env.Len()+1+extra <= MaxPairs {
		return nil
	}
	n := extra
	for _, _, ok := h.Next(); ok; _, _, ok = h.Next() { // h is a copy
		n++
	}
	if n > MaxPairs {
		return fmt.Errorf("more than %d params with CONTENT_LENGTH: %w", MaxPairs, ErrTooLarge)
	}
	return nil
}

// ContentLength returns the value of CONTENT_LENGTH; ok is false if it is not sent. Next then does
// not yield it again.
func (h *Head) ContentLength() (value []byte, ok bool) {
	if h.length < 0 {
		return nil, false
	}
	value = strconv.AppendInt(h.digits[:0], h.length, 10)
	h.length = -1
	return value, true
}

var (
	contentLength    = []byte("CONTENT_LENGTH")
	transferEncoding = []byte("HTTP_TRANSFER_ENCODING") // never true: a body is not chunked here
)

// Next returns the next pair. Both are views, valid until the params change or Next is called
// again.
func (h *Head) Next() (name, value []byte, ok bool) {
	for ; h.next < h.list.Len(); h.next++ {
		name = h.list.Name(h.next)
		if bytes.Equal(name, transferEncoding) || h.env.Len() > 0 && h.env.FindBytes(name) >= 0 { // rule F43
			continue
		}
		if !bytes.Equal(name, contentLength) {
			value = h.list.Value(h.next)
			h.next++
			return name, value, true
		}
		if value, ok := h.ContentLength(); ok {
			h.next++
			return name, value, true
		}
	}
	if value, ok := h.ContentLength(); ok {
		return contentLength, value, true
	}
	if i := h.next - h.list.Len(); i < h.env.Len() {
		h.next++
		return h.env.Name(i), h.env.Value(i), true
	}
	return nil, nil, false
}

// Env makes pairs of strings "NAME=value"; of a repeated name the last counts. The rules of a head
// to be sent hold, and CONTENT_LENGTH is refused: the length of a request's body is known better.
func Env(env []string) (*pairs.List, error) {
	if len(env) == 0 {
		return nil, nil
	}
	l := new(pairs.List)
	for _, e := range env {
		name, value, found := strings.Cut(e, "=")
		if !found || name == "" || name == "CONTENT_LENGTH" {
			return nil, fmt.Errorf("gateway: Env: not NAME=value, or CONTENT_LENGTH: %w", ErrParam)
		}
		l.Set(name, value, false)
	}
	if _, err := Send(l); err != nil {
		return nil, fmt.Errorf("gateway: Env: %w", err)
	}
	return l, nil
}
