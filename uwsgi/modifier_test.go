package uwsgi_test

import (
	"testing"

	"github.com/gatehouse-go/gatehouse/uwsgi"
)

func TestModifierString(t *testing.T) {
	for m, want := range map[uwsgi.Modifier]string{
		uwsgi.ModifierWSGI: "WSGI", uwsgi.ModifierPSGI: "PSGI", uwsgi.ModifierLua: "Lua", uwsgi.ModifierRack: "Rack",
		uwsgi.ModifierCGI: "CGI", uwsgi.ModifierPHP: "PHP", uwsgi.ModifierSpooler: "spooler", uwsgi.ModifierPing: "ping",
		uwsgi.ModifierSignal: "signal", uwsgi.ModifierCache: "cache", uwsgi.ModifierRPC: "RPC",
		uwsgi.ModifierSubscription: "subscription", 72: "Modifier(72)",
	} {
		if got := m.String(); got != want {
			t.Errorf("%d: %q, want %q", uint8(m), got, want)
		}
	}
}
