package uwsgi

import "fmt"

// Modifier is the modifier1 of a packet: what the packet is. Other values than those below belong
// to plugins of uWSGI.
type Modifier uint8

const (
	ModifierWSGI         Modifier = 0   // a request; its vars are those of WSGI
	ModifierPSGI         Modifier = 5   // a request for Perl
	ModifierLua          Modifier = 6   // a request for Lua
	ModifierRack         Modifier = 7   // a request for Ruby
	ModifierCGI          Modifier = 9   // a request for the cgi plugin
	ModifierPHP          Modifier = 14  // a request for PHP
	ModifierSpooler      Modifier = 17  // a task for the spooler
	ModifierPing         Modifier = 100 // a ping (modifier2 0) or the response to one (1)
	ModifierSignal       Modifier = 110 // a signal; modifier2 is its number
	ModifierCache        Modifier = 111 // an operation on the cache; modifier2 says which
	ModifierRPC          Modifier = 173 // a remote procedure call
	ModifierSubscription Modifier = 224 // a subscription (modifier2 0) or its end (1)
)

var modifierNames = map[Modifier]string{
	ModifierWSGI: "WSGI", ModifierPSGI: "PSGI", ModifierLua: "Lua", ModifierRack: "Rack", ModifierCGI: "CGI",
	ModifierPHP: "PHP", ModifierSpooler: "spooler", ModifierPing: "ping", ModifierSignal: "signal",
	ModifierCache: "cache", ModifierRPC: "RPC", ModifierSubscription: "subscription",
}

func (m Modifier) String() string {
	if name, ok := modifierNames[m]; ok {
		return name
	}
	return fmt.Sprintf("Modifier(%d)", uint8(m))
}
