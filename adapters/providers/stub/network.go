package stub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
)

// Network connects servers and providers within the process, by pipes instead of
// sockets, and therefore also with the fake clock of testing/synctest.
type Network struct {
	mu        sync.Mutex
	servers   int
	listeners map[string]*pipeListener
}

// NewNetwork returns a network without servers.
func NewNetwork() *Network { return &Network{listeners: map[string]*pipeListener{}} }

// Start is Start for a server on this network.
func (n *Network) Start(script Script) (*Server, error) {
	n.mu.Lock()
	n.servers++
	s := newServer(fmt.Sprintf("provider-%d.test:80", n.servers), script)
	n.mu.Unlock()
	s.listen = n.listen
	return s, s.Resume()
}

// Wrap is a provider's Config.Wrap: its connections are made on this network.
func (n *Network) Wrap(next http.RoundTripper) http.RoundTripper {
	t := next.(*http.Transport).Clone()
	t.DialContext = n.dial
	return t
}

func (n *Network) listen(addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[addr] != nil {
		return nil, errors.New("address already in use")
	}
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{}), addr: pipeAddr(addr)}
	l.close = sync.OnceFunc(func() {
		close(l.closed)
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.listeners, addr)
	})
	n.listeners[addr] = l
	return l, nil
}

func (n *Network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[addr]
	n.mu.Unlock()
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: "pipe", Addr: pipeAddr(addr), Err: errors.New("connection refused")}
	}
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Net: "pipe", Addr: pipeAddr(addr), Err: errors.New("connection refused")}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
	addr   pipeAddr
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.close(); return nil }
func (l *pipeListener) Addr() net.Addr { return l.addr }

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }
