package testworld

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Relay passes TCP connections on to a server. It can drop what is sent through it, as a
// network does that loses every packet: connections stay open, and nothing arrives. It
// can also be slow.
type Relay struct {
	Addr string

	mu       sync.Mutex
	dropping bool
	delay    time.Duration
	conns    []net.Conn
}

// StartRelay starts a relay to the server at target. It ends with the test.
func StartRelay(t testing.TB, target string) *Relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{Addr: l.Addr().String()}
	t.Cleanup(func() { l.Close(); r.Drop(false) })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go r.relay(conn, target)
		}
	}()
	return r
}

// Drop begins to lose everything, or ends that. Connections from before are closed at
// the end: what they have lost is missing.
func (r *Relay) Drop(begin bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dropping = begin; begin {
		return
	}
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}

// Delay sets how long each piece of a connection takes, in either direction.
func (r *Relay) Delay(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delay = d
}

func (r *Relay) relay(client net.Conn, target string) {
	server, err := net.Dial("tcp", target)
	if err != nil {
		client.Close()
		return
	}
	r.mu.Lock()
	r.conns = append(r.conns, client, server)
	r.mu.Unlock()
	go r.pass(client, server)
	r.pass(server, client)
}

// pass copies from one connection to the other until either ends.
func (r *Relay) pass(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		r.mu.Lock()
		dropping, delay := r.dropping, r.delay
		r.mu.Unlock()
		time.Sleep(delay)
		if dropping && err == nil {
			continue
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
