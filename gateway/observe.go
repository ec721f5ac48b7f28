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
