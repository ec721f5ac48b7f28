package server

import (
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
)

func TestWantsUpgrade(t *testing.T) {
	for _, c := range []struct{ upgrade, connection, want string }{
		{"websocket", "Upgrade", "websocket"},
		{"WebSocket", "keep-alive, upgrade", "WebSocket"},
		{"websocket", "keep-alive", ""},
		{"websocket", "", ""},
		{"h2c", "Upgrade", ""},
		{"websocket, h2c", "Upgrade", ""},
		{"", "Upgrade", ""},
	} {
		var r gateway.Request
		r.Params.Set("HTTP_UPGRADE", c.upgrade)
		r.Params.Set("HTTP_CONNECTION", c.connection)
		if got := wantsUpgrade(&r); got != c.want {
			t.Errorf("Upgrade: %s, Connection: %s: %q, want %q [F31]", c.upgrade, c.connection, got, c.want)
		}
	}
}
