package httpapi

import (
	"net"
	"runtime/debug"
	"sync"
	"syscall"
)

// rawSocket is the socket below a connection, or nil.
func rawSocket(conn net.Conn) syscall.RawConn {
	for {
		switch c := conn.(type) {
		case syscall.Conn:
			raw, err := c.SyscallConn()
			if err != nil {
				return nil
			}
			return raw
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return nil
		}
	}
}

// awaitClose calls gone, once, when the client has closed a connection. What it
// sends is not read as a request: it was told that the connection will be closed.
func awaitClose(conn net.Conn, gone func()) {
	var b [1]byte
	for {
		if _, err := conn.Read(b[:]); err != nil {
			gone()
			return
		}
	}
}

// manyStreams is from how many detached streams on their end is worth a
// collection of garbage.
const manyStreams = 1000

// streamCount counts detached streams.
type streamCount struct {
	mu      sync.Mutex
	n, peak int
	none    chan struct{} // closed when there are none; nil: nobody waits
}

func (c *streamCount) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func (c *streamCount) add() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	c.peak = max(c.peak, c.n)
}

// done counts the end of a stream. When most of many have ended, their memory is
// given back: without requests there would be no collection for minutes.
func (c *streamCount) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n--
	if c.n == 0 && c.none != nil {
		close(c.none)
		c.none = nil
	}
	if c.peak >= manyStreams && c.n <= c.peak/8 {
		c.peak = c.n
		go debug.FreeOSMemory()
	}
}

// wait returns a channel that is closed when there are no streams.
func (c *streamCount) wait() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.none == nil {
		c.none = make(chan struct{})
	}
	none := c.none
	if c.n == 0 {
		close(none)
		c.none = nil
	}
	return none
}
