// Command router is the front end of a uWSGI cluster. Nodes subscribe to it with signed packets,
// and a request goes to one of the nodes of its host.
//
//	router HTTP-ADDRESS SUBSCRIPTION-ADDRESS PUBLIC-KEY-FILE
package main

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/gateway/gatewayhttp"
	"github.com/gatehouse-go/gatehouse/uwsgi"
)

// tolerance is how long a node is kept that is silent, and how old a packet may be.
const tolerance = 17 * time.Second

func main() {
	r := &router{key: publicKey(os.Args[3]), hosts: make(map[string]*host)}
	conn, err := net.ListenPacket("udp", os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	go r.listen(conn)
	log.Fatal(http.ListenAndServe(os.Args[1], r))
}

func publicKey(file string) *rsa.PublicKey {
	text, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		log.Fatal(err)
	}
	return key.(*rsa.PublicKey)
}

type router struct {
	key   *rsa.PublicKey
	mu    sync.Mutex
	hosts map[string]*host
}

// A host is a site with its nodes.
type host struct {
	gateway.Balancer
	nodes map[string]*node // by address
}

type node struct {
	client *uwsgi.Client
	seen   time.Time
}

func (r *router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	h := r.hosts[req.Host]
	r.mu.Unlock()
	if h == nil {
		http.Error(w, "no such site", http.StatusMisdirectedRequest)
		return
	}
	(&gatewayhttp.Proxy{Backend: h}).ServeHTTP(w, req)
}

// listen receives the packets of the nodes.
func (r *router) listen(conn net.PacketConn) {
	b := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFrom(b)
		if err != nil {
			log.Fatal(err)
		}
		if err := r.receive(b[:n]); err != nil {
			log.Printf("subscription from %v: %v", from, err)
		}
	}
}

func (r *router) receive(packet []byte) error {
	var s uwsgi.Subscription
	if n, err := uwsgi.ConsumeSubscription(packet, &s); err != nil || n != len(packet) {
		return errors.Join(err, errors.New("not one packet"))
	}
	sum := sha1.Sum(s.Signed)
	if err := rsa.VerifyPKCS1v15(r.key, crypto.SHA1, sum[:], s.Signature); err != nil {
		return err
	}
	if age := time.Since(time.Unix(s.Unix, 0)); age.Abs() > tolerance {
		return errors.New("an old packet")
	}
	r.update(&s)
	return nil
}

// update adds or removes a node.
func (r *router) update(s *uwsgi.Subscription) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.hosts[s.Key]
	if h == nil {
		h = &host{nodes: make(map[string]*node)}
		r.hosts[s.Key] = h
	}
	if h.nodes[s.Address] == nil {
		h.nodes[s.Address] = &node{client: &uwsgi.Client{Addr: s.Address}}
	}
	h.nodes[s.Address].seen = time.Now()
	if s.Unsubscribe {
		delete(h.nodes, s.Address)
	}
	var targets []gateway.Target
	for addr, n := range h.nodes {
		if time.Since(n.seen) > tolerance {
			delete(h.nodes, addr)
			continue
		}
		targets = append(targets, gateway.Target{Name: addr, Backend: n.client})
	}
	h.SetTargets(targets...)
}
