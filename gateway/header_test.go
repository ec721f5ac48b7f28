package gateway_test

import (
	"slices"
	"testing"

	"golang.org/x/net/http/httpguts"

	"github.com/gatehouse-go/gatehouse/gateway"
)

func TestHeader(t *testing.T) {
	var h gateway.Header
	h.Add("Set-Cookie", "a")
	h.AddBytes([]byte("set-cookie"), []byte("b"))
	h.Set("X", "1")
	h.Set("x", "2")
	var cookies []string
	for v := range h.Values("SET-COOKIE") {
		cookies = append(cookies, string(v))
	}
	if !slices.Equal(cookies, []string{"a", "b"}) || h.Get("X") != "2" || h.Len() != 3 {
		t.Errorf("%v %q %d", cookies, h.Get("X"), h.Len())
	}
	h.Set("Set-Cookie", "c")
	h.Del("X")
	var copied gateway.Header
	copied.CopyFrom(&h)
	h.Reset()
	if copied.Len() != 1 || copied.Get("set-cookie") != "c" || h.Len() != 0 {
		t.Error("copy")
	}
	var none *gateway.Header
	if _, ok := none.Lookup("X"); ok || none.Len() != 0 {
		t.Error("nil is not empty")
	}
}

func TestTokens(t *testing.T) {
	for c := range 256 {
		r := &gateway.Response{Status: 200}
		r.Header.Add("X"+string([]byte{byte(c)}), "v")
		_, err := gateway.AppendResponse(nil, r)
		if ok := httpguts.ValidHeaderFieldName("X" + string([]byte{byte(c)})); ok != (err == nil) {
			t.Errorf("name byte %#x: %v", c, err)
		}
		r = &gateway.Response{Status: 200}
		r.Header.Add("X", string([]byte{byte(c)}))
		_, err = gateway.AppendResponse(nil, r)
		if ok := httpguts.ValidHeaderFieldValue(string([]byte{byte(c)})); ok != (err == nil) {
			t.Errorf("value byte %#x: %v", c, err)
		}
	}
}
