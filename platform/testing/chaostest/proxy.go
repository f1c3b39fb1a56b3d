package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// proxy stands between one instance and one server. It can fall silent both
// ways, cut all connections, and, when it speaks for Postgres, swallow the
// acknowledgement of a commit: the server has committed and the client cannot
// know.
type proxy struct {
	target   string
	postgres bool
	listener net.Listener

	silent    atomic.Bool
	armed     atomic.Int32 // how many acknowledgements are yet to be swallowed
	swallowed atomic.Int32

	mu    sync.Mutex
	links map[*link]bool
}

// link is one connection and its counterpart.
type link struct{ client, server *net.TCPConn }

// reset ends both halves at once, without a farewell.
func (l *link) reset() {
	for _, c := range []*net.TCPConn{l.client, l.server} {
		c.SetLinger(0)
		c.Close()
	}
}

// newProxy listens on a free loopback port.
func newProxy(target string, postgres bool) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{target: target, postgres: postgres, listener: l, links: map[*link]bool{}}
	go p.accept()
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(c.(*net.TCPConn))
	}
}

func (p *proxy) serve(client *net.TCPConn) {
	for p.silent.Load() { // a partition swallows the handshake, too
		time.Sleep(pause)
	}
	s, err := net.DialTimeout("tcp", p.target, time.Second)
	if err != nil {
		client.SetLinger(0)
		client.Close()
		return
	}
	l := &link{client: client, server: s.(*net.TCPConn)}
	p.mu.Lock()
	p.links[l] = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
	}()
	var wg sync.WaitGroup
	wg.Go(func() {
		p.copy(l.server, l.client)
		l.server.CloseWrite()
	})
	if p.postgres {
		p.copyAnswers(l)
	} else {
		p.copy(l.client, l.server)
	}
	l.client.Close()
	l.server.Close()
	wg.Wait()
}

// pause is how often a silent proxy looks whether it may speak again.
const pause = 10 * time.Millisecond

func (p *proxy) copy(to io.Writer, from io.Reader) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		for p.silent.Load() {
			time.Sleep(pause)
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

// copyAnswers copies the server's messages one by one: a type byte, a length
// that counts itself, a body.
func (p *proxy) copyAnswers(l *link) {
	in := bufio.NewReaderSize(l.server, 32<<10)
	var out bytes.Buffer
	held := false // out ends with the completion of a write whose transaction state is yet to come
	for {
		var head [5]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return
		}
		size := int(binary.BigEndian.Uint32(head[1:])) - 4
		out.Write(head[:])
		start := out.Len()
		if _, err := io.CopyN(&out, in, int64(size)); err != nil {
			return
		}
		body := out.Bytes()[start:]
		switch head[0] {
		case 'C':
			held = p.armed.Load() > 0 && writes(body)
		case 'Z':
			if held && body[0] == 'I' && p.armed.Add(-1) >= 0 {
				p.swallowed.Add(1)
				l.reset()
				return
			}
			held = false
		}
		if held || in.Buffered() > 0 && out.Len() < 32<<10 {
			continue
		}
		for p.silent.Load() {
			time.Sleep(pause)
		}
		if _, err := out.WriteTo(l.client); err != nil {
			return
		}
	}
}

// writes reports whether a command tag may be the end of a transaction that
// wrote something.
func writes(tag []byte) bool {
	for _, verb := range []string{"COMMIT", "INSERT", "UPDATE"} {
		if bytes.HasPrefix(tag, []byte(verb)) {
			return true
		}
	}
	return false
}

// cut ends all connections; new ones are welcome.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.reset()
	}
}

func (p *proxy) close() {
	p.silent.Store(false)
	p.listener.Close()
	p.cut()
}
