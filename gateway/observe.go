package gateway

import "time"

// Exchange is the record of one RoundTrip. A client passes it to Observe when the exchange failed
// or the Body of its response has ended.
type Exchange struct {
	// Addr is the address of the backend.
	Addr string

	// Reused says that the connection had carried a request before.
	Reused bool

	// Wait is the time that the request waited for a free connection, and Dial the time to open a
	// new one. Head is the time from sending the request to the end of the response's head. Total
	// is the time of the whole exchange.
	Wait, Dial, Head, Total time.Duration

	// Sent and Received are the numbers of body bytes of the request and of the response.
	Sent, Received int64

	// Status is the status of the response, 0 if there was none.
	Status int

	// AppStatus is FastCGI's appStatus or the exit status of a CGI program.
	AppStatus uint32

	// Err is the error with which the exchange failed, nil if it did not.
	Err error
}

// Stats holds counters since the first use of a client, and gauges.
type Stats struct {
	// Requests counts the requests, Dialed the connections that were opened or the programs that
	// were started, and Reused the requests on connections that had carried one before.
	Requests, Dialed, Reused uint64

	// Failed counts the exchanges that failed. Refused, Canceled and Truncated count those of them
	// that failed with ErrRefused, context.Canceled and ErrTruncated.
	Failed, Refused, Canceled, Truncated uint64

	// InFlight is the number of exchanges that have begun and not ended, Waiting the number of
	// requests that wait for a connection, and Idle the number of idle connections.
	InFlight, Waiting, Idle int
}

// ServerStats holds the counters of a server since its first use, and its current state. Calls that
// run while it is taken may be counted in one field and not yet in another.
type ServerStats struct {
	// Accepted counts the connections that were accepted.
	Accepted uint64

	// Requests counts the requests that began: their params were complete, or the server responded
	// before they were. Requests less InFlight is the number of calls of Observe.
	Requests uint64

	// Refused counts the requests that the server refused because of MaxRequests or their role, and
	// the connections that Peers does not allow.
	Refused uint64

	// Malformed counts the requests to which the server responded with status 400, 413 or 431, and
	// the connections that it closed because of bytes that are not a message of the protocol.
	Malformed uint64

	// Aborted counts the requests that the web server aborted, or whose connection was lost, before
	// the response ended.
	Aborted uint64

	// Panics counts the handlers that panicked, other than with http.ErrAbortHandler.
	Panics uint64

	// Received and Sent count the body bytes of the requests that were observed and of their
	// responses.
	Received, Sent uint64

	// Open is the number of open connections; Idle is how many of them carry no request.
	Open, Idle int

	// InFlight is the number of requests whose response has not ended.
	InFlight int
}

// ServerExchange is the record of one request and its response, given to Server.Observe.
type ServerExchange struct {
	// Start is when the first byte of the request was read.
	Start time.Time

	// Head is the time from Start until the params were complete, FirstByte until the first byte of
	// the response was passed to the connection, and Total until the response ended. FirstByte is
	// zero if no byte was.
	Head, FirstByte, Total time.Duration

	// Status is the status of the response. It is 0 if no head was sent.
	Status int

	// AppStatus is FastCGI's appStatus.
	AppStatus uint32

	// Received is the number of body bytes that were read from the web server, Sent that of the
	// response.
	Received, Sent int64

	// Reused reports whether the connection had carried a request before.
	Reused bool

	// Hijacked reports whether the handler took over the connection. What was sent after the head
	// of the 101 is not counted.
	Hijacked bool

	// Refused reports whether the server responded itself, without calling the handler.
	Refused bool

	// Err is nil if a complete response was sent and the handler returned nil. Otherwise it wraps
	// the handler's error or ErrPanic, ErrAborted, ErrDisconnected or ErrServerClosed, or the error
	// of a write; if the server refused the request, it wraps ErrParam, ErrTooLarge, ErrMalformed
	// or ErrRefused.
	Err error
}
