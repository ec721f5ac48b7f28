// Package send is the head of a request as all clients and writers send it: the request's params in order, what the
// request's own fields say in the place of params of the same meaning, and what the program configured.
package send

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/hook"
	"github.com/gatehouse-go/gatehouse/internal/pairs"
)

// Head yields the pairs of one head, each name once.
type Head struct {
	list, env *pairs.List
	length    int64 // for CONTENT_LENGTH; -1 for none, or when it has been given
	digits    [20]byte
	next      int // in list, and after it in env
}

var noEnv pairs.List

// New checks r by the rules of a head that is sent. The pairs of env, which may be nil, stand in the place of those of r
// that have the same name. CONTENT_LENGTH follows r.ContentLength: it is left out if that is -1 and there is a body.
func New(r *gateway.Request, env *pairs.List) (Head, error) {
	repeats, err := hook.Send(r)
	if err != nil {
		return Head{}, err
	}
	params := &r.Params
	if repeats {
		params = new(gateway.Params)
		params.CopyFrom(&r.Params)
		if err := hook.Normalize(params); err != nil {
			return Head{}, err
		}
	}
	if env == nil {
		env = &noEnv
	}
	h := Head{list: hook.Params(params), env: env, length: r.ContentLength}
	if r.Body == nil {
		h.length = max(h.length, 0)
	}
	return h, nil
}

// ContentLength is the value of CONTENT_LENGTH; ok is false if it is not sent. Asked for first, Next will not give it.
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
	transferEncoding = []byte("HTTP_TRANSFER_ENCODING") // never true: a body has none here, and who believes it reads chunks
)

// Next is the next pair; views, valid until the params change or Next is called again.
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

// Env makes pairs of "NAME=value" each; the last of a name counts. The rules are those of a request's params, and there is
// no CONTENT_LENGTH among them: a request's own is the one that is true.
func Env(env []string) (*pairs.List, error) {
	if len(env) == 0 {
		return nil, nil
	}
	var r gateway.Request
	for _, e := range env {
		name, value, found := strings.Cut(e, "=")
		if !found || name == "" || name == "CONTENT_LENGTH" {
			return nil, fmt.Errorf("gateway: Env needs NAME=value, and no CONTENT_LENGTH: %w", gateway.ErrParam)
		}
		r.Params.Set(name, value)
	}
	if _, err := hook.Send(&r); err != nil {
		return nil, fmt.Errorf("gateway: Env: %w", err)
	}
	return hook.Params(&r.Params), nil
}
