package uwsgi

// The modifiers that the protocol names: modifier1, which says what a packet is. Where only uWSGI itself knows what to do
// with one, its plugin is named.
const (
	ModifierWSGI         = 0   // a request; its vars are those of WSGI
	ModifierPSGI         = 5   // a request for Perl
	ModifierLua          = 6   // a request for Lua (WSAPI)
	ModifierRack         = 7   // a request for Ruby
	ModifierJVM          = 8   // a request for Java (JWSGI, Ring)
	ModifierCGI          = 9   // a request for the cgi plugin
	ModifierManagement   = 10  // reserved
	ModifierGCCGO        = 11  // a request for gccgo
	ModifierPHP          = 14  // a request for PHP
	ModifierMono         = 15  // a request for ASP.NET
	ModifierSpooler      = 17  // a task for the spooler
	ModifierSymcall      = 18  // a call of a C function
	ModifierSSI          = 19  // a request for server-side includes
	ModifierEval         = 22  // code to run
	ModifierXSLT         = 23  // a request for the xslt plugin
	ModifierV8           = 24  // a request for JavaScript
	ModifierGridFS       = 25  // a request for the gridfs plugin
	ModifierGlusterFS    = 26  // a request for the glusterfs plugin
	ModifierFastFunc     = 27  // a call of a FastFuncs function
	ModifierRados        = 28  // a request for the rados plugin
	ModifierWSGIScript   = 30  // a request whose PATH_INFO begins with its SCRIPT_NAME; uWSGI 2.0.21 does not cut it off
	ModifierMessage      = 31  // a message
	ModifierArray        = 32  // an array of items
	ModifierMarshal      = 33  // a marshalled object
	ModifierWebDAV       = 35  // a request for the webdav plugin
	ModifierSNMP         = 48  // an SNMP packet
	ModifierRawHTTP      = 72  // "H": the beginning of an HTTP response
	ModifierAnnounce     = 73  // an announcement of a node
	ModifierMulticast    = 74  // a multicast message
	ModifierClusterNode  = 95  // an addition or removal of a node
	ModifierRemoteLog    = 96  // a line for the log
	ModifierReload       = 98  // a graceful reload
	ModifierBrutalReload = 97  // a reload that waits for nobody
	ModifierConfig       = 99  // a request for a configuration
	ModifierPing         = 100 // a ping (modifier2 0) or its answer (1)
	ModifierEcho         = 101 // data to be sent back
	ModifierLegion       = 109 // a message of a legion
	ModifierSignal       = 110 // a signal; modifier2 is its number
	ModifierCache        = 111 // an operation on the cache; modifier2 says which
	ModifierCorerouter   = 123 // a signal of a router
	ModifierRPC          = 173 // a remote procedure call
	ModifierClose        = 200 // a mark that closes a persistent connection
	ModifierSubscription = 224 // a subscription (modifier2 0) or its end (1)
	ModifierExample      = 250 // examples
	ModifierResponse     = 255 // a generic answer
)
