// Command netfcgi serves net/http/fcgi, the standard library's, on a loopback port, which it
// prints.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
)

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	panic(fcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.URL, len(fcgi.ProcessEnv(r)))
		io.Copy(w, r.Body)
	})))
}
